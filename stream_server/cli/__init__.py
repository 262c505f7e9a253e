"""The command line: the composition root, the only place that may import every package."""

from __future__ import annotations

from stream_server.cli.app import main

__all__ = ["main"]
