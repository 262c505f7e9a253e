"""Where streams come in: ports for audio, the streams that run, and the engines that score them.

A server of one process has a :class:`LocalIngest`; one of many has workers, each with one of these,
and :class:`stream_server.cluster.front.WorkersIngest` in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stream_server.access import Access
from stream_server.access.tls import Tls
from stream_server.alerts.evaluator import Cooldown
from stream_server.config import ServerConfig
from stream_server.engines import EngineSource
from stream_server.logs import RefusalLog
from stream_server.metrics import Metrics
from stream_server.platforms import make_routes
from stream_server.recording import Recordings
from stream_server.rights import Rights
from stream_server.streams.gateway import Gateway
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.listeners import (
    ListenerContext,
    make_listeners,
    named_port,
    open_listener,
)
from stream_server.streams.live_streams import LiveStreams
from stream_server.streams.registry import Held, ResumeTokens, StreamFactory, StreamRegistry
from stream_server.wire.messages import Heartbeat, Told
from stream_server.wire.results import Result


class Ingest(Protocol):
    """What the rest of the server needs of it."""

    @property
    def port(self) -> int:
        """The port for audio. Known after :meth:`start`."""

    @property
    def roots(self) -> frozenset[str]:
        """The first parts of the paths that audio may come in at."""

    def port_of(self, listener: str) -> int | None:
        """Return the port of a platform's own listener, by its name; None: it does not listen."""

    def heartbeat(self, stream_id: str) -> Heartbeat | None:
        """Return the state of a running stream; None: it does not run."""

    def tell(self, stream_id: str, told: Told) -> bool:
        """Take note of consent or notice; return False if the stream does not run."""
        ...

    def cool(self, stream_id: str, cooldowns: tuple[Cooldown, ...]) -> None:
        """Let alerts cool down in a stream, if it runs, since the one that it continues."""

    async def object(self, stream_id: str) -> bool:
        """End a stream because somebody in it objects; return False if it does not run."""
        ...

    def of_token(self) -> dict[str, int]:
        """Return how many streams with a connection each token holds here, by its name."""
        ...

    def held_elsewhere(self, of_token: dict[str, int]) -> None:
        """Count streams that tokens hold on other servers, too, from now on."""

    async def start(self) -> None:
        """Open the ports. Raises OSError: one cannot be opened."""

    async def end_outdated(self) -> None:
        """End the connections of those whose token has ended; take over who may connect now."""

    async def aclose(self) -> None:
        """Take no more, and end every stream; its last results are published when this returns."""


@dataclass(frozen=True, slots=True)
class IngestContext:
    """What an ingest needs of its server.

    Attributes:
        publish: is given every result of every stream, to be counted and passed on.
        recordings: keeps the audio; None: it is not kept.
        pass_on: is given results that another process has counted.
        live: the streams that run, as the bus tells; None: nobody asks.
        tls: of the port for audio; None: it has none.
    """

    config: ServerConfig
    engines: EngineSource
    access: Access
    metrics: Metrics
    publish: Callable[[Result], None]
    tokens: ResumeTokens
    descriptors: Descriptors
    recordings: Recordings | None
    pass_on: Callable[[Result], None]
    rights: Rights
    live: LiveStreams | None = None
    tls: Tls | None = None


class LocalIngest:
    """An :class:`Ingest` of this process.

    Args:
        shares_port: other processes listen on the port for audio, too.
        has_listeners: whether the platforms that have a port of their own listen here.
    """

    def __init__(
        self, context: IngestContext, *, shares_port: bool = False, has_listeners: bool = True
    ) -> None:
        config, metrics, engines = context.config, context.metrics, context.engines
        self._config = config
        factory = StreamFactory(
            engines=engines,
            config=config,
            metrics=metrics,
            publish=context.publish,
            recordings=context.recordings,
            rights=context.rights,
        )
        refused = RefusalLog(metrics.refused)
        self.registry = StreamRegistry(config.limits, factory, context.tokens)
        context.rights.on_change = self.registry.reconsider
        metrics.waiting_from(lambda: self.registry.num_waiting)
        self._gateway = Gateway(
            registry=self.registry,
            access=context.access,
            config=config,
            is_ready=lambda: engines.is_ready,
            on_refused=refused,
            routes=make_routes(config.telephony, context.access, self.registry.check_capacity),
            descriptors=context.descriptors,
            tls=context.tls,
            shares_port=shares_port,
        )
        listener_context = ListenerContext(
            registry=self.registry,
            access=context.access,
            config=config,
            is_ready=lambda: engines.is_ready,
            on_refused=refused,
            descriptors=context.descriptors,
            tls=context.tls,
        )
        self._listeners = make_listeners(listener_context) if has_listeners else []

    @property
    def port(self) -> int:
        return self._gateway.port

    @property
    def roots(self) -> frozenset[str]:
        return self._gateway.roots

    def port_of(self, listener: str) -> int | None:
        return next((each.port for each in self._listeners if each.name == listener), None)

    def ports(self) -> dict[str, int]:
        return {each.name: each.port for each in self._listeners}

    def heartbeat(self, stream_id: str) -> Heartbeat | None:
        stream = self.registry.find(stream_id)
        return None if stream is None else stream.runner.state()

    def tell(self, stream_id: str, told: Told) -> bool:
        stream = self.registry.find(stream_id)
        if stream is None or stream.runner.has_ended():
            return False
        stream.runner.tell(told)
        return True

    def cool(self, stream_id: str, cooldowns: tuple[Cooldown, ...]) -> None:
        if (stream := self.registry.find(stream_id)) is not None:
            stream.runner.cool(cooldowns)

    async def object(self, stream_id: str) -> bool:
        return await self.registry.object(stream_id)

    def of_token(self) -> dict[str, int]:
        return self.registry.held().of_token

    def held_elsewhere(self, of_token: dict[str, int]) -> None:
        # Places and addresses are each server's own: another machine's leave room on this one.
        self.registry.elsewhere = Held(of_token=of_token)

    async def start(self) -> None:
        listen = self._config.listen
        with named_port("listen.port", listen.host, listen.port, "--port"):
            await self._gateway.start()
        for listener in list(self._listeners):
            if not await open_listener(listener, listen.host):
                self._listeners.remove(listener)

    async def end_outdated(self) -> None:
        await self._gateway.end_outdated()

    async def aclose(self) -> None:
        try:
            # Before the streams: their calls write to them.
            for listener in reversed(self._listeners):
                await listener.aclose()
        finally:
            await self._gateway.aclose()
