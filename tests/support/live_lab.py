"""A real gateway on loopback over an engine that a test can slow down or break.

Everything runs on the test's event loop, which may be one with a virtual clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ser_engine.config import EngineConfig, VadConfig
from ser_engine.core.batcher import BatchingStats
from ser_engine.core.queue import Priority
from ser_engine.errors import EngineDeadError, WindowError
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult
from stream_server.access import Access, AccessConfig, ListenConfig
from stream_server.config import ServerConfig
from stream_server.engines import EngineLease
from stream_server.engines.status import PoolStatus
from stream_server.logs import RefusalLog
from stream_server.metrics import Metrics
from stream_server.platforms import make_routes
from stream_server.platforms.route import Route
from stream_server.streams.gateway import Gateway
from stream_server.streams.registry import ResumeTokens, StreamFactory, StreamRegistry
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import ServerMessage
from stream_server.wire.results import Result
from tests.support.fake_engine import FakeEngine, square

RATE = 16_000
_decoder = msgspec.json.Decoder(ServerMessage)

ENGINE_CONFIG = EngineConfig(vad=VadConfig(detector="off"))


class LabEngine:
    """An engine that answers after ``delay_s`` of the loop's time, one window after another.

    Attributes:
        delay_s: time of one forward pass.
        released: how many streams gave it back.
        forgotten: keys of streams that have ended.
        fails: raised instead of answers, if set.
    """

    def __init__(self, core: FakeEngine | Any = None, config: EngineConfig = ENGINE_CONFIG) -> None:
        self.core = core if core is not None else FakeEngine()
        self.config = config
        self.delay_s = 0.0
        self.fails: EngineDeadError | None = None
        self.is_alive = True
        self.released = 0
        self.forgotten: list[str] = []
        self.priorities: list[Priority] = []
        self._turn = asyncio.Lock()

    @property
    def info(self) -> ModelInfo:
        info: ModelInfo = self.core.info
        return info

    runtime_name = "fake"
    num_pending = 0
    stats = BatchingStats()

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        self.priorities.append(priority)
        async with self._turn:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.fails is not None:
                raise self.fails
            (outcome,) = self.core.step([window])
        if isinstance(outcome, WindowError):
            raise outcome
        result: WindowResult = outcome
        return result

    def forget(self, stream_key: str) -> None:
        self.forgotten.append(stream_key)

    # What lends it.

    @property
    def is_ready(self) -> bool:
        return self.is_alive

    def acquire(self) -> EngineLease:
        if not self.is_alive:
            raise EngineDeadError("it is dead")
        return EngineLease(self, self._count_release)

    def status(self) -> PoolStatus:
        raise NotImplementedError

    def _count_release(self) -> None:
        self.released += 1


class Lab:
    """The gateway and what a test looks at."""

    def __init__(
        self,
        engine: Any,
        config: ServerConfig,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        self.engine = engine
        self.config = config
        self.metrics = Metrics()
        self.published: list[Result] = []
        self.refused: list[str] = []
        self.refusals = RefusalLog(self.metrics.refused)
        factory = StreamFactory(
            engines=engine, config=config, metrics=self.metrics, publish=self.published.append
        )
        self.tokens = ResumeTokens()
        self.registry = StreamRegistry(config.limits, factory, self.tokens)
        self.metrics.waiting_from(lambda: self.registry.num_waiting)
        self.access = Access(config.access, config.listen, config.telephony.public_url)
        known = make_routes(config.telephony, self.access, self.registry.check_capacity)
        self.gateway = Gateway(
            registry=self.registry,
            access=self.access,
            config=config,
            is_ready=lambda: engine.is_ready,
            on_refused=self.refuse,
            routes={**known, **(routes or {})},
        )

    def refuse(self, route: str, error: ProtocolError) -> None:
        self.refused.append(error.code.value)
        self.refusals(route, error)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.gateway.port}"

    def connect(self, query: str = "", **options: Any) -> connect:
        options = {"compression": None, "proxy": None, "ping_interval": None, **options}
        return connect(self.url + query, **options)


@asynccontextmanager
async def live_lab(
    engine: Any = None,
    config: ServerConfig | None = None,
    routes: Mapping[str, Route] | None = None,
    **limits: Any,
) -> AsyncIterator[Lab]:
    config = config if config is not None else ServerConfig()
    config = replace(
        config,
        listen=ListenConfig("127.0.0.1", 0, 0),
        limits=replace(config.limits, **limits),
    )
    lab = Lab(engine if engine is not None else LabEngine(), config, routes)
    await lab.gateway.start()
    try:
        yield lab
    finally:
        await lab.gateway.aclose()


def access(**tokens: str) -> ServerConfig:
    """Return settings with access tokens."""
    return ServerConfig(access=AccessConfig(tokens=tokens, refusal_delay_ms=0))


def level(seconds: float, amount: float) -> FloatArray:
    """Return audio that the fake engine takes for one emotion: see ``logits_of_audio``."""
    return square(round(seconds * RATE), amount)


def pcm(samples: FloatArray) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def chunks(data: bytes, size: int = 640) -> Iterable[bytes]:
    """Cut audio into messages: 20 ms by default."""
    return (data[at : at + size] for at in range(0, len(data), size))


def start(**fields: Any) -> str:
    return json.dumps({"type": "start", "encoding": "pcm_s16le", "sample_rate": RATE, **fields})


async def send(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def receive(socket: ClientConnection) -> Any:
    """Return the next message, decoded."""
    return _decoder.decode(await socket.recv())


async def receive_until(socket: ClientConnection, kind: type) -> list[Any]:
    """Return messages up to the first of ``kind``, heartbeats left out."""
    seen = []
    while True:
        message = await receive(socket)
        if type(message).__name__ != "Heartbeat" or kind.__name__ == "Heartbeat":
            seen.append(message)
        if isinstance(message, kind):
            return seen


async def receive_all(socket: ClientConnection) -> tuple[list[Any], int | None]:
    """Return everything up to the close, heartbeats included, and the close code."""
    seen = []
    try:
        while True:
            seen.append(await receive(socket))
    except ConnectionClosed:
        return seen, socket.close_code


async def stream(lab: Lab, messages: Iterable[bytes], **fields: Any) -> list[Any]:
    """Stream as fast as the server takes it; return all it said between ready and close."""
    async with lab.connect() as socket:
        await socket.send(start(**fields))
        reader = asyncio.create_task(receive_all(socket))
        for message in messages:
            await socket.send(message)
        await send(socket, type="stop")
        seen, code = await reader
        assert code == 1000
        return seen


async def pace(socket: ClientConnection, data: bytes, chunk_s: float = 0.02) -> None:
    """Send 16-bit mono audio in real time of the loop."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number, chunk in enumerate(chunks(data, round(chunk_s * RATE) * 2), start=1):
        await asyncio.sleep(max(began_s + number * chunk_s - loop.time(), 0))
        await socket.send(chunk)
