"""Plain RTP over real sockets: what exchanges, FFmpeg and GStreamer send."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.config import ServerConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.rtp import RtpConfig
from stream_server.platforms.rtp.server import RtpServer
from stream_server.rtp.packets import parse_packet
from stream_server.rtp.reports import ended_sources
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.listeners import ListenerContext
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import Marked, StreamClosed, StreamOpened
from tests.stream_server.decoding.test_tracks import CUSTOMER, STEP, changes, expected_changes
from tests.stream_server.platforms.siprec.test_over_sockets import SIDES, gaps, packets
from tests.stream_server.streams.timelines import timeline
from tests.support.live_lab import Lab, chunks, level, live_lab, stream
from tests.support.siprec_lab import BOTH_ANALYSED, event, rtp
from tests.support.virtual_time import virtual_time

HERE = Path(__file__).parent


def rtpdump(name: str) -> list[bytes]:
    """Return the datagrams of a file of rtptools: a line, 16 bytes, then each with 8 of its own."""
    data = (HERE / f"{name}.rtpdump").read_bytes()
    data = data[data.index(b"\n") + 17 :]
    found = []
    while data:
        length, size = struct.unpack(">HH", data[:4])
        found.append(data[8 : 8 + size])
        data = data[length:]
    return found


class RtpLab:
    """The ports beside the gateway of a :class:`Lab`, and senders of RTP."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.server = RtpServer(
            ListenerContext(
                registry=lab.registry,
                access=lab.access,
                config=lab.config,
                is_ready=lambda: lab.engine.is_ready,
                on_refused=lab.refuse,
                descriptors=Descriptors(1 << 30),
            )
        )
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for each in self.sockets:
            each.bind(("127.0.0.1", 0))

    def send(self, data: bytes, port: int | None = None, *, sender: int = 0) -> None:
        self.sockets[sender].sendto(data, ("127.0.0.1", port or self.server.port))

    async def speak(self, sent: Sequence[bytes], **where: Any) -> None:
        """Send 20 ms a packet in real time of the loop."""
        for each in sent:
            self.send(each, **where)
            await asyncio.sleep(0.02)

    @property
    def opened(self) -> list[StreamOpened]:
        return [each for each in self.lab.published if isinstance(each, StreamOpened)]

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.lab.published if isinstance(each, StreamClosed)]

    async def until_ended(self, count: int = 1) -> None:
        async with asyncio.timeout(60):
            while len(self.reasons) < count:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def rtp_lab(
    config: ServerConfig = BOTH_ANALYSED, *, limits: dict[str, Any] | None = None, **rtp: Any
) -> AsyncIterator[RtpLab]:
    telephony = TelephonyConfig(rtp=RtpConfig(**{"port": 0, "end_after_s": 1.0, **rtp}))
    async with live_lab(None, replace(config, telephony=telephony), **(limits or {})) as lab:
        made = RtpLab(lab)
        await made.server.start()
        try:
            yield made
        finally:
            await made.server.aclose()
            for each in made.sockets:
                each.close()


async def native(data: bytes, **fields: Any) -> list[Any]:
    """Return the timeline of the same bytes by the native protocol."""
    async with live_lab(config=BOTH_ANALYSED) as lab:
        return timeline(await stream(lab, chunks(data), encoding="mulaw", **fields))


@virtual_time
async def test_a_sender_is_a_stream_that_ends_when_its_packets_do():
    """µ-law as GStreamer 1.22 sent it: `mulawenc ! rtppcmupay ! udpsink`."""
    sent = rtpdump("gstreamer_pcmu")
    async with rtp_lab() as rtp:
        await rtp.speak(sent)
        await rtp.until_ended()
        (opened,), told = rtp.opened, rtp.lab.published
        assert rtp.reasons == ["stopped"] and len(rtp.lab.registry) == 0
        assert opened.name == "{}:{}".format(*rtp.sockets[0].getsockname())
    assert opened.metadata == {"platform": "rtp", "source": f"{parsed(sent[0]).source:08x}"}
    assert [each.role for each in opened.channels] == ["customer"]
    payload = b"".join(parsed(each).payload for each in sent)
    assert timeline(told) == await native(
        payload, sample_rate=8000, channels=[{"role": "customer"}]
    )


def parsed(data: bytes) -> Any:
    packet = parse_packet(data)
    assert packet is not None
    return packet


@virtual_time
async def test_two_ports_are_the_two_sides_of_a_call():
    first = 24_000 + os.getpid() % 400 * 8
    sides = [packets(each, at) for at, each in enumerate(SIDES)]
    async with rtp_lab(port=-1, call_ports=(first, first + 2)) as rtp:
        for both in zip(*sides, strict=True):
            for side, packet in enumerate(both):
                rtp.send(packet, first + 2 * side, sender=side)
            await asyncio.sleep(0.02)
        await rtp.until_ended()
        (opened,), told = rtp.opened, rtp.lab.published
    assert [each.role for each in opened.channels] == ["customer", "agent"]
    assert opened.metadata["port"] == str(first)
    both_sides = np.stack([np.frombuffer(each, "u1") for each in SIDES], 1).tobytes()
    channels = [{"role": "customer"}, {"role": "agent"}]
    assert timeline(told) == await native(both_sides, sample_rate=8000, channels=channels)


@virtual_time
async def test_what_is_missing_is_lost_and_keys_are_marks():
    sent = packets(SIDES[0], 7)
    key = rtp(0xFFF0 + 150, 0xFFFFF000 + 150 * 160, event(5, 160), payload_type=101, source=7)
    async with rtp_lab() as lab:
        await lab.speak([*sent[:100], *sent[120:150], key, *sent[151:200]])
        await lab.until_ended()
        told = lab.lab.published
    (lost,) = [each for each in gaps(told, 0) if each[2] == "lost"]
    assert lost[:2] == pytest.approx((2.0, 2.4), abs=0.03)
    assert [each.name for each in told if isinstance(each, Marked)] == ["dtmf"]


