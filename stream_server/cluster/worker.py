"""A worker: takes streams in and runs them; what they say goes to the front process.

::

    LocalIngest ──▶ Bus ──▶ subscription (bounded) ──▶ Published ──▶ front
         │ engine: as the settings say, so the engine process by ``zmq://``

A worker without a front is of no use: when the front is gone the worker ends its streams and
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

import structlog

from ser_engine.config import EngineConfig
from ser_engine.timeline import make_detector
from stream_server.access import Access
from stream_server.access.tls import tls_of
from stream_server.bus import Bus, Subscription
from stream_server.cluster import Peer, PeerLostError, messages
from stream_server.config import ServerConfig
from stream_server.engines.pool import EnginePool
from stream_server.metrics import Metrics
from stream_server.rights import Rights
from stream_server.streams.handshakes import Descriptors, raise_limit
from stream_server.streams.ingest import IngestContext, LocalIngest
from stream_server.streams.registry import ResumeTokens
from stream_server.tracing import take_traces
from stream_server.wire.results import Result, StreamClosed, StreamOpened

_log = structlog.get_logger(__name__)

STATUS_INTERVAL_S = 1.0
# Results that may wait for a front that is busy: minutes of hundreds of streams.
_CAPACITY = 65_536
_AT_A_TIME = 512


class FrontLink:
    """A process's connection to the front."""

    def __init__(self, name: str, peer: Peer) -> None:
        self._name = name
        self._peer = peer

    async def join(self) -> None:
        """Connect, and say who this is. Raises PeerLostError: the front is gone."""
        await self._peer.connect()
        await self.send(messages.Joined(self._name, secrets.token_hex(8)))

    async def send(self, message: messages.FromProcess) -> None:
        """Send a message. Raises PeerLostError."""
        await self._peer.send([messages.encode(message)])

    async def receive(self) -> messages.FromFront:
        return messages.from_front((await self._peer.receive())[0])

    async def run_status(self, status: Callable[[], messages.Status]) -> None:
        """Say how this process is doing, until the front is gone."""
        with contextlib.suppress(PeerLostError):
            while True:
                await self.send(status())
                await asyncio.sleep(STATUS_INTERVAL_S)

    def close(self) -> None:
        """End the connection, once what was sent has gone out."""
        self._peer.close()


