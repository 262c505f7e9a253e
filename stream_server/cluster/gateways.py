"""The streams of other servers, as they tell of them on a bus; without sockets and clocks.

::

    server ── Batch, State ──────▶ everybody     results in order; once a second, how it is doing
           ── Named ─────────────▶ everybody     a speaker has a new name, which the database has
           ◀─ Ask, Tell, Object ── one of them   which streams run; what is said of a stream
           ── Streams, Done ─────▶ the one who asked
           ── kept: Alert, Acknowledged ▶ everybody, also those who come later

Every stream runs on one server, which numbers its results. So what comes twice is known by its
number. What is missing is known by the number of the batch: the server is asked for its streams as
they are now, and what comes of it meanwhile waits; so a server that has just started shows all that
runs elsewhere, too. An alert that the bus kept may be ahead of its stream's results, and waits for
them: subscribers take a lower number for something they had. A server that was not heard for
:data:`LOST_AFTER_S` is gone, and its streams end here. What it held of the limits of tokens is
free after :data:`HELD_FOR_S` already, for its clients come to another one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import msgspec
import structlog

from stream_server.streams.live_streams import LiveStream, LiveStreams, last_results
from stream_server.wire.messages import Heartbeat, Told
from stream_server.wire.results import Alert, Result, StreamClosed, StreamOpened

_log = structlog.get_logger(__name__)

STATE_INTERVAL_S = 1.0
LOST_AFTER_S = 6.0
"""Without a word for so long a server is taken for gone."""
ALERT_WAITS_S = 5.0
"""So long a kept alert waits for the results before it: a server's state tells what is missing."""
HELD_FOR_S = 3.0
"""So long after its last word a server's streams count for the limits of their tokens."""
_REMEMBERED = 20_000
_MOST_HELD = 1000


class _Message(msgspec.Struct, frozen=True, tag=True):
    """An object with a ``type``."""


class Batch(_Message, frozen=True, tag=True):
    """Results, in the order they were published.

    Attributes:
        run: tells two runs of a server apart.
        number: of the batch, from 1, without holes.
        traces: which results, by index, come of windows that are traced, and their
            ``traceparent``.
        of_token: as of :class:`State`; None: no stream begins or ends in it.
    """

    server: str
    run: str
    number: int
    results: tuple[Result, ...]
    traces: tuple[tuple[int, str], ...] = ()
    of_token: dict[str, int] | None = None


class State(_Message, frozen=True, tag=True):
    """How a server is doing.

    Attributes:
        number: of the last batch that the bus has of it; 0: none yet.
        heartbeats: of its streams.
        has_left: it has stopped; its last word.
        of_token: its streams with a connection, by the name of their token; None: it is of a
            release that does not tell.
    """

    server: str
    run: str
    number: int
    heartbeats: tuple[Heartbeat, ...] = ()
    has_left: bool = False
    of_token: dict[str, int] | None = None


class Named(_Message, frozen=True, tag=True):
    """Somebody gave a speaker of a stream a name; it is read from the database.

    Who misses it has the name with the next page that is opened.
    """

    server: str
    run: str
    stream_id: str


class Ask(_Message, frozen=True, tag=True):
    """Which streams run?"""


class Tell(_Message, frozen=True, tag=True):
    """Consent or notice of a stream."""

    stream_id: str
    told: Told


class Object(_Message, frozen=True, tag=True):
    """Somebody in a stream objects: it ends and is erased."""

    stream_id: str


class Streams(_Message, frozen=True, tag=True):
    """The streams of a server, with everything it has published up to now.

    Attributes:
        number: of the last batch that the bus had before.
        alerts: the last ones it published, also those that were cleared.
    """

    server: str
    run: str
    number: int
    streams: tuple[LiveStream, ...]
    alerts: tuple[Alert, ...] = ()


