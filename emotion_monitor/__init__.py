"""The command line: the composition root, the only place that may import every package."""

from __future__ import annotations

try:
    from emotion_monitor.app import main
except KeyboardInterrupt:  # The imports take long enough for somebody to change their mind.
    raise SystemExit(130) from None

__all__ = ["main"]
