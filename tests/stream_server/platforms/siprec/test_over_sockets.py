"""Recording sessions over real sockets: SIP over UDP and TCP, and RTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from stream_server.config import ServerConfig
from stream_server.wire.results import StreamOpened
from tests.stream_server.platforms.asterisk.test_over_sockets import mulaw
from tests.stream_server.streams.timelines import tiles, timeline
from tests.support.live_lab import chunks, live_lab, pcm, stream
from tests.support.siprec_lab import (
    BOTH_ANALYSED,
    Client,
    SiprecLab,
    beside,
    rtp,
    with_siprec,
)
from tests.support.virtual_time import virtual_time

RATE = 8000


@asynccontextmanager
async def siprec_lab(
    config: ServerConfig = BOTH_ANALYSED, *, siprec: dict[str, Any] | None = None, **limits: Any
) -> AsyncIterator[SiprecLab]:
    async with live_lab(None, with_siprec(config, **(siprec or {})), **limits) as lab:
        async with beside(lab) as made:
            yield made


def level(seconds: float, amount: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full(round(seconds * RATE), amount, dtype=np.float32)


SIDES = [
    mulaw(np.concatenate([level(4, 0.1), level(4, 0.2)])),
    mulaw(np.concatenate([level(4, 0.3), level(4, 0.1)])),
]


def packets(data: bytes, source: int) -> list[bytes]:
    """Return 20 ms a packet; the counts begin shortly before they wrap."""
    return [
        rtp(0xFFF0 + number, 0xFFFFF000 + at, data[at : at + 160], source=source)
        for number, at in enumerate(range(0, len(data), 160))
    ]


async def speak(client: Client, sides: Sequence[Sequence[bytes]]) -> None:
    """Send both sides in real time of the loop."""
    for both in zip(*sides, strict=True):
        for line, packet in enumerate(both):
            client.send_rtp(line, packet)
        await asyncio.sleep(0.02)


@virtual_time
async def test_a_call_is_the_stream_of_its_two_sides():
    async with siprec_lab() as siprec:
        async with siprec.client() as client:
            answer = await client.invite()
            assert answer.status == 200
            await speak(client, [packets(each, at) for at, each in enumerate(SIDES)])
            assert (await client.bye()).status == 200
            await siprec.until_ended()
        told = siprec.lab.published
        assert siprec.lab.refused == []
        assert len(siprec.lab.registry) == 0
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert opened.name == "a84b4c76e66710@sbc.example.net"
    assert [channel.role for channel in opened.channels] == ["customer", "agent"]
    assert opened.metadata == {"platform": "siprec", "session_id": "hVpd7YQgRW2nD22h7q60JQ=="}
    assert siprec.reasons == ["stopped"]
    async with live_lab(config=BOTH_ANALYSED) as lab:
        channels = [{"role": "customer"}, {"role": "agent"}]
        both = np.stack([np.frombuffer(each, "u1") for each in SIDES], 1).tobytes()
        native = await stream(
            lab, chunks(both), sample_rate=RATE, channels=channels, encoding="mulaw"
        )
    assert timeline(told) == timeline(native)
    assert [label for _, _, label in tiles(told, 0)] == ["angry", "happy"]
    assert pcm is not None
