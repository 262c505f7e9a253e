"""``emotion-monitor embeddings``: how alike recordings are, groups of them, the nearest."""

from stream_server.cli.embeddings.command import app

__all__ = ["app"]