@pytest.mark.needs("av")
async def test_opus_of_gstreamer_is_decoded():
    """`opusenc ! rtpopuspay pt=107 ! udpsink`, the payload type that Asterisk has for it."""
    async with rtp_lab() as rtp:
        ((there,),) = await expected_changes(rtp.lab, CUSTOMER)
        for packet in rtpdump("gstreamer_opus"):
            rtp.send(packet)
            await asyncio.sleep(0)
        await rtp.until_ended()
        told = rtp.lab.published
    assert rtp.opened[0].encoding == "opus"
    assert changes(told, 0) == pytest.approx([there], abs=STEP)
    assert [each for each in gaps(told, 0) if each[2] == "lost"] == []


@pytest.mark.needs("av")
async def test_samples_that_ffmpeg_sends():
    """FFmpeg's `-f rtp`, whose payload type for L16 at 16 kHz is 97."""
    import av

    samples = np.concatenate([level(2, 0.1), level(2, 0.3)])
    async with rtp_lab(formats=("97 L16/16000",)) as rtp:
        ((there,),) = await expected_changes(rtp.lab, samples)
        url = f"rtp://127.0.0.1:{rtp.server.port}?pkt_size=652"
        with av.open(url, "w", format="rtp") as container:
            sending: Any = container.add_stream("pcm_s16be", rate=16_000, layout="mono")
            for at in range(0, len(samples), 320):
                piece = np.round(samples[None, at : at + 320] * 32767).astype("<i2")
                frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16_000, at
                container.mux(sending.encode(frame))
                await asyncio.sleep(0)
            container.mux(sending.encode(None))
        await rtp.until_ended()
        told = rtp.lab.published
    assert changes(told, 0) == pytest.approx([there], abs=STEP)
    assert [each for each in gaps(told, 0) if each[2] == "lost"] == []


@virtual_time
async def test_each_sender_is_a_stream_of_its_own_and_no_more_than_the_limit():
    sent = [packets(SIDES[0][:16_000], at) for at in range(3)]
    async with rtp_lab(max_streams=2) as rtp:
        for each in zip(*sent, strict=True):
            for at, packet in enumerate(each):
                rtp.send(packet, sender=at)
            await asyncio.sleep(0.02)
        await rtp.until_ended(2)
        assert len(rtp.opened) == 2 and len({each.name for each in rtp.opened}) == 2
        # Of the third one every packet is dropped, and told once in five seconds.
        assert rtp.lab.refused == ["server_full"]


@pytest.mark.parametrize(("sources", "streams"), [("address", 1), ("ssrc", 2)])
@virtual_time
async def test_sources_of_one_address_are_told_apart_if_that_is_set(sources: str, streams: int):
    sent = [packets(SIDES[at][:16_000], at) for at in range(2)]
    async with rtp_lab(sources=sources) as rtp:
        for each in zip(*sent, strict=True):
            for packet in each:
                rtp.send(packet)
            await asyncio.sleep(0.02)
        await rtp.until_ended(streams)
        assert len(rtp.opened) == streams


@virtual_time
async def test_an_address_that_is_not_allowed_begins_nothing():
    async with rtp_lab(allow=("127.0.0.2",)) as rtp:
        await rtp.speak(packets(SIDES[0][:3200], 1))
        assert (rtp.opened, rtp.lab.refused) == ([], ["unauthorized"])


@virtual_time
async def test_a_stream_that_this_side_ended_does_not_begin_again_while_it_is_sent():
    sent = packets(SIDES[0], 1)
    async with rtp_lab() as rtp:
        await rtp.speak(sent[:50])
        (running,) = rtp.lab.registry.running()
        assert running.holder is not None
        ended = asyncio.create_task(
            running.holder.end(ProtocolError(ErrorCode.IDLE, "an operator ended it"))
        )
        await rtp.speak(sent[50:150])
        await ended
        assert len(rtp.opened) == 1
        # After a silence the same address may be another call.
        await asyncio.sleep(1.5)
        await rtp.speak(sent[150:200])
        assert len(rtp.opened) == 2


@virtual_time
async def test_bye_of_rtcp_ends_the_stream_at_once():
    sent = packets(SIDES[0][:16_000], 0x5EC0)
    report = b"\x80\xc8\0\6" + bytes.fromhex("00005ec0") + bytes(20)
    async with rtp_lab(end_after_s=60.0) as rtp:
        await rtp.speak(sent)
        rtp.send(report + b"\x81\xcb\0\1" + (1).to_bytes(4))
        rtp.send(report + b"\x81\xcb\0\1" + (0x5EC0).to_bytes(4), sender=1)
        await rtp.until_ended()
        assert rtp.reasons == ["stopped"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_rtcp_or_not(data: bytes):
    for each in (data, b"\x81\xcb" + data, b"\x80\xc8\0\0" + data):
        assert len(ended_sources(each)) <= len(each) // 4


@virtual_time
async def test_garbage_begins_nothing_and_is_not_remembered_for_long():
    chance = np.random.default_rng(3)
    async with rtp_lab() as rtp:
        for at in range(3000):
            rtp.send(chance.bytes(int(chance.integers(0, 60))))
            # Senders that never send a second packet.
            rtp.send(bytes([0x80, 0]) + at.to_bytes(2) + chance.bytes(28))
            if at % 50 == 0:
                await asyncio.sleep(0.02)
        assert rtp.opened == []
        await rtp.speak(packets(SIDES[0][:3200], 1))
        assert len(rtp.opened) == 1
