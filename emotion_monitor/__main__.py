"""``python -m emotion_monitor`` is the ``emotion-monitor`` command."""

from __future__ import annotations

from emotion_monitor import main

main()
