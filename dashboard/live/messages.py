"""Streams as pages see them, and the messages that tell of one as it happens."""

from __future__ import annotations

import msgspec

from dashboard.status import StreamStatus
from stream_server.protocol.results import Result
from stream_server.store import StreamRecord

__all__ = ["LiveResults", "LiveSnapshot", "StreamItem"]


class StreamItem(StreamRecord, frozen=True, kw_only=True):
    """A stream, live or ended, with what lists show of it.

    Attributes:
        live: whether it has not ended.
        share: part of its scored time by label, 0 to 1; empty: nothing was scored.
        alerts: how many were raised.
        open_alerts: how many nobody has acknowledged.
        recorded: channels whose audio is kept.
    """

    live: bool
    share: dict[str, float]
    alerts: int
    open_alerts: int
    recorded: list[int]


class LiveSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """The first message about a stream: begin anew. More results follow, see LiveResults."""

    stream: StreamItem
    results: list[Result]
    status: StreamStatus | None = None


class LiveResults(msgspec.Struct, frozen=True, kw_only=True, tag="results"):
    """Results in order of ``seq``.

    Attributes:
        results: a later segment or gap with the same channel and start replaces an earlier one.
        dropped: results that are missing here: the server keeps none to catch up from.
        status: how the stream is doing, about once a second while it is live.
    """

    results: list[Result]
    dropped: int = 0
    status: StreamStatus | None = None