class Worker:
    """Runs streams until the front says that it is enough, or is gone."""

    def __init__(
        self,
        engine_config: EngineConfig,
        config: ServerConfig,
        link: FrontLink,
        *,
        has_listeners: bool,
    ) -> None:
        # Its weights are read once: now, not while the first stream waits.
        make_detector(engine_config.vad)
        self.metrics = Metrics()
        self.engines = EnginePool(config=engine_config)
        self._config = config
        self._link = link
        self._has_listeners = has_listeners
        self._bus = Bus()
        self._rights = Rights(config.rights)
        self._tls = tls_of(config.listen)
        self._access = Access(config.access, config.listen, config.telephony.public_url)
        self.metrics.bus_from(self._bus.figures)
        self.metrics.tasks_from(lambda: len(asyncio.all_tasks()))
        self.metrics.engines_from(lambda: self.engines.status().engines)

    async def run(self) -> None:
        """Serve until the front lets this process go.

        Raises:
            OSError: a port cannot be opened.
            SerEngineError: there is no engine.
        """
        link = self._link
        try:
            await link.join()
            welcome = await link.receive()
            assert isinstance(welcome, messages.Welcome), "the front's first message"
            await self._serve(welcome)
            # The front may be gone: then nobody has to be told.
            with contextlib.suppress(PeerLostError):
                await link.send(messages.Left())
        except PeerLostError:
            _log.warning("front_lost")
        finally:
            link.close()

    async def _serve(self, welcome: messages.Welcome) -> None:
        take_access(self._access, self._rights, welcome.access)
        tokens = ResumeTokens()
        tokens.key = welcome.resume_key
        context = IngestContext(
            config=self._config,
            engines=self.engines,
            access=self._access,
            metrics=self.metrics,
            publish=self._publish,
            tokens=tokens,
            descriptors=Descriptors(raise_limit()),
            # The front refuses to keep audio with workers: it could not delete what they write.
            recordings=None,
            pass_on=self._bus.publish,
            rights=self._rights,
            tls=self._tls,
        )
        ingest = LocalIngest(context, shares_port=True, has_listeners=self._has_listeners)
        subscription = self._bus.subscribe(name="front", capacity=_CAPACITY)
        forwarding = asyncio.create_task(self._forward(subscription, ingest), name="forwarding")
        serving = [
            asyncio.create_task(self._start(ingest), name="start"),
            asyncio.create_task(
                self._link.run_status(lambda: self._status(ingest, with_figures=True)),
                name="status",
            ),
        ]
        if self._tls is not None:
            serving.append(asyncio.create_task(self._tls.follow(), name="certificate"))
        try:
            await self._obey(ingest, serving[0])
        finally:
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)
            await ingest.aclose()
            # Its reader gets what waits, then the end.
            self._bus.close()
            await asyncio.wait([forwarding])
            with contextlib.suppress(PeerLostError):
                await self._link.send(self._status(ingest, with_figures=True))
            await self.engines.aclose()

    async def _start(self, ingest: LocalIngest) -> None:
        await ingest.start()
        await self._link.send(messages.Listening(ingest.ports()))
        await self.engines.start()

    async def _obey(self, ingest: LocalIngest, starting: asyncio.Task[None]) -> None:
        """Act on the front's messages until it wants no more streams, or is gone.

        Raises:
            OSError, SerEngineError: the start failed.
        """
        while True:
            message = await self._next_message(starting)
            if message is None:
                return
            match message:
                case messages.Access(access=access):
                    take_access(self._access, self._rights, access)
                    await ingest.end_outdated()
                case messages.Elsewhere(held=held):
                    ingest.registry.elsewhere = held
                case messages.Continued(stream_id=stream_id):
                    await ingest.registry.give_up_continued(stream_id)
                case messages.Told(stream_id=stream_id, told=told):
                    ingest.tell(stream_id, told)
                case messages.Cooling(stream_id=stream_id, cooldowns=cooldowns):
                    ingest.cool(stream_id, cooldowns)
                case messages.Objected(stream_id=stream_id):
                    await ingest.object(stream_id)
                case messages.Drain():
                    return
                case messages.Welcome():
                    pass

    async def _next_message(self, starting: asyncio.Task[None]) -> messages.FromFront | None:
        """Return the front's next message; None: it is gone.

        Raises:
            OSError, SerEngineError: the start has failed meanwhile.
        """
        receiving = asyncio.create_task(self._link.receive(), name="front")
        try:
            while not receiving.done():
                waited = {receiving} if starting.done() else {receiving, starting}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if starting.done() and (error := starting.exception()) is not None:
                    raise error
            return receiving.result()
        except PeerLostError:
            _log.warning("front_lost")
            return None
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])

    async def _forward(self, subscription: Subscription, ingest: LocalIngest) -> None:
        with contextlib.suppress(PeerLostError):
            while results := await subscription.batch(_AT_A_TIME):
                # At once: the other workers' limits depend on it. And before the results, with
                # which the front tells other servers what it knows by then.
                if any(isinstance(one, StreamOpened | StreamClosed) for one in results):
                    await self._link.send(self._status(ingest, with_figures=False))
                traces = take_traces(results)
                await self._link.send(messages.Published(tuple(results), traces))

    def _status(self, ingest: LocalIngest, *, with_figures: bool) -> messages.Status:
        registry = ingest.registry
        if not with_figures:
            return messages.Status(registry.held(), None, None)
        heartbeats = tuple(one.runner.state() for one in registry.running())
        return messages.Status(registry.held(), heartbeats, self.metrics.families())

    def _publish(self, result: Result) -> None:
        self.metrics.count(result)
        self._bus.publish(result)


def take_access(access: Access, rights: Rights, state: messages.AccessState) -> None:
    """Let those in whom the front lets in, and analyse what it lets be analysed."""
    access.book.replace(state.credentials)
    access.book.replace_own(state.own)
    access.sessions.key = state.session_key
    access.sessions.ended = dict(state.ended)
    access.sessions.ended_elsewhere = dict(state.ended_elsewhere)
    rights.person_key = state.person_key
    rights.set_halt(state.halt)


def access_state(access: Access, rights: Rights) -> messages.AccessState:
    """Return what the front knows, for its workers."""
    return messages.AccessState(
        credentials=tuple(access.book.stored),
        own=tuple(access.book.own()),
        session_key=access.sessions.key,
        ended=dict(access.sessions.ended),
        ended_elsewhere=dict(access.sessions.ended_elsewhere),
        halt=rights.halt,
        person_key=rights.person_key,
    )
