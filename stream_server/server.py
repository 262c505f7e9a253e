"""The whole server, put together: from settings to two open ports, and back.

::

    gateway ─▶ streams ─▶ engines
                 │ results
                 ▼
                bus ─▶ live streams, store, alert actions, feeds, MQTT

What is started last is stopped first: no more audio, then the last results of every stream, then
the subscribers of results, then the engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Self

import structlog
from aiohttp import web

from ser_engine.config import EngineConfig
from ser_engine.errors import ConfigError
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.timeline import make_detector
from stream_server.access import Access
from stream_server.access.tls import tls_of
from stream_server.alerts.actions import AlertActions
from stream_server.alerts.evaluator import Cooldown, check_rules
from stream_server.at_rest import load_keys
from stream_server.bus import Bus
from stream_server.config import ServerConfig
from stream_server.engines.pool import EnginePool
from stream_server.feeds.endpoint import FeedEndpoint
from stream_server.feeds.mqtt import MqttPublisher
from stream_server.feeds.source import FeedSource, History
from stream_server.feeds.vss import VssPublisher
from stream_server.http import below, end_outdated, make_app
from stream_server.http.connections import BoundedSite, HttpConnections
from stream_server.metrics import Metrics
from stream_server.recording import Recordings
from stream_server.rights import Halt, Rights
from stream_server.store import Store, StoreError
from stream_server.streams.handshakes import Descriptors, raise_limit
from stream_server.streams.ingest import Ingest, IngestContext, LocalIngest
from stream_server.streams.listeners import named_port
from stream_server.streams.live_streams import LiveStreams
from stream_server.streams.registry import ResumeTokens
from stream_server.wire.messages import Heartbeat, Told
from stream_server.wire.results import Result, StreamClosed, StreamOpened

if TYPE_CHECKING:
    from stream_server.cluster.nats_bus import NatsBus

_log = structlog.get_logger(__name__)

# How soon a token that was made or revoked by the command line is known here.
_ACCESS_INTERVAL_S = 2.0
# Longest wait for answers in progress when the server stops.
_HTTP_SHUTDOWN_S = 5.0


class Server:
    """Serves while it is entered (``async with``).

    ``serve_more`` adds routes to ``app`` that need a running server, e.g. the dashboard; it is
    called when bus, store and feeds run, before the ports are open.

    Attributes:
        keys: of what is encrypted on the disk; None: nothing is.
        tls: of both ports; None: they have none.
    """

    def __init__(
        self,
        engine_config: EngineConfig,
        config: ServerConfig,
        *,
        engines: EnginePool | None = None,
        serve_more: Callable[[Server, FeedSource], None] | None = None,
        make_ingest: Callable[[IngestContext], Ingest] = LocalIngest,
    ) -> None:
        self.metrics = Metrics()
        self._serve_more = serve_more
        self.bus = Bus()
        # Of streams that run here, which alone are stored and acted on here.
        self.own_bus = Bus() if config.bus.url else self.bus
        self.live_streams = LiveStreams(self.bus)
        self.on_acknowledged_elsewhere: Callable[[str], None] = lambda alert_id: None
        self.on_named_elsewhere: Callable[[str], None] = lambda stream_id: None
        self._others: NatsBus | None = None
        self.store: Store | None = None
        self.engines = engines if engines is not None else self._make_pool(engine_config)
        self._engine_config = engine_config
        self._config = config
        self.metrics.bus_from(lambda: {**self.bus.figures(), **self.own_bus.figures()})
        self.metrics.engines_from(lambda: self.engines.status().engines)
        self.access = Access(config.access, config.listen, config.telephony.public_url)
        self.access.on_guessed = _log_guesses
        self.rights = Rights(config.rights)
        self._erasing: dict[str, asyncio.Task[None]] = {}
        self._cooling: set[asyncio.Task[None]] = set()
        self._mqtt: MqttPublisher | None = None
        self.tls = tls_of(config.listen)
        descriptors = Descriptors(raise_limit())
        self._connections = HttpConnections(
            config.limits.max_http_connections,
            descriptors,
            on_refused=lambda reason: self.metrics.refused(reason, "http"),
        )
        self.app = make_app(
            access=self.access,
            metrics=self.metrics,
            readiness=self._not_ready,
            base_path=config.listen.base_path,
            note=self._note,
            connections=self._connections,
        )
        self.keys = load_keys(config.encryption)
        self.recordings = (
            Recordings(config.recording, keys=self.keys) if config.recording.enabled else None
        )
        if (recordings := self.recordings) is not None:
            self.metrics.recordings_from(
                dropped_s=lambda: samples_to_s(recordings.dropped_samples),
                num_failed=lambda: recordings.num_failed,
            )
        self._resume_tokens = ResumeTokens()
        context = IngestContext(
            config=config,
            engines=self.engines,
            access=self.access,
            metrics=self.metrics,
            publish=self._publish,
            tokens=self._resume_tokens,
            rights=self.rights,
            descriptors=descriptors,
            recordings=self.recordings,
            pass_on=self._pass_on,
            live=self.live_streams,
            tls=self.tls,
        )
        self.ingest: Ingest = make_ingest(context)
        self.metrics.tasks_from(lambda: len(asyncio.all_tasks()))
        self._http: web.AppRunner | None = None
        self._stack = contextlib.AsyncExitStack()

    @property
    def ingest_url(self) -> str:
        """The address for audio."""
        scheme = "ws" if self.tls is None else "wss"
        return f"{scheme}://{_host(self._config.listen.host)}:{self.ingest.port}"

    @property
    def ingest_port(self) -> int:
        """The port for audio."""
        return self.ingest.port

    def port_of(self, listener: str) -> int | None:
        """Return the port of a platform's own listener, by its name; None: it does not listen."""
        return self.ingest.port_of(listener)

    def heartbeat(self, stream_id: str) -> Heartbeat | None:
        """Return the state of a running stream; None if it does not run."""
        beat = self.ingest.heartbeat(stream_id)
        if beat is None and self._others is not None:
            return self._others.heartbeat(stream_id)
        return beat

    @property
    def http_url(self) -> str:
        """The address of the dashboard, feeds, health and metrics."""
        assert self._http is not None, "the server has been entered"
        listen = self._config.listen
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{_host(listen.host)}:{self._http.addresses[0][1]}{listen.base_path}"

    async def __aenter__(self) -> Self:
        """Open both ports, then the engine; streams are refused until that is ready.

        Raises:
            SerEngineError: a setting is wrong, or the model cannot be loaded.
            StoreError: the store cannot be used.
            OSError: a port cannot be opened.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop accepting, send every stream its last results, write them, close."""
        _log.info("server_stopping", streams=len(self.live_streams))
        await self._stack.aclose()
        _log.info("server_stopped")

    async def _start(self) -> None:
        config, stack = self._config, self._stack
        # Its weights are read once: now, not while the first stream waits.
        make_detector(self._engine_config.vad)
        stack.push_async_callback(self.engines.aclose)
        self._run(self.live_streams.run(), "live streams")
        if self.recordings is not None:
            stack.push_async_callback(self.recordings.close)
            self._run(self.recordings.run_expiry(), "expiry", cancel=True)
        if config.store.url:
            await self._open_store()
        await self.refresh_access()
        self._check_door()
        self._run(self._follow_access(), "access", cancel=True)
        if config.feeds.mqtt_url:
            self._mqtt = await stack.enter_async_context(
                MqttPublisher(config.feeds, bus=self.own_bus, metrics=self.metrics)
            )
        if config.feeds.vss_url:
            await stack.enter_async_context(
                VssPublisher(config.feeds, bus=self.own_bus, metrics=self.metrics)
            )
        await stack.enter_async_context(
            AlertActions(
                rules=config.alerts.rules,
                bus=self.own_bus,
                metrics=self.metrics,
                dashboard_url=config.alerts.dashboard_url,
            )
        )
        history = History(self.store) if self.store is not None else None
        source = FeedSource(
            self.bus, self.live_streams, history, mailbox_size=config.feeds.mailbox_size
        )
        FeedEndpoint(source, max_subscribers=config.feeds.max_subscribers).add_to(self.app)
        if self._serve_more is not None:
            self._serve_more(self, source)
        if config.bus.url:
            # After the wall, which must not miss that a stream runs elsewhere.
            self._others = await stack.enter_async_context(self._make_others())
        await self._listen()
        # The stack is undone from its end: closing the bus ends the feeds, so that the HTTP server,
        # which is cleaned up after it, does not wait for them.
        stack.callback(self._close_buses)
        stack.push_async_callback(self._finish_erasing)
        stack.push_async_callback(self.ingest.aclose)
        await self.ingest.start()
        await self.engines.start()
        (engine, *_) = self.engines.status().engines
        check_rules(config.alerts.rules, engine.info.labels.names)

    def _make_pool(self, engine_config: EngineConfig) -> EnginePool:
        return EnginePool(
            config=engine_config, on_step=self.metrics.step, on_model=self.metrics.model
        )

    async def _open_store(self) -> None:
        recordings = self.recordings
        self.store = store = await Store.open(
            self._config.store,
            owner=self._name if self._config.bus.url else "",
            on_deleted=recordings.delete if recordings else None,
        )
        self._stack.push_async_callback(store.close)
        self._resume_tokens.key = store.resume_key
        self.rights.person_key = store.person_key
        if self._config.bus.url:
            # One session for all servers: behind a balancer each request may come to another one.
            self.access.sessions.key = store.session_key
            self.access.sessions.on_ended = store.end_session
        store.decision_retention_s = self._config.rights.decision_retention_days * 86_400
        subscription = self.own_bus.subscribe(
            name="store", capacity=self._config.store.max_pending_results
        )
        self._run(store.run(subscription), "store")
        self._run(store.run_retention(), "retention", cancel=True)
        self._run(store.run_probe(), "store probe", cancel=True)
        writer = store.writer
        writer.on_write = self.metrics.store_write_s.observe
        writer.on_failure = self.metrics.store_errors.inc
        self.metrics.store_from(
            written=lambda: writer.written,
            dropped=lambda: writer.dropped,
            pending=lambda: writer.pending,
        )

    async def refresh_access(self) -> None:
        """Read tokens and people again, and end what those who may no longer ask still hold."""
        if self.store is not None:
            self.access.book.replace(await self.store.credentials())
            self.rights.set_halt(await self.store.halt())
            if self._config.bus.url:
                self.access.sessions.take_ended(await self.store.ended_sessions())
        end_outdated(self.app)
        await self.ingest.end_outdated()

    async def _follow_access(self) -> None:
        while True:
            await asyncio.sleep(_ACCESS_INTERVAL_S)
            try:
                await self.refresh_access()
            except StoreError as error:
                # Those known before are still let in; nobody new is.
                _log.warning("access_not_refreshed", error=str(error))

    def _check_door(self) -> None:
        listen = self._config.listen
        if listen.is_loopback:
            return
        lacks, remedies = [], []
        if not self.access.is_configured:
            lacks.append("a token or a person who may log in")
            remedies.append(
                "tokens or people for those who may connect from elsewhere (`emotion-monitor token"
                " create`, `emotion-monitor user add`)"
            )
        if self.tls is None and not self._config.access.behind_proxy:
            lacks.append("TLS")
            remedies.append(
                "listen.tls_certificate and listen.tls_key (or access.behind_proxy: true where a"
                " proxy in front has TLS and nothing else reaches the server)"
            )
        if lacks:
            raise ConfigError(
                f"got listen.host '{listen.host}' without {' and without '.join(lacks)}, expected a"
                f" loopback address, or {' and '.join(remedies)}"
            )

    @property
    def _name(self) -> str:
        """Of this server among those that share a bus."""
        return self._config.bus.name or re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())

    def _make_others(self) -> NatsBus:
        # Only who has several servers needs it.
        from stream_server.cluster.nats_bus import Here, NatsBus

        here = Here(
            publish=self.bus.publish,
            heartbeat=self.ingest.heartbeat,
            tell=self.ingest.tell,
            object=self._object_here,
            of_token=self.ingest.of_token,
            held_elsewhere=self.ingest.held_elsewhere,
            acknowledged=lambda alert_id: self.on_acknowledged_elsewhere(alert_id),
            named=lambda stream_id: self.on_named_elsewhere(stream_id),
        )
        others = NatsBus(
            self._config.bus, self._name, own=self.own_bus, live=self.live_streams, here=here
        )
        self.metrics.others_from(
            connected=lambda: others.is_connected,
            servers=lambda: len(others.others),
            kept=lambda: others.num_kept,
            dropped=lambda: others.num_kept_dropped,
        )
        return others

    def _close_buses(self) -> None:
        self.own_bus.close()
        self.bus.close()

    async def _listen(self) -> None:
        listen = self._config.listen
        self._http = web.AppRunner(
            below(listen.base_path, self.app),
            access_log=None,
            shutdown_timeout=_HTTP_SHUTDOWN_S,
            handler_cancellation=True,
        )
        self._stack.push_async_callback(self._http.cleanup)
        await self._http.setup()
        with named_port("listen.http_port", listen.host, listen.http_port, "--http-port"):
            site = BoundedSite(
                self._http, listen.host, listen.http_port, self._connections, self.tls
            )
            await site.start()
        self._run(self._connections.run(), "HTTP connections", cancel=True)
        if self.tls is not None:
            self._run(self.tls.follow(), "certificate", cancel=True)

    def _run(self, task: Coroutine[Any, Any, None], name: str, *, cancel: bool = False) -> None:
        """Run a task beside the server; on stopping, wait until it has read all of the bus."""
        running = asyncio.create_task(task, name=name)
        running.add_done_callback(_log_failure)

        async def end() -> None:
            # A subscriber ends when a closed bus has no more results for it; cancelling one would
            # lose the last results. What only sleeps in between is cancelled.
            self._close_buses()
            if cancel:
                running.cancel()
            await asyncio.wait([running])

        self._stack.push_async_callback(end)

    def _publish(self, result: Result) -> None:
        self.metrics.count(result)
        self._pass_on(result)

    def _pass_on(self, result: Result) -> None:
        self.own_bus.publish(result)
        if self.own_bus is not self.bus:
            self.bus.publish(result)
        if isinstance(result, StreamOpened) and result.continues is not None:
            cooling = asyncio.create_task(self._cool(result, result.continues), name="cooling")
            self._cooling.add(cooling)
            cooling.add_done_callback(self._cooling.discard)
        if isinstance(result, StreamClosed) and result.reason == "objected":
            stream_id = result.stream_id
            erasing = asyncio.create_task(self._erase_objected(stream_id), name="erasing")
            self._erasing[stream_id] = erasing
            erasing.add_done_callback(lambda _: self._erasing.pop(stream_id, None))

    async def _cool(self, opened: StreamOpened, former: str) -> None:
        """Let alerts cool down that were cleared in the stream that a new one continues."""
        if self.store is None:
            return
        try:
            cleared = await self.store.cleared_alerts(former)
        except StoreError as error:
            _log.warning("cooldowns_not_known", stream_id=opened.stream_id, error=str(error))
            return
        cooldown_s = {rule.name: rule.cooldown_s for rule in self._config.alerts.rules}
        cooldowns = tuple(
            Cooldown(rule, channel, round((at + lasts_s - opened.opened_at) * SAMPLE_RATE_HZ))
            for (rule, channel), at in cleared.items()
            if (lasts_s := cooldown_s.get(rule)) is not None and at + lasts_s > opened.opened_at
        )
        if cooldowns:
            self.ingest.cool(opened.stream_id, cooldowns)

    async def halt(self, halt: Halt) -> None:
        """Halt all analysis, or let it go on; kept across restarts where there is a store.

        Raises:
            StoreError: it could not be kept; it holds here all the same.
        """
        self.rights.set_halt(halt)
        if self.store is not None:
            await self.store.set_halt(halt)

    def tell(self, stream_id: str, told: Told) -> bool:
        """Take note of consent or notice; return False if the stream does not run."""
        if self.ingest.tell(stream_id, told):
            return True
        return self._others is not None and self._others.tell(stream_id, told)

    async def object(self, stream_id: str) -> bool:
        """End a stream by an objection and erase it; return False if it does not run.

        One that has ended is erased as well.
        """
        if await self._object_here(stream_id):
            return True
        return self._others is not None and await self._others.object(stream_id)

    def acknowledged(self, alert_id: str) -> None:
        """Tell other servers that an alert was acknowledged here."""
        if self._others is not None:
            self._others.acknowledge(alert_id)

    def named(self, stream_id: str) -> None:
        """Tell other servers that a speaker of a stream got a name here."""
        if self._others is not None:
            self._others.name_speaker(stream_id)

    async def _object_here(self, stream_id: str) -> bool:
        if not await self.ingest.object(stream_id):
            return False
        if (erasing := self._erasing.get(stream_id)) is not None:
            await erasing
        return True

    async def erase_stream(self, stream_id: str) -> bool:
        """Erase a stream that has ended: results, recording, what a broker retains.

        Returns:
            Whether there was anything of it.

        Raises:
            StoreError: the database does not answer; it is tried again with the retention.
        """
        found, team = False, ""
        if self.store is not None:
            await self.store.flush()
            if (record := await self.store.stream(stream_id)) is not None:
                team = record.team
            found = await self.store.erase_stream(stream_id)
        if not found and self.recordings is not None:
            # A recording may outlive its row, or there is no store.
            found = await asyncio.to_thread(self.recordings.delete, stream_id) > 0
        if self._mqtt is not None:
            await self._mqtt.forget(stream_id, team)
        return found

    async def _finish_erasing(self) -> None:
        await asyncio.gather(*self._erasing.values(), *self._cooling, return_exceptions=True)

    async def purge(self) -> bool:
        """Leave nothing of what was erased in the files of the database, if that can be."""
        return self.store is None or await self.store.purge()

    async def _erase_objected(self, stream_id: str) -> None:
        try:
            await self.erase_stream(stream_id)
            await self.purge()
        except StoreError as error:
            _log.warning("objected_stream_waits", stream_id=stream_id, error=str(error))

    def _note(self, **fields: str) -> None:
        if self.store is not None:
            entry = self.store.note(**fields)
            if self._others is not None:
                self._others.audit(entry)

    def _not_ready(self) -> Sequence[str]:
        reasons = []
        if not self.engines.is_ready:
            reasons.append("the model is loading, or its engine has failed")
        if self.store is not None and (problem := self.store.problem) is not None:
            reasons.append(f"store: {problem}")
        return reasons


def _log_guesses(address: str, times: int) -> None:
    _log.warning("access_guessed", address=address, times=times)


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log the exception of a background task."""
    # Nothing awaits these tasks before the server stops: without this the failure would be silent.
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task_failed", task=task.get_name(), exc_info=error)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
