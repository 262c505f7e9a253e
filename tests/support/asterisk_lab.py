"""A real AudioSocket port on loopback, and what Asterisk is to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self
from uuid import UUID

from stream_server.config import ServerConfig, StreamsConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.asterisk import AudioSocketConfig
from stream_server.platforms.asterisk.audiosocket import HANGUP, encode_audio, encode_uuid
from stream_server.platforms.asterisk.server import AudioSocketServer
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.listeners import ListenerContext
from stream_server.wire.results import StreamClosed
from tests.support.live_lab import Lab, LabEngine, live_lab

CALL = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
RATE = 8000
FRAME_S = 0.02

BOTH_ANALYSED = ServerConfig(streams=StreamsConfig(analyse_roles=("customer", "agent")))
"""Settings under which both sides of a call are told of."""


class AsteriskLab:
    """The port beside the gateway of a :class:`Lab`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.server = AudioSocketServer(
            ListenerContext(
                registry=lab.registry,
                access=lab.access,
                config=lab.config,
                is_ready=lambda: lab.engine.is_ready,
                on_refused=lab.refuse,
                descriptors=Descriptors(1 << 30),
            )
        )

    @property
    def reasons(self) -> list[str]:
        """Why the streams that ended did."""
        return [each.reason for each in self.lab.published if isinstance(each, StreamClosed)]

    def call(self, uuid: UUID | None = CALL) -> Asterisk:
        return Asterisk(self.server.port, uuid)

    async def until_ended(self, count: int = 1) -> None:
        """Wait for the end of so many streams."""
        while len(self.reasons) < count:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


class Asterisk:
    """One channel: a client of an AudioSocket.

    Args:
        port: of the server.
        uuid: sent at once; None: nothing is.
    """

    def __init__(self, port: int, uuid: UUID | None) -> None:
        self._port = port
        self._uuid = uuid

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        if self._uuid is not None:
            self.writer.write(encode_uuid(self._uuid))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def speak(
        self, data: bytes, rate: int = RATE, delay_s: Callable[[float], float] = lambda at_s: 0.0
    ) -> None:
        """Send 16-bit audio in real time of the loop, 20 ms a frame.

        Args:
            data: of one channel.
            rate: Hz.
            delay_s: how late the frame comes that was spoken at that time; frames stay in order.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        size = round(rate * FRAME_S) * 2
        for number, at in enumerate(range(0, len(data), size), start=1):
            at_s = number * FRAME_S
            await asyncio.sleep(max(began_s + at_s + delay_s(at_s) - loop.time(), 0))
            self.writer.write(encode_audio(data[at : at + size], rate))

    async def hang_up(self) -> None:
        """Say so, and close."""
        self.writer.write(HANGUP)
        self.writer.close()

    async def answer(self) -> bytes:
        """Return all the server says up to its end."""
        return await self.reader.read()


def with_audiosocket(config: ServerConfig, **settings: Any) -> ServerConfig:
    """Return the settings with any free port for AudioSocket."""
    audiosocket = AudioSocketConfig(port=0, **settings)
    return replace(config, telephony=TelephonyConfig(audiosocket=audiosocket))


@asynccontextmanager
async def beside(lab: Lab) -> AsyncIterator[AsteriskLab]:
    """Run the port beside a gateway."""
    asterisk = AsteriskLab(lab)
    await asterisk.server.start()
    try:
        yield asterisk
    finally:
        await asterisk.server.aclose()


@asynccontextmanager
async def asterisk_lab(
    engine: LabEngine | None = None,
    config: ServerConfig = BOTH_ANALYSED,
    *,
    audiosocket: dict[str, Any] | None = None,
    **limits: Any,
) -> AsyncIterator[AsteriskLab]:
    config = with_audiosocket(config, **(audiosocket or {}))
    async with live_lab(engine, config, **limits) as lab, beside(lab) as asterisk:
        yield asterisk
