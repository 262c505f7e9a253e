"""Which results a subscription gets, and in what form."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from stream_server.feed.query import FeedQuery
from stream_server.live_streams import LiveStream
from stream_server.protocol.feed_messages import result_type
from stream_server.protocol.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)

__all__ = ["Selection"]

_OF_A_ROLE = (Point, Segment, Gap, Alert)


class Selection:
    """The results a query asks for.

    Args:
        query: what is asked for.
    """

    def __init__(self, query: FeedQuery) -> None:
        self._query = query
        self._streams: set[str] = set()  # with a channel of the roles asked for

    def wants(self, result: Result) -> bool:
        """Whether a result may be needed; cheap, and knows nothing of what came before."""
        query = self._query
        if query.stream_id is not None and result.stream_id != query.stream_id:
            return False
        if isinstance(result, StreamOpened | StreamClosed):
            return True
        if result_type(result) not in query.types:
            return False
        return not (query.roles and isinstance(result, _OF_A_ROLE)) or result.role in query.roles

    def begin(self, streams: Iterable[LiveStream]) -> list[Result]:
        """Take note of the live streams; return what the subscription is told of them."""
        told: list[Result] = []
        for stream in streams:
            chosen = [one for result in _standing(stream) if (one := self.of(result)) is not None]
            if stream.opened.stream_id not in self._query.catches_up_on:
                told += chosen
        return told

    def of(self, result: Result) -> Result | None:
        """Return the result as the subscription gets it; None: it does not.

        Results of a stream have to come in order, from its ``stream_opened`` on.
        """
        if not self.wants(result):
            return None
        query = self._query
        if isinstance(result, StreamOpened) and self._has_role(result):
            self._streams.add(result.stream_id)
        if query.roles and result.stream_id not in self._streams:
            return None
        if isinstance(result, StreamClosed):
            self._streams.discard(result.stream_id)
        if result_type(result) not in query.types:
            return None
        if isinstance(result, Point) and result.frames is not None and not query.frames:
            return structs.replace(result, frames=None)
        return result

    def _has_role(self, opened: StreamOpened) -> bool:
        roles = {channel.role for channel in opened.channels if channel.analysed}
        return not self._query.roles or bool(roles & self._query.roles)


def _standing(stream: LiveStream) -> list[Result]:
    """Return the results that say how a stream stands, in order of ``seq``."""
    results: list[Result] = [stream.opened, *stream.alerts]
    for channel in stream.channels:
        results += [result for result in (channel.point, channel.span) if result is not None]
    return sorted(results, key=lambda result: result.seq)
