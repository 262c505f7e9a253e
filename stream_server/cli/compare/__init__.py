"""``emotion-monitor compare``: the granularities held against each other, measured."""

from stream_server.cli.compare.command import compare

__all__ = ["compare"]
