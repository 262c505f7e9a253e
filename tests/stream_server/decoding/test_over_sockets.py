"""Calls in each codec and container, through the gateway, a real decoder's process each."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ser_engine.types import FloatArray
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.wire.messages import Error, Heartbeat, Ready
from stream_server.wire.results import Gap, Point, StreamOpened, Summary
from tests.stream_server.streams.timelines import tiles
from tests.support.live_lab import (
    Lab,
    level,
    live_lab,
    receive,
    receive_all,
    receive_until,
    send,
    start,
    stream,
)
from tests.support.media_files import live_messages

pytestmark = pytest.mark.needs("av")

CALL = np.stack(
    [
        np.concatenate([level(2, 0.1), level(3, 0.3)]),
        np.concatenate([level(3, 0.3), level(2, 0.1)]),
    ],
    axis=1,
)
ROLES = [{"role": "customer"}, {"role": "driver"}]
STEP = 8000
ANALYSED = ServerConfig(streams=StreamsConfig(analyse_roles=("customer", "driver")))


def pieces(encoding: str, samples: FloatArray, seed: int = 0) -> list[bytes]:
    messages = live_messages(encoding, samples)
    if encoding == "opus":
        return messages
    data, cut = b"".join(messages), random.Random(seed)
    ends = sorted({0, len(data), *(cut.randrange(len(data)) for _ in range(30))})
    return [data[a:b] for a, b in pairwise(ends)]


def labels(messages: list[Any], channel: int) -> list[str | None]:
    """Return the label of every 20 ms."""
    return [label for a, b, label in tiles(messages, channel) for _ in range(a // 320, b // 320)]


def changes(messages: list[Any], channel: int) -> list[int]:
    return [a for a, _, label in tiles(messages, channel) if label in ("angry", "neutral")][1:]


@pytest.mark.parametrize(
    "encoding",
    ["webm", "ogg", "mp4", "flac", "mp3", "aac", "wav", "auto", "opus", "amr-nb", "g722"],
)
async def test_a_call_says_what_its_samples_say(encoding: str):
    is_mono = encoding in ("amr-nb", "g722")
    call = CALL[:, :1] if is_mono else CALL
    channels = ROLES[:1] if is_mono else ROLES
    sent = "mp3" if encoding == "auto" else encoding
    async with live_lab(config=ANALYSED) as lab:
        pcm = (np.round(call * 32_767)).astype("<i2").tobytes()
        expected = await stream(lab, [pcm], channels=channels, live=False)
        seen = await stream(
            lab,
            # A square wave is no speech: AMR makes it quieter.
            pieces(sent, call * np.float32(1.17 if encoding == "amr-nb" else 1)),
            encoding=encoding,
            sample_rate=16_000,
            channels=channels,
            live=False,
        )
        opened = [m for m in lab.published if isinstance(m, StreamOpened)]
    assert [m.encoding for m in opened] == ["pcm_s16le", encoding]
    assert seen[-1].reason == "stopped"
    for channel in range(len(channels)):
        theirs, ours = labels(expected, channel), labels(seen, channel)
        same = sum(a == b for a, b in zip(theirs, ours, strict=False))
        assert same >= 0.95 * len(theirs)
        assert len(ours) == pytest.approx(len(theirs), abs=7)
        (change,), (changed,) = changes(expected, channel), changes(seen, channel)
        assert abs(change - changed) <= STEP
    beats = [m for m in seen if isinstance(m, Heartbeat)]
    assert all(isinstance(beat.received_bytes, int) for beat in beats)
    # Nothing of it is left: neither streams nor processes.
    assert len(lab.registry) == 0


async def refused(lab: Lab, data: bytes, **fields: Any) -> tuple[list[Any], int | None]:
    async with lab.connect() as socket:
        await socket.send(start(**fields))
        reader = asyncio.create_task(receive_all(socket))
        await socket.send(data)
        await send(socket, type="stop")
        return await reader


async def test_noise_and_what_is_something_else_are_errors_and_never_scored():
    noise = np.random.default_rng(0).bytes(300_000)
    (webm,) = live_messages("webm", CALL[:, :1])
    async with live_lab() as lab:
        for data, encoding, text in (
            (noise, "webm", "cannot be decoded as WebM"),
            (webm[:60] + noise, "webm", "cannot be decoded as WebM"),
            (webm, "g722", "got WebM or Matroska, expected G.722"),
            (webm, "pcm_s16le", "tell encoding 'webm' and it is decoded as it comes"),
            (noise, "auto", "first bytes do not say what it is"),
        ):
            seen, code = await refused(lab, data, encoding=encoding, sample_rate=16_000)
            (error,) = [m for m in seen if isinstance(m, Error)]
            assert (error.code, code) == ("bad_format", 4400)
            assert text in error.message
            assert not [m for m in seen if isinstance(m, Point)]


async def test_a_lost_connection_goes_on_at_the_byte_that_was_received():
    (data,) = live_messages("webm", CALL[:, :1])
    third = len(data) // 3
    async with live_lab() as lab:
        whole = await stream(lab, [data], encoding="webm", sample_rate=16_000)
        async with lab.connect() as socket:
            await socket.send(start(encoding="webm"))
            ready = await receive(socket)
            assert isinstance(ready, Ready) and ready.received_bytes == 0
            await socket.send(data[: 2 * third])
            await receive_until(socket, Point)
            socket.transport.abort()
        resume = {"token": ready.resume_token, "next_sample": 0, "last_seq": -1, "next_byte": third}
        async with lab.connect() as socket:
            await socket.send(start(encoding="webm", resume=resume))
            again = await receive(socket)
            assert (again.resumed, again.received_bytes) == (True, 2 * third)
            await socket.send(data[again.received_bytes :])
            await send(socket, type="stop")
            seen = await receive_until(socket, Summary)
        assert tiles(seen) == tiles(whole)
        # A stream with a hole in the middle of its bytes is a new one.
        resume["next_byte"] = third
        async with lab.connect() as socket:
            await socket.send(start(encoding="webm"))
            ready = await receive(socket)
            await socket.send(data[: third // 2])
            await receive_until(socket, Point)
            socket.transport.abort()
        resume = {**resume, "token": ready.resume_token}
        async with lab.connect() as socket:
            await socket.send(start(encoding="webm", resume=resume))
            again = await receive(socket)
            assert (again.resumed, again.received_bytes, again.continues) == (
                False,
                0,
                ready.stream_id,
            )


async def test_what_was_paused_is_one_gap():
    (data,) = live_messages("ogg", CALL[:, :1])
    third = len(data) // 3
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start(encoding="ogg"))
        await socket.send(data[:third])
        await send(socket, type="pause")
        await send(socket, type="resume", paused_samples=16_000)
        await socket.send(data[third:])
        await send(socket, type="stop")
        seen = await receive_until(socket, Summary)
    assert [m.reason for m in seen if isinstance(m, Gap) and m.final] == ["paused"]
    assert seen[-1].duration_s == pytest.approx(6.0, abs=0.05)


async def test_a_decoder_that_dies_ends_its_own_stream_alone():
    (data,) = live_messages("webm", CALL[:, :1])
    half = len(data) // 2
    async with live_lab() as lab, lab.connect() as one, lab.connect() as other:
        ids = []
        for socket in (one, other):
            await socket.send(start(encoding="webm"))
            ids.append((await receive(socket)).stream_id)
            await socket.send(data[:half])
            await receive_until(socket, Point)
        stream_of_one = lab.registry.find(ids[0])
        assert stream_of_one is not None and stream_of_one.runner._decoder is not None
        stream_of_one.runner._decoder.kill()
        await one.send(data[half:])
        seen, code = await receive_all(one)
        (error,) = [m for m in seen if isinstance(m, Error)]
        assert (error.code, code) == ("bad_format", 4400)
        assert "the decoder crashed on it" in error.message
        await other.send(data[half:])
        await send(other, type="stop")
        assert (await receive_until(other, Summary))[-1].duration_s == pytest.approx(5, abs=0.05)
