"""``emotion-monitor embeddings``: how alike recordings are, groups of them, the nearest."""

from emotion_monitor.embeddings.command import app

__all__ = ["app"]
