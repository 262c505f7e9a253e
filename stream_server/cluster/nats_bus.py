"""Servers that meet at NATS: what runs here is told there, and what runs elsewhere is shown here.

::

    SUBJECT.live.SERVER                 results, states, new names (MessagePack), core NATS
    SUBJECT.ask.SERVER                  questions to one server, with an answer
    SUBJECT.kept.alert.SERVER           alerts, as in the feeds (JSON), kept by JetStream
    SUBJECT.kept.acknowledged.SERVER    acknowledgements of alerts (JSON), kept by JetStream
    SUBJECT.kept.audit.SERVER           entries of the audit (JSON), kept by JetStream; for others

A connection that is lost is not taken up again: another one is made, and everything is set up on it
anew. (A client that reconnects by itself keeps subscriptions but neither streams nor pull requests
of JetStream.) A batch is sent again, with its number, until the server has answered a ping after
it, which it does in order, so it got the batch; who gets it twice knows it by that. While NATS is
away results wait in the subscription's mailbox, which drops points first; what is to be kept waits
in a file (:mod:`.outbox`) until JetStream has confirmed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import structlog

from ser_engine.errors import ConfigError, how_to_install
from stream_server.bus import Bus
from stream_server.cluster import gateways
from stream_server.cluster.gateways import Acknowledged, Others
from stream_server.cluster.outbox import Outbox
from stream_server.config import BusConfig
from stream_server.store.audit import AuditEntry
from stream_server.streams.live_streams import LiveStreams
from stream_server.tracing import add_span, take_traces
from stream_server.wire.errors import Backoff
from stream_server.wire.messages import Heartbeat, Told
from stream_server.wire.results import Alert, Result, StreamClosed, StreamOpened

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

_log = structlog.get_logger(__name__)

# Results that may wait while NATS is away or busy: minutes of hundreds of streams.
_CAPACITY = 65_536
_AT_A_TIME = 256
# NATS refuses messages of more than 1 MiB, if it is not set otherwise.
_LARGEST_BYTES = 900_000
# Of which servers are told that missed something.
_LAST_ALERTS = 200
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 5.0
_CONNECT_TIMEOUT_S = 5.0
_FLUSH_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 3.0
# Ending a stream waits for its last windows; see limits.drain_timeout_s.
_OBJECTED_TIMEOUT_S = 30.0
_ASK_AGAIN_S = 0.5
_LAST_WORDS_S = 5.0
_PING_INTERVAL_S = 3
_KEPT_RETRY_S = 2.0
_FETCH_S = 5.0
_WEEK_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Here:
    """What the bus needs of its server.

    Attributes:
        publish: shows a result of another server here.
        heartbeat: of a stream that runs here.
        tell: takes note of consent or notice of a stream that runs here.
        object: ends and erases a stream that runs here.
        of_token: how many streams each token holds here, by its name.
        held_elsewhere: is given how many it holds on other servers, when that has changed.
        acknowledged: is given the id of an alert that somebody acknowledged elsewhere.
        named: is given the id of a stream that got a name for a speaker elsewhere.
    """

    publish: Callable[[Result], None]
    heartbeat: Callable[[str], Heartbeat | None]
    tell: Callable[[str, Told], bool]
    object: Callable[[str], Awaitable[bool]]
    of_token: Callable[[], dict[str, int]]
    held_elsewhere: Callable[[dict[str, int]], None]
    acknowledged: Callable[[str], None]
    named: Callable[[str], None]


class NatsBus:
    """Tells and listens while it is entered (``async with``), whether or not NATS is there.

    Args:
        here: the server.

    Attributes:
        is_connected: whether NATS is there.

    Raises:
        ConfigError: the package is missing.
        OSError: the outbox cannot be had.
    """

    def __init__(
        self, config: BusConfig, name: str, *, own: Bus, live: LiveStreams, here: Here
    ) -> None:
        try:
            import nats  # noqa: F401
        except ModuleNotFoundError:
            raise ConfigError(
                f"bus.url needs a package that is not installed; {how_to_install('cluster')}"
            ) from None
        self.name = name
        self.others = Others(live, here.publish)
        self.is_connected = False
        self._servers = config.url.split(",")
        self._subject = config.subject
        self._stream = config.subject.replace(".", "_")
        self._here = here
        # A minute's leeway for clocks that differ; an alert of a stream that is over does no harm.
        self._began_at = datetime.now(UTC) - timedelta(seconds=60)
        self._run_id = secrets.token_hex(8)
        self._number = 0
        self._sending: list[bytes] = []  # batches that NATS has not confirmed
        # Shares of tokens on other servers, as told here; None: they are not known.
        self._elsewhere: dict[str, int] | None = {}
        self._last_alerts: deque[Alert] = deque(maxlen=_LAST_ALERTS)
        self._own_live = LiveStreams(own)
        self._subscription = own.subscribe(name="nats", capacity=_CAPACITY)
        self._alerts = own.subscribe(
            name="nats_kept", capacity=_CAPACITY, wants=lambda result: isinstance(result, Alert)
        )
        folder = Path(config.outbox_dir).expanduser()
        self._outbox = Outbox(folder / f"{name}.db", config.max_kept_messages)
        self._has_kept = asyncio.Event()
        self._may_ask = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S)
        self._connection: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._told: set[asyncio.Task[None]] = set()

    @property
    def num_kept(self) -> int:
        """Alerts, acknowledgements and entries of the audit that JetStream does not have yet."""
        return len(self._outbox)

    @property
    def num_kept_dropped(self) -> int:
        """Those that were lost because too many waited."""
        return self._outbox.dropped

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._own_live.run(), name="nats streams"),
            asyncio.create_task(self._keep_alerts(), name="nats alerts"),
            asyncio.create_task(self._stay_connected(), name="nats"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Send what waits, for 5 s at most; the bus of this server's streams is closed."""
        self._has_ended.set()
        self._has_kept.set()
        _, late = await asyncio.wait(self._tasks, timeout=_LAST_WORDS_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._told, return_exceptions=True)
        await asyncio.to_thread(self._outbox.close)

    # -- what the server asks of the others -------------------------------------------------------

    def heartbeat(self, stream_id: str) -> Heartbeat | None:
        """Return the state of a stream elsewhere, at most a second old; None: there is none."""
        return self.others.heartbeat(stream_id)

    def tell(self, stream_id: str, told: Told) -> bool:
        """Have consent or notice noted where a stream runs; False: it runs nowhere."""
        if self.others.server_of(stream_id) is None:
            return False
        self._soon(self._request(stream_id, gateways.Tell(stream_id, told), _ANSWER_TIMEOUT_S))
        return True

    async def object(self, stream_id: str) -> bool:
        """End and erase a stream where it runs; False: it runs nowhere, or cannot be reached."""
        if self.others.server_of(stream_id) is None:
            return False
        done = await self._request(stream_id, gateways.Object(stream_id), _OBJECTED_TIMEOUT_S)
        return done is not None and done.was_found

    def acknowledge(self, alert_id: str) -> None:
        """Tell the others that an alert was acknowledged."""
        payload = msgspec.json.encode(Acknowledged(alert_id=alert_id))
        # Again and again, for a second acknowledgement replaces the first.
        key = f"{alert_id}.acknowledged.{secrets.token_hex(4)}"
        self._soon(self._keep("acknowledged", key, payload))

    def name_speaker(self, stream_id: str) -> None:
        """Tell the others that a speaker of a stream has a new name, if NATS is there."""
        if (connection := self._connection) is not None:
            named = gateways.encode(gateways.Named(self.name, self._run_id, stream_id))
            self._soon(self._publish(connection, named))

    def audit(self, entry: AuditEntry) -> None:
        """Have JetStream keep an entry of the audit, for whoever collects those of all servers."""
        key = f"audit.{secrets.token_hex(8)}"
        self._soon(self._keep("audit", key, msgspec.json.encode(entry)))

    async def _request(
        self, stream_id: str, message: gateways.Asked, timeout_s: float
    ) -> gateways.Done | None:
        import nats.errors

        server, connection = self.others.server_of(stream_id), self._connection
        if server is None or connection is None:
            return None
        try:
            answer = await connection.request(
                f"{self._subject}.ask.{server}", gateways.encode(message), timeout=timeout_s
            )
        except (nats.errors.Error, TimeoutError) as error:
            _log.warning("server_does_not_answer", server=server, error=type(error).__name__)
            return None
        return gateways.decode_done(answer.data)

    async def _publish(self, connection: Client, payload: bytes) -> None:
        import nats.errors

        # A connection that has just been lost.
        with contextlib.suppress(nats.errors.Error, OSError):
            await connection.publish(self._live_subject(), payload)

    def _soon(self, telling: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(telling)
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    # -- the connection ---------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        import nats.errors

        while True:
            try:
                if await self._use_connection():
                    return
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if self._backoff.attempts == 0:
                    # Not its text, which may hold the address with a password.
                    _log.warning("bus_away", error=type(error).__name__)
            except Exception:
                # Whatever it was: streams go on, and another connection is made.
                _log.exception("bus_failed")
            self._count_alone()
            await asyncio.sleep(self._backoff.next_s())

    async def _use_connection(self) -> bool:
        """Connect, and tell and listen until the connection is lost; True: all is told.

        Raises:
            nats.errors.Error, OSError, TimeoutError: there is no connection.
        """
        import nats

        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            connection = await nats.connect(
                servers=self._servers,
                name=self.name,
                # Of this module, not of the client: see above.
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                ping_interval=_PING_INTERVAL_S,
                no_echo=True,
                disconnected_cb=on_lost,
                closed_cb=on_lost,
                error_cb=_on_error,
            )
        try:
            await self._listen(connection)
            self._begin(connection)
            return await self._tell(connection, lost)
        finally:
            self.is_connected = False
            self._connection = None
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    await connection.close()

    def _begin(self, connection: Client) -> None:
        self._connection = connection
        self.is_connected = True
        self._backoff.reset()
        # Those that were away as well may be back later, by the longest pause between attempts.
        self.others.connected(asyncio.get_running_loop().time() + _LONGEST_DELAY_S)
        self._elsewhere = {}
        self._look_whom_to_ask()
        _log.info("bus_connected")

    async def _tell(self, connection: Client, lost: asyncio.Event) -> bool:
        telling = asyncio.create_task(self._send_results(connection), name="nats results")
        states = asyncio.create_task(self._send_states(connection), name="nats states")
        tasks: list[asyncio.Task[Any]] = [
            telling,
            asyncio.create_task(lost.wait(), name="nats lost"),
            states,
            asyncio.create_task(self._ask(connection), name="nats questions"),
            asyncio.create_task(self._exchange_kept(connection), name="nats kept"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if not telling.done():
                _log.warning("bus_lost")
                return False
            await self._drain_kept(connection, lost)
            # A state after the last word would have it found again.
            states.cancel()
            await asyncio.wait([states])
            left = gateways.State(self.name, self._run_id, self._confirmed, has_left=True)
            await connection.publish(self._live_subject(), gateways.encode(left))
            await connection.flush(timeout=int(_FLUSH_TIMEOUT_S))
            return True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- out --------------------------------------------------------------------------------------

    def _live_subject(self) -> str:
        return f"{self._subject}.live.{self.name}"

    async def _send_results(self, connection: Client) -> None:
        """Send results until the bus of this server closes."""
        while True:
            if not self._sending:
                results = tuple(await self._subscription.batch(_AT_A_TIME))
                if not results:
                    return
                self._sending = self._encoded(results)
            for payload in self._sending:
                await connection.publish(self._live_subject(), payload)
            # Answered in order: the server has them when this returns.
            await connection.flush(timeout=int(_FLUSH_TIMEOUT_S))
            self._sending = []

    @property
    def _confirmed(self) -> int:
        """The number of the last batch that NATS has."""
        return self._number - len(self._sending)

    def _encoded(self, results: tuple[Result, ...]) -> list[bytes]:
        number = self._number + 1
        traces = take_traces(results)
        # At once, for the limits of other servers depend on it; the rest is told by the second.
        is_change = any(isinstance(one, StreamOpened | StreamClosed) for one in results)
        of_token = self._here.of_token() if is_change else None
        payload = gateways.encode(
            gateways.Batch(self.name, self._run_id, number, results, traces, of_token)
        )
        if len(payload) > _LARGEST_BYTES and len(results) > 1:
            half = len(results) // 2
            return self._encoded(results[:half]) + self._encoded(results[half:])
        self._number = number
        return [payload]

    async def _send_states(self, connection: Client) -> None:
        loop = asyncio.get_running_loop()
        while True:
            beats = (
                self._here.heartbeat(one.opened.stream_id) for one in self._own_live.snapshot()
            )
            state = gateways.State(
                self.name,
                self._run_id,
                self._confirmed,
                tuple(beat for beat in beats if beat is not None),
                of_token=self._here.of_token(),
            )
            await connection.publish(self._live_subject(), gateways.encode(state))
            self.others.expire(loop.time())
            self._tell_elsewhere(loop.time())
            await asyncio.sleep(gateways.STATE_INTERVAL_S)

    # -- in ---------------------------------------------------------------------------------------

    async def _listen(self, connection: Client) -> None:
        await connection.subscribe(f"{self._subject}.live.*", cb=self._on_live)
        await connection.subscribe(f"{self._subject}.ask.{self.name}", cb=self._on_asked)
        await connection.flush(timeout=int(_FLUSH_TIMEOUT_S))

    async def _on_live(self, message: Msg) -> None:
        now_s, now_ns = asyncio.get_running_loop().time(), time.time_ns()
        try:
            told = gateways.decode_live(message.data)
        except msgspec.MsgspecError as error:
            _log.error("bus_message_ignored", reason=str(error))
            return
        if told.server == self.name:
            # NATS does not send back what came over the same connection.
            if told.run != self._run_id:
                _log.error("bus_name_taken", server=self.name)
            return
        if isinstance(told, gateways.Batch):
            self.others.batch(told, now_s)
            for _, parent in told.traces:
                add_span(parent, "shown", now_ns, {"server": self.name})
        elif isinstance(told, gateways.Named):
            self._here.named(told.stream_id)
            return
        else:
            self.others.state(told, now_s)
        self._tell_elsewhere(now_s)
        self._look_whom_to_ask()

    async def _on_asked(self, message: Msg) -> None:
        try:
            asked = gateways.decode_asked(message.data)
        except msgspec.MsgspecError as error:
            _log.error("bus_message_ignored", reason=str(error))
            return
        match asked:
            case gateways.Ask():
                streams = gateways.Streams(
                    self.name,
                    self._run_id,
                    self._confirmed,
                    self._own_live.snapshot(),
                    tuple(self._last_alerts),
                )
                await message.respond(gateways.encode(streams))
            case gateways.Tell(stream_id=stream_id, told=told):
                done = gateways.Done(self._here.tell(stream_id, told))
                await message.respond(gateways.encode(done))
            case gateways.Object(stream_id=stream_id):
                # Which takes a while, and the next question shall not wait for it.
                self._soon(self._object(message, stream_id))

    async def _object(self, message: Msg, stream_id: str) -> None:
        done = gateways.Done(await self._here.object(stream_id))
        await message.respond(gateways.encode(done))

    def _tell_elsewhere(self, now_s: float) -> None:
        of_token = self.others.of_token(now_s)
        if self._elsewhere is not None and of_token != self._elsewhere:
            self._elsewhere = of_token
            self._here.held_elsewhere(of_token)

    def _count_alone(self) -> None:
        # What others held when they were last heard would bar tokens for as long as NATS is away.
        if self._elsewhere is not None:
            self._elsewhere = None
            self._here.held_elsewhere({})
            _log.warning("limits_counted_alone")

    def _look_whom_to_ask(self) -> None:
        if self.others.to_ask:
            self._may_ask.set()

    async def _ask(self, connection: Client) -> None:
        """Ask servers for their streams, those of which something was missed."""
        import nats.errors

        while True:
            await self._may_ask.wait()
            self._may_ask.clear()
            for name in sorted(self.others.to_ask):
                try:
                    answer = await connection.request(
                        f"{self._subject}.ask.{name}",
                        gateways.encode(gateways.Ask()),
                        timeout=_ANSWER_TIMEOUT_S,
                    )
                except (nats.errors.NoRespondersError, TimeoutError):
                    continue  # It is asked again, or is gone.
                now_s = asyncio.get_running_loop().time()
                self.others.streams(gateways.decode_streams(answer.data), now_s)
            if self.others.to_ask:
                await asyncio.sleep(_ASK_AGAIN_S)
                self._look_whom_to_ask()

    # -- what is kept -----------------------------------------------------------------------------

    async def _keep_alerts(self) -> None:
        while alerts := await self._alerts.batch(_AT_A_TIME):
            self._last_alerts.extend(each for each in alerts if isinstance(each, Alert))
            for alert in alerts:
                key = f"{alert.stream_id}.{alert.seq}"
                await self._keep("alert", key, msgspec.json.encode(alert))

    async def _keep(self, kind: str, key: str, payload: bytes) -> None:
        subject = f"{self._subject}.kept.{kind}.{self.name}"
        await asyncio.to_thread(self._outbox.put, subject, key, payload)
        self._has_kept.set()

    async def _exchange_kept(self, connection: Client) -> None:
        """Hand the outbox to JetStream and read what it keeps; again after each failure."""
        import nats.errors
        import nats.js.errors

        was_logged = False
        while True:
            try:
                jetstream = connection.jetstream(timeout=_ANSWER_TIMEOUT_S)
                await self._ensure_stream(jetstream)
                was_logged = False
                sending = asyncio.create_task(self._send_kept(jetstream), name="nats kept out")
                reading = asyncio.create_task(self._read_kept(jetstream), name="nats kept in")
                try:
                    await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
                    for task in (sending, reading):
                        if task.done():
                            task.result()
                finally:
                    sending.cancel()
                    reading.cancel()
                    await asyncio.gather(sending, reading, return_exceptions=True)
            except (nats.errors.Error, TimeoutError) as error:
                if not was_logged:
                    _log.warning("bus_keeps_nothing", error=type(error).__name__)
                    was_logged = True
            await asyncio.sleep(_KEPT_RETRY_S)

    async def _ensure_stream(self, jetstream: JetStreamContext) -> None:
        import nats.js.errors

        try:
            await jetstream.stream_info(self._stream)
        except nats.js.errors.NotFoundError:
            # Who wants other limits makes it before: it is taken as it is.
            await jetstream.add_stream(
                name=self._stream, subjects=[f"{self._subject}.kept.>"], max_age=_WEEK_S
            )

    async def _send_kept(self, jetstream: JetStreamContext) -> None:
        while True:
            self._has_kept.clear()
            while await self._send_oldest(jetstream):
                pass
            await self._has_kept.wait()

    async def _send_oldest(self, jetstream: JetStreamContext) -> bool:
        """Hand over the oldest messages; return whether there were any."""
        waiting = await asyncio.to_thread(self._outbox.oldest, _AT_A_TIME)
        taken: list[int] = []
        try:
            for kept in waiting:
                headers = {"Nats-Msg-Id": kept.key}
                await jetstream.publish(
                    kept.subject, kept.payload, timeout=_ANSWER_TIMEOUT_S, headers=headers
                )
                taken.append(kept.id)
        finally:
            await asyncio.to_thread(self._outbox.remove, taken)
        return bool(waiting)

    async def _drain_kept(self, connection: Client, lost: asyncio.Event) -> None:
        """Wait until all that waits has been taken, or nobody takes it."""
        (_, keeping, *_) = self._tasks
        await asyncio.wait([keeping], timeout=_LAST_WORDS_S)
        if not lost.is_set() and self.num_kept:
            import nats.errors

            with contextlib.suppress(nats.errors.Error, TimeoutError):
                while await self._send_oldest(connection.jetstream(timeout=_ANSWER_TIMEOUT_S)):
                    pass

    async def _read_kept(self, jetstream: JetStreamContext) -> None:
        from nats.js.api import ConsumerConfig, DeliverPolicy

        consumer = await jetstream.pull_subscribe(
            f"{self._subject}.kept.>",
            # Of this server's name, so that it goes on where it was.
            durable=self.name,
            stream=self._stream,
            config=ConsumerConfig(
                # Not only new ones: NATS may have been away since this server began.
                deliver_policy=DeliverPolicy.BY_START_TIME,
                opt_start_time=self._began_at,
                ack_wait=30.0,
                inactive_threshold=_WEEK_S,
            ),
        )
        while True:
            try:
                (message,) = await consumer.fetch(1, timeout=_FETCH_S)
            except TimeoutError:
                continue
            self._take_kept(message)
            await message.ack()

    def _take_kept(self, message: Msg) -> None:
        kind, server = message.subject.removeprefix(f"{self._subject}.kept.").rsplit(".", 1)
        if server == self.name:
            return
        try:
            if kind == "alert":
                alert = msgspec.json.decode(message.data, type=Alert)
                self.others.kept(alert, asyncio.get_running_loop().time())
            elif kind == "acknowledged":
                told = msgspec.json.decode(message.data, type=Acknowledged)
                self._here.acknowledged(told.alert_id)
        except msgspec.MsgspecError as error:
            _log.error("bus_message_ignored", reason=str(error))


async def _on_error(error: Exception) -> None:
    _log.debug("bus_error", error=type(error).__name__)