class Done(_Message, frozen=True, tag=True):
    """What was told has been done; not, if the stream does not run there."""

    was_found: bool


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody has dealt with an alert. Kept by the bus, in JSON."""

    alert_id: str


Live = Batch | State | Named
Asked = Ask | Tell | Object
encode = msgspec.msgpack.Encoder().encode
decode_live: Callable[[bytes], Live] = msgspec.msgpack.Decoder(Live).decode
decode_asked: Callable[[bytes], Asked] = msgspec.msgpack.Decoder(Asked).decode
decode_streams: Callable[[bytes], Streams] = msgspec.msgpack.Decoder(Streams).decode
decode_done: Callable[[bytes], Done] = msgspec.msgpack.Decoder(Done).decode


@dataclass(slots=True, eq=False)
class _Server:
    run: str
    number: int
    heard_s: float
    last_seqs: dict[str, int] = field(default_factory=dict)  # of its streams
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    # Batches that wait until it has told of its streams; None: there is nothing to be asked.
    held: deque[Batch] | None = None
    # Whether one of its streams is not as it is there, whatever the numbers of batches say.
    has_missed: bool = False
    # Its streams by token, as it last told, and when that was.
    of_token: dict[str, int] = field(default_factory=dict)
    told_s: float = 0.0


class Others:
    """What is known of other servers. Time is in seconds of any clock."""

    def __init__(self, live: LiveStreams, publish: Callable[[Result], None]) -> None:
        self._live = live
        self._publish = publish
        self._servers: dict[str, _Server] = {}
        # Of the last ones only: ids of streams that have ended, and alerts that were published.
        self._closed: OrderedDict[Hashable, None] = OrderedDict()
        self._alerts: OrderedDict[Hashable, None] = OrderedDict()
        # Alerts that the bus kept and that are ahead of their streams, and until when they wait.
        self._early: OrderedDict[Hashable, tuple[Alert, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._servers)

    @property
    def to_ask(self) -> frozenset[str]:
        """Names of servers whose streams are to be asked for, because something was missed."""
        return frozenset(name for name, one in self._servers.items() if one.held is not None)

    def server_of(self, stream_id: str) -> str | None:
        """Return the name of the server that runs a stream; None: none of the others does."""
        having = (name for name, one in self._servers.items() if stream_id in one.last_seqs)
        return next(having, None)

    def heartbeat(self, stream_id: str) -> Heartbeat | None:
        """Return the state of a stream, at most a second old; None: it does not run there."""
        beats = (one.heartbeats.get(stream_id) for one in self._servers.values())
        return next((beat for beat in beats if beat is not None), None)

    def of_token(self, now_s: float) -> dict[str, int]:
        """Return how many streams the other servers hold, by the name of their token."""
        held: Counter[str] = Counter()
        for server in self._servers.values():
            if now_s - server.told_s < HELD_FOR_S:
                held.update(server.of_token)
        return dict(held)

    def connected(self, now_s: float) -> None:
        """Take note that the bus is there again: nobody could be heard meanwhile.

        Args:
            now_s: when those who try to connect once in a while will be back, too.
        """
        for server in self._servers.values():
            server.heard_s = now_s
            self._hold(server)

    def batch(self, batch: Batch, now_s: float) -> None:
        """Publish what is new in a batch."""
        server = self._heard(batch.server, batch.run, now_s)
        _take_share(server, batch.of_token, now_s)
        self._take_in_order(server, batch)

    def _take_in_order(self, server: _Server, batch: Batch) -> None:
        if batch.number > server.number + 1:
            self._hold(server)
        if server.held is not None:
            server.held.append(batch)
        else:
            self._take_batch(server, batch)

    def state(self, state: State, now_s: float) -> None:
        if state.has_left:
            self._end(state.server, "it has stopped")
            return
        server = self._heard(state.server, state.run, now_s)
        _take_share(server, state.of_token, now_s)
        if state.number > server.number:
            self._hold(server)
        server.heartbeats = {one.stream_id: one for one in state.heartbeats}

    def streams(self, told: Streams, now_s: float) -> None:
        """Make up for what was missed of a server, if anything, and go on with what came since."""
        server = self._heard(told.server, told.run, now_s)
        # Where all batches are there, each of their results is shown, not only the last of a kind.
        while server.held and server.held[0].number <= server.number + 1:
            self._take_batch(server, server.held.popleft())
        if server.has_missed or server.number < told.number:
            running = {one.opened.stream_id for one in told.streams}
            for stream_id in [each for each in server.last_seqs if each not in running]:
                self._end_stream(server, stream_id)
            for one in told.streams:
                self._make_up(server, one, told.alerts)
            server.number = max(server.number, told.number)
        held, server.held, server.has_missed = server.held or (), None, False
        for batch in held:
            self._take_in_order(server, batch)

    def kept(self, alert: Alert, now_s: float) -> None:
        key = _key(alert)
        if key in self._alerts or key in self._early:
            return
        last_seqs = (each.last_seqs.get(alert.stream_id, -1) for each in self._servers.values())
        if alert.seq <= max(last_seqs, default=-1) or alert.stream_id in self._closed:
            self._publish_alert(alert)
            return
        self._early[key] = (alert, now_s + ALERT_WAITS_S)
        if len(self._early) > _REMEMBERED:
            self._publish_alert(next(iter(self._early.values()))[0])

    def expire(self, now_s: float) -> None:
        """End the streams of servers that are gone, and the wait of alerts."""
        for name, server in list(self._servers.items()):
            if now_s - server.heard_s > LOST_AFTER_S:
                self._end(name, f"not heard for {LOST_AFTER_S:g} s")
        for alert, until_s in list(self._early.values()):
            if now_s >= until_s:
                self._publish_alert(alert)

    def _heard(self, name: str, run: str, now_s: float) -> _Server:
        server = self._servers.get(name)
        if server is not None and server.run != run:
            self._end(name, "it was started again")
            server = None
        if server is None:
            server = self._servers[name] = _Server(run, 0, now_s)
            # It may have had streams for hours.
            self._hold(server)
            _log.info("server_found", server=name)
        server.heard_s = now_s
        return server

    def _hold(self, server: _Server) -> None:
        if server.held is None:
            # Of more the oldest go, which then are missed, and asked for again.
            server.held = deque(maxlen=_MOST_HELD)

    def _take_batch(self, server: _Server, batch: Batch) -> None:
        server.number = max(server.number, batch.number)
        for result in batch.results:
            self._take(server, result)

    def _take(self, server: _Server, result: Result) -> None:
        stream_id = result.stream_id
        last_seq = server.last_seqs.get(stream_id)
        if last_seq is None:
            if stream_id in self._closed:
                return
            if not isinstance(result, StreamOpened):
                # Its begin was dropped by a mailbox that was full.
                server.has_missed = True
                self._hold(server)
                return
        elif result.seq <= last_seq:
            return
        server.last_seqs[stream_id] = result.seq
        if isinstance(result, Alert):
            self._publish_alert(result)
            return
        self._publish(result)
        if isinstance(result, StreamClosed):
            del server.last_seqs[stream_id]
            server.heartbeats.pop(stream_id, None)
            _remember(self._closed, stream_id)

    def _make_up(self, server: _Server, told: LiveStream, alerts: tuple[Alert, ...]) -> None:
        stream_id = told.opened.stream_id
        if stream_id in self._closed:
            return
        last_seq = server.last_seqs.get(stream_id)
        if last_seq is None:
            last_seq = told.opened.seq
            self._publish(told.opened)
            # What is raised is shown with it, also if that was said before the stream was known.
            for each in told.alerts:
                self._alerts.pop(_key(each), None)
            alerts = ()
        elif told.last_seq <= last_seq:
            return
        server.last_seqs[stream_id] = told.last_seq
        early = (alert for alert, _ in self._early.values())
        mine = (each for each in (*told.alerts, *alerts, *early) if each.stream_id == stream_id)
        results: list[Result] = [
            each
            for each in {_key(each): each for each in mine}.values()
            if each.seq <= told.last_seq
        ]
        results += [] if told.measures is None else [told.measures]
        for channel in told.channels:
            results += [one for one in (channel.point, channel.span) if one is not None]
        new = [one for one in results if one.seq > last_seq]
        for result in sorted(new, key=lambda one: one.seq):
            if isinstance(result, Alert):
                self._publish_alert(result)
            else:
                self._publish(result)
        holding = {one.alert_id for one in told.alerts}
        for known in self._live.snapshot(stream_id):
            for alert in known.alerts:
                if alert.alert_id not in holding:
                    # It was cleared meanwhile; the server's own word may come from the bus later.
                    self._publish_alert(
                        msgspec.structs.replace(alert, state="cleared", seq=told.last_seq)
                    )

    def _publish_alert(self, alert: Alert) -> None:
        key = _key(alert)
        self._early.pop(key, None)
        if key not in self._alerts:
            _remember(self._alerts, key)
            self._publish(alert)

    def _end(self, name: str, why: str) -> None:
        server = self._servers.pop(name, None)
        if server is None:
            return
        _log.info("server_gone", server=name, streams=len(server.last_seqs), why=why)
        for stream_id in sorted(server.last_seqs):
            self._end_stream(server, stream_id)

    def _end_stream(self, server: _Server, stream_id: str) -> None:
        del server.last_seqs[stream_id]
        beat = server.heartbeats.pop(stream_id, None)
        for stream in self._live.snapshot(stream_id):
            # Not remembered as closed: a server that was cut off only shows it again.
            for result in last_results(stream, beat, reason="internal"):
                self._publish(result)


def _take_share(server: _Server, of_token: dict[str, int] | None, now_s: float) -> None:
    if of_token is not None:
        server.of_token, server.told_s = of_token, now_s


def _key(alert: Alert) -> Hashable:
    return (alert.alert_id, alert.state)


def _remember(what: OrderedDict[Hashable, None], key: Hashable) -> None:
    what[key] = None
    if len(what) > _REMEMBERED:
        what.popitem(last=False)
