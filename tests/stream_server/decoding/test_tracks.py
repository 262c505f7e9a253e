"""Calls whose tracks come in packets of a codec, each track's decoder a real process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ser_engine.types import FloatArray
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.decoding.tracks import TrackDecoders
from stream_server.tracks.coded import CodedTracks, track_format
from stream_server.wire.dialect import AudioData
from stream_server.wire.results import StreamClosed, StreamOpened, Warning
from tests.stream_server.streams.timelines import gaps, tiles
from tests.support.live_lab import Lab, level, live_lab, pcm, stream
from tests.support.media_files import live_messages
from tests.support.platform_calls import PLATFORMS

pytestmark = pytest.mark.needs("av")

CUSTOMER = np.concatenate([level(2, 0.1), level(2, 0.3)])
AGENT = np.concatenate([level(2.2, 0.3), level(1.8, 0.1)])
BOTH = ServerConfig(streams=StreamsConfig(analyse_roles=("customer", "agent")))
STEP = 8000


def packets_of(codec: str, samples: FloatArray) -> list[bytes]:
    return live_messages(codec, samples[:, None])


async def call(lab: Lab, path: str, messages: Iterable[str | bytes]) -> list[Any]:
    async with lab.connect(path) as socket:
        for message in messages:
            await socket.send(message)
    async with asyncio.timeout(60):
        while not (lab.published and isinstance(lab.published[-1], StreamClosed)):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    return lab.published


def changes(seen: list[Any], channel: int) -> list[int]:
    """Return where another label begins."""
    labels = [tile for tile in tiles(seen, channel) if tile[2] in ("angry", "neutral")]
    return [b[0] for a, b in pairwise(labels) if a[2] != b[2]]


async def expected_changes(lab: Lab, *samples: FloatArray) -> list[list[int]]:
    """Return where the same audio changes its label, streamed as samples."""
    roles = [{"role": role} for role in ("customer", "agent")[: len(samples)]]
    seen = await stream(lab, [pcm(np.stack(samples, axis=1))], channels=roles, live=False)
    lab.published.clear()
    return [changes(seen, channel) for channel in range(len(samples))]


@pytest.mark.parametrize(("codec", "rate_hz"), [("g722", 8000), ("opus", 48_000)])
async def test_a_call_in_a_codec_out_of_order_and_with_a_hole_in_one_track(
    codec: str, rate_hz: int
):
    telnyx = PLATFORMS["telnyx"](encoding=codec.upper(), rate_hz=rate_hz)
    messages = [
        telnyx.media(number, track, number, 20 * number, packet)
        for track, samples in (("inbound", CUSTOMER), ("outbound", AGENT))
        for number, packet in enumerate(packets_of(codec, samples), start=1)
        if not (track == "inbound" and 50 <= number < 75)
    ]
    messages.sort(key=lambda message: int(message["media"]["chunk"]))
    for at in range(10, len(messages) - 10, 7):
        messages[at], messages[at + 3] = messages[at + 3], messages[at]
    whole = [telnyx.start((), {}), *messages, *telnyx.stop(9)]
    async with live_lab(config=BOTH) as lab:
        expected = await expected_changes(lab, CUSTOMER, AGENT)
        seen = await call(lab, "/telnyx", map(json.dumps, whole))
        assert len(lab.registry) == 0
    opened, closed = seen[0], seen[-1]
    assert isinstance(opened, StreamOpened)
    assert (opened.encoding, opened.sample_rate) == (codec, 16_000 if codec == "g722" else 48_000)
    assert closed.reason == "stopped"
    customer = [m for m in seen if getattr(m, "channel", None) == 0]
    agent = [m for m in seen if getattr(m, "channel", None) == 1]
    assert gaps(customer)["lost"] == pytest.approx(8000, abs=640)
    assert "lost" not in gaps(agent)
    for channel, there in enumerate(expected):
        assert len(there) == 1
        assert changes(seen, channel) == pytest.approx(there, abs=STEP)
    # All that came, and no more: the codec's own delay is some ms.
    assert tiles(seen, 0)[-1][1] == tiles(seen, 1)[-1][1] == pytest.approx(4 * 16_000, abs=640)
    assert not [m for m in seen if isinstance(m, Warning) and m.code == "clock_drift"]


@pytest.mark.parametrize("codec", ["g722", "opus"])
async def test_a_channel_of_asterisk_in_a_codec(codec: str):
    started = f"MEDIA_START connection_id:m channel_id:7 format:{codec} ptime:20"
    async with live_lab() as lab:
        ((there,),) = await expected_changes(lab, CUSTOMER)
        seen = await call(lab, "/asterisk", [started, *packets_of(codec, CUSTOMER)])
    assert (seen[0].encoding, seen[-1].reason) == (codec, "stopped")
    assert changes(seen, 0) == pytest.approx([there], abs=STEP)


async def samples_of(
    packets: list[bytes], wanted: tuple[int, ...] = (0,)
) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Decode packets of one track; return its samples, and what of them is lost."""
    audio_format = track_format("opus", 1)
    tracks, decoders = CodedTracks(audio_format), TrackDecoders(audio_format)
    pieces: list[AudioData] = []
    for number, packet in enumerate(packets):
        for audio in tracks.put(0, packet, number=number):
            pieces += [each async for each in decoders.decode(audio, wanted)]
    await decoders.aclose()
    lost, at = [], 0
    for piece in pieces:
        lost += [(at + span.start_tick, at + span.end_tick) for span in piece.lost]
        at += len(piece.data) // 2
    samples = np.frombuffer(b"".join(piece.data for piece in pieces), "<i2")
    return (samples / 32_768).astype(np.float32), lost


async def test_a_packet_that_is_damaged_is_lost_and_no_other():
    packets = packets_of("opus", level(1, 0.2))
    whole, lost = await samples_of(packets)
    assert (len(whole), lost) == (960 * len(packets), [])
    # Three frames of which the first says that it is longer than the packet.
    packets[20] = b"\x7a\xff\xff\x00"
    damaged, lost = await samples_of(packets)
    assert lost == [(20 * 960, 20 * 960 + 2 * 960)]
    assert len(damaged) == len(whole) + 960
    assert np.array_equal(damaged[: 20 * 960], whole[: 20 * 960])
    # An Opus decoder finds back within some packets.
    assert np.abs(damaged[-9600:]).mean() == pytest.approx(np.abs(whole[-9600:]).mean(), rel=0.05)


async def test_a_track_that_nobody_wants_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream_server.decoding.process.AudioDecoder._start", None)
    silent, lost = await samples_of(packets_of("opus", level(0.2, 0.2)), wanted=())
    assert len(silent) and not silent.any() and lost == []


async def test_packets_that_are_repeated_without_end_are_not_held():
    audio_format = track_format("opus", 1)
    tracks, decoders = CodedTracks(audio_format), TrackDecoders(audio_format)
    (packet, later, *_) = packets_of("opus", level(0.2, 0.2))
    for _ in range(600):
        for audio in tracks.put(0, packet, number=0):
            async for _ in decoders.decode(audio, ()):
                pass
            (track,) = decoders._tracks
            assert audio.came is not None
            track.hold(audio.came)
    assert len(track._held) == 500
    for audio in tracks.put(0, later, number=1):
        async for piece in decoders.decode(audio, (0,)):
            assert not piece.lost
    await decoders.aclose()
