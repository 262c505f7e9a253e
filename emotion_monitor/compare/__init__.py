"""``emotion-monitor compare``: the granularities held against each other, measured."""

from emotion_monitor.compare.command import compare

__all__ = ["compare"]
