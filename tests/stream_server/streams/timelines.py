"""What a timeline says, whatever stream and time it is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stream_server.wire.results import Gap, Point, Segment

__all__ = ["gaps", "points", "tiles", "timeline"]


def timeline(messages: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return points, and final segments and gaps, without what names the stream."""
    return [*points(messages), *tiles(messages)]


def points(messages: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [
        (m.channel, m.start_sample, m.end_sample, m.label, m.posteriors, m.widened)
        for m in messages
        if isinstance(m, Point)
    ]


def tiles(messages: Iterable[Any], channel: int = 0) -> list[tuple[int, int, str | None]]:
    """Return the final segments and gaps of a channel, and hold that they tile the stream."""
    final = [
        m for m in messages if isinstance(m, Segment | Gap) and m.final and m.channel == channel
    ]
    final.sort(key=lambda m: m.start_sample)
    ends = [0, *(m.end_sample for m in final)]
    assert [m.start_sample for m in final] == ends[:-1], "what is final leaves nothing out"
    return [
        (m.start_sample, m.end_sample, m.label if isinstance(m, Segment) else m.reason)
        for m in final
    ]


def gaps(messages: Iterable[Any]) -> dict[str, int]:
    """Return the length of final gaps by reason, in samples."""
    lengths: dict[str, int] = {}
    for m in messages:
        if isinstance(m, Gap) and m.final:
            lengths[m.reason] = lengths.get(m.reason, 0) + m.end_sample - m.start_sample
    return lengths
