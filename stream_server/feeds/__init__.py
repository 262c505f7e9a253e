"""Results for other programs: over WebSocket, as server-sent events, and by MQTT.

Here is what any of them may ask for, and which results that selects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import structs
from multidict import MultiMapping

from ser_engine.frames import SAMPLE_RATE_HZ
from stream_server.streams.live_streams import LiveStream
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.feed_messages import RESULT_TYPES, result_type
from stream_server.wire.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)

MAX_AFTER = 256
"""Streams that one subscription can be caught up on."""

PARAMETERS = ("stream", "types", "roles", "from_s", "after", "frames", "states")
_MAX_FROM_S = 1e9
_STREAM_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_ROLE = re.compile(r"[\w.-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedQuery:
    """A subscription.

    Attributes:
        stream_id: the one stream; None: all.
        types: of results, see :data:`~stream_server.wire.feed_messages.RESULT_TYPES`.
        roles: of channels; none: every one.
        from_sample: begin with what is stored of the stream from here on, 16 kHz; None: with now.
        after: begin with what is stored of each of these streams after this ``seq``.
        frames: leave points their frames, where a stream has them.
        states: say in each point how its channel has been for the last half minute of speech.
        last_measures: leave out stored measures that later ones replace. Not of the query.
        teams: of streams; None: all. Not of the query: the subscriber's own.
    """

    stream_id: str | None = None
    types: frozenset[str] = frozenset(RESULT_TYPES)
    roles: frozenset[str] = frozenset()
    from_sample: int | None = None
    after: Mapping[str, int] = field(default_factory=dict)
    frames: bool = False
    states: bool = False
    last_measures: bool = False
    teams: Collection[str] | None = None

    @property
    def catches_up_on(self) -> frozenset[str]:
        """Streams whose stored results come first."""
        if self.from_sample is not None and self.stream_id is not None:
            return frozenset((self.stream_id,))
        return frozenset(self.after)


def parse_query(query: MultiMapping[str], last_event_id: str | None = None) -> FeedQuery:
    """Check a query, and the ``Last-Event-ID`` header that an ``EventSource`` reconnects with.

    Raises:
        ProtocolError: BAD_QUERY.
    """
    for name in query.keys():
        if name not in PARAMETERS:
            raise _bad(f"the parameter '{name[:60]}'", f"some of {', '.join(PARAMETERS)}")
    stream_id = _one(query, "stream")
    if stream_id is not None and not _STREAM_ID.fullmatch(stream_id):
        raise _bad(f"stream '{stream_id[:60]}'", "the id of a stream")
    after = _after(query, last_event_id, stream_id)
    from_sample = _from_sample(query, stream_id)
    return FeedQuery(
        stream_id=stream_id,
        types=_types(query),
        roles=_roles(query),
        # A subscriber that comes back sends its first query again, and has had what is before
        # ``after``.
        from_sample=None if after else from_sample,
        after=after,
        frames=_flag(query, "frames"),
        states=_flag(query, "states"),
    )


def parse_event_id(event_id: str) -> tuple[str, int]:
    """Return stream and ``seq`` of an event's id.

    Raises:
        ProtocolError: BAD_QUERY.
    """
    stream_id, colon, seq = event_id.rpartition(":")
    if not colon or not _STREAM_ID.fullmatch(stream_id) or not re.fullmatch(r"-1|\d{1,12}", seq):
        raise _bad(f"'{event_id[:60]}'", "STREAM:SEQ, the form of an event's id")
    return stream_id, int(seq)


def _after(
    query: MultiMapping[str], last_event_id: str | None, stream_id: str | None
) -> dict[str, int]:
    values = list(query.getall("after", ()))
    if len(values) > MAX_AFTER:
        raise _bad(f"{len(values)} values of 'after'", f"{MAX_AFTER} or fewer")
    if last_event_id:
        values.append(last_event_id)
    positions = dict(parse_event_id(value) for value in values)
    if stream_id is not None and set(positions) - {stream_id}:
        raise _bad("'after' of another stream than 'stream'", "that of the same stream")
    return positions


def _from_sample(query: MultiMapping[str], stream_id: str | None) -> int | None:
    text = _one(query, "from_s")
    if text is None:
        return None
    if stream_id is None:
        raise _bad("from_s without stream", "both: every stream has a clock of its own")
    try:
        from_s = float(text)
    except ValueError:
        from_s = math.nan
    if not 0 <= from_s <= _MAX_FROM_S:
        raise _bad(f"from_s '{text[:60]}'", "seconds from the start of the stream, 0 or more")
    return round(from_s * SAMPLE_RATE_HZ)


def _types(query: MultiMapping[str]) -> frozenset[str]:
    types = _list(query, "types")
    for name in types:
        if name not in RESULT_TYPES:
            raise _bad(f"the type '{name[:60]}'", f"some of {', '.join(RESULT_TYPES)}")
    return types or frozenset(RESULT_TYPES)


def _roles(query: MultiMapping[str]) -> frozenset[str]:
    roles = _list(query, "roles")
    for role in roles:
        if not _ROLE.fullmatch(role):
            raise _bad(f"the role '{role[:60]}'", "names such as customer or driver")
    return roles


def _list(query: MultiMapping[str], name: str) -> frozenset[str]:
    """Return the values of ``name=a,b&name=c``."""
    values = [part.strip() for value in query.getall(name, ()) for part in value.split(",")]
    return frozenset(value for value in values if value)


def _flag(query: MultiMapping[str], name: str) -> bool:
    text = _one(query, name)
    if text not in (None, "true", "false"):
        raise _bad(f"{name} '{text[:60]}'", "true or false")
    return text == "true"


def _one(query: MultiMapping[str], name: str) -> str | None:
    values = query.getall(name, ())
    if len(values) > 1:
        raise _bad(f"'{name}' {len(values)} times", "it once")
    return values[0] if values else None


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_QUERY, f"got {got}; expected {expected}")


_OF_A_ROLE = (Point, Segment, Gap, Alert)


class Selection:
    """The results that a query selects; it knows which streams it is about."""

    def __init__(self, query: FeedQuery) -> None:
        self._query = query
        # Ids of streams of the teams with a channel of the roles: results that belong to no channel
        # (a summary, a mark) are selected by their stream, and only its first one has the team.
        self._streams: set[str] = set()

    def wants(self, result: Result) -> bool:
        """Return whether a result may be selected; the bus's filter, cheap and without state."""
        query = self._query
        if query.stream_id is not None and result.stream_id != query.stream_id:
            return False
        # Of any type and role: of() has to see streams begin and end.
        if isinstance(result, StreamOpened | StreamClosed):
            return True
        if result_type(result) not in query.types:
            return False
        return not (query.roles and isinstance(result, _OF_A_ROLE)) or result.role in query.roles

    def begin(self, streams: Iterable[LiveStream]) -> list[Result]:
        """Note the live streams; return the results of the snapshot that are selected."""
        told: list[Result] = []
        for stream in streams:
            chosen = [one for result in _standing(stream) if (one := self.of(result)) is not None]
            # Of those it is caught up on, the same comes from the store.
            if stream.opened.stream_id not in self._query.catches_up_on:
                told += chosen
        return told

    def of(self, result: Result) -> Result | None:
        """Return the result in the form that was requested; None: it is not selected.

        Results of a stream have to come in order, from its ``stream_opened`` on.
        """
        if not self.wants(result):
            return None
        query = self._query
        if isinstance(result, StreamOpened) and self.is_about(result):
            self._streams.add(result.stream_id)
        if (query.roles or query.teams is not None) and result.stream_id not in self._streams:
            return None
        if isinstance(result, StreamClosed):
            self._streams.discard(result.stream_id)
        if result_type(result) not in query.types:
            return None
        if isinstance(result, Point) and result.frames is not None and not query.frames:
            return structs.replace(result, frames=None)
        return result

    def is_visible(self, opened: StreamOpened) -> bool:
        """Return whether a stream is of the subscriber's teams."""
        return self._query.teams is None or opened.team in self._query.teams

    def is_about(self, opened: StreamOpened) -> bool:
        """Return whether a stream is one of the teams, with a channel of the roles."""
        if not self.is_visible(opened):
            return False
        roles = {channel.role for channel in opened.channels if channel.analysed}
        return not self._query.roles or bool(roles & self._query.roles)


def _standing(stream: LiveStream) -> list[Result]:
    """Return the results that say how a stream stands, in order of ``seq``."""
    results: list[Result] = [stream.opened, *stream.alerts]
    if stream.measures is not None:
        results.append(stream.measures)
    for channel in stream.channels:
        results += [result for result in (channel.point, channel.span) if result is not None]
    return sorted(results, key=lambda result: result.seq)
