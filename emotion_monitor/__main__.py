"""``python -m stream_server`` is the ``emotion-monitor`` command."""

from __future__ import annotations

from emotion_monitor import main

main()
