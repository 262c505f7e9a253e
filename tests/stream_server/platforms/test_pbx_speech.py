"""A recorded call through Asterisk's and FreeSWITCH's ways in: the timeline is that of our own."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest
from websockets.typing import Subprotocol

from stream_server.config import ServerConfig
from stream_server.wire.audio_format import Encoding
from tests.support.asterisk_lab import CALL, beside, with_audiosocket
from tests.support.telephony_lab import (
    Timeline,
    assert_same_timeline,
    load_call,
    native_timeline,
    published_timeline,
    telephony_lab,
)
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.needs("shared-data")


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
@virtual_time
async def test_two_connections_of_audiosocket(shared_data: Path, rate_hz: int):
    call = load_call(shared_data, "pcm_s16le", rate_hz=rate_hz)
    async with telephony_lab(with_audiosocket(ServerConfig())) as lab, beside(lab) as asterisk:
        reference = await native_timeline(lab, call)
        async with asterisk.call() as customer, asterisk.call() as agent:
            await asyncio.gather(
                *(
                    side.speak(track, rate_hz)
                    for side, track in zip((customer, agent), call.tracks, strict=True)
                )
            )
        got = await published_timeline(lab, str(CALL))
    assert_same_timeline(reference, got)


@pytest.mark.parametrize(
    ("name", "encoding"), [("ulaw", "mulaw"), ("alaw", "alaw"), ("slin", "pcm_s16le")]
)
@virtual_time
async def test_a_websocket_channel_for_each_side(shared_data: Path, name: str, encoding: Encoding):
    call = load_call(shared_data, encoding)
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        for channel, role in enumerate(("customer", "agent")):
            path = f"/asterisk?role={role}&name={role}"
            async with lab.connect(path, subprotocols=[Subprotocol("media")]) as socket:
                await socket.send(f"MEDIA_START connection_id:m format:{name} ptime:20")
                for packets in call.packets():
                    await socket.send(packets[channel])
            got = as_channel(channel, await published_timeline(lab, role))
            assert_same_timeline(reference, got, channels=(channel,))


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
@virtual_time
async def test_stereo_of_freeswitch(shared_data: Path, rate_hz: int):
    call = load_call(shared_data, "pcm_s16le", rate_hz=rate_hz)
    data, size = call.interleaved, rate_hz // 50 * 4
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        async with lab.connect(f"/freeswitch?mix=stereo&rate={rate_hz}") as socket:
            await socket.send('{"uuid":"u1"}')
            for at in range(0, len(data), size):
                await socket.send(data[at : at + size])
        got = await published_timeline(lab, "u1")
    assert_same_timeline(reference, got)


def as_channel(channel: int, timeline: Timeline) -> Timeline:
    """Return a timeline of one channel as that of another."""
    replace = partial(msgspec.structs.replace, channel=channel)
    return Timeline(
        tuple(map(replace, timeline.points)),
        tuple(map(replace, timeline.segments)),
        tuple(map(replace, timeline.gaps)),
    )
