"""Packets of a call through a real server: the timeline they make, and what is told of them."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from stream_server.access import MACHINE
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.platforms.route import Admission, Handshake, Refusal, json_refusal
from stream_server.tracks import TrackAligner
from stream_server.tracks.track import TrackStats
from stream_server.wire.dialect import Inbound
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import Stop
from stream_server.wire.native import NativeDialect
from stream_server.wire.results import Gap, Warning
from tests.support.live_lab import Lab, live_lab, receive_all, start
from tests.support.telephony_lab import (
    ROLES,
    Call,
    Timeline,
    assert_same_timeline,
    load_call,
    native_timeline,
    telephony_lab,
)

BOTH_ROLES = ServerConfig(streams=StreamsConfig(analyse_roles=ROLES))

Packet = tuple[int, int, int, bytes]
"""Channel, number, time in ms, payload."""


class PacketDialect(NativeDialect):
    """The native protocol with audio in packets: how a dialect uses a TrackAligner."""

    can_resume = False
    plain_audio = None  # type: ignore[assignment]  # A packet begins with its number.

    def __init__(self) -> None:
        super().__init__()
        self._aligner: TrackAligner | None = None

    @property
    def tracks(self) -> TrackStats | None:
        return self._aligner.stats if self._aligner else None

    def receive(self, message: str | bytes) -> list[Inbound]:
        if isinstance(message, bytes):
            assert self._aligner
            channel, number, at_ms = (
                int.from_bytes(message[at : at + 4], "big") for at in (0, 4, 8)
            )
            return [*self._aligner.put(channel, message[12:], at_tick=at_ms * 8, number=number)]
        inbound = super().receive(message)
        if self.start is not None and self._aligner is None:
            self._aligner = TrackAligner(self.start.format)
        if any(isinstance(each, Stop) for each in inbound):
            assert self._aligner
            return [*self._aligner.flush(), *inbound]
        return inbound


class PacketRoute:
    subprotocols: tuple[str, ...] = ()

    def admit(self, handshake: Handshake) -> Admission:
        return Admission(PacketDialect(), lambda token: MACHINE)

    def refuse(self, error: ProtocolError) -> Refusal:
        return json_refusal(error)


def packets_of(call: Call) -> list[Packet]:
    return [
        (channel, number + 1, 137 + number * 20, payload)
        for number, both in enumerate(call.packets())
        for channel, payload in enumerate(both)
    ]


async def say(lab: Lab, packets: Iterable[Packet]) -> list[Any]:
    """Stream packets; return everything the server says."""
    lab.gateway._routes["/packets"] = PacketRoute()
    async with lab.connect("/packets") as socket:
        channels = [{"role": role} for role in ROLES]
        await socket.send(start(encoding="mulaw", sample_rate=8000, channels=channels, live=False))
        reader = asyncio.create_task(receive_all(socket))
        for channel, number, at_ms, payload in packets:
            head = b"".join(value.to_bytes(4, "big") for value in (channel, number, at_ms))
            await socket.send(head + payload)
        await socket.send(json.dumps({"type": "stop"}))
        seen, code = await reader
        assert code == 1000
        return seen


@pytest.mark.needs("shared-data")
async def test_packets_out_of_order_and_twice_make_the_timeline_of_the_audio(
    shared_data: Path,
) -> None:
    call = load_call(shared_data)
    rng = random.Random(2)
    packets = packets_of(call)
    shuffled = sorted(
        packets + rng.sample(packets, 50), key=lambda each: each[1] + rng.uniform(0, 3)
    )
    noisy = [
        (channel, number, at_ms + rng.randrange(4), p) for channel, number, at_ms, p in shuffled
    ]
    # The clock of the call begins with its first packet, not with what is sent first.
    noisy.sort(key=lambda each: each[1] > 1)
    noisy[:2] = [(0, 1, 137, packets[0][3]), (1, 1, 137, packets[1][3])]
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        got = Timeline.of(await say(lab, noisy))
        assert_same_timeline(reference, got, posterior_tolerance=0.02)


@pytest.mark.needs("shared-data")
async def test_what_one_side_lost_is_its_gap_and_the_other_side_does_not_notice(
    shared_data: Path,
) -> None:
    call = load_call(shared_data)
    packets = [each for each in packets_of(call) if not (each[0] == 1 and 100 <= each[1] - 1 < 200)]
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        got = Timeline.of(await say(lab, packets))
    assert_same_timeline(reference, got, channels=[0])
    lost = [each for each in got.gaps if each.reason == "lost"]
    assert [(each.channel, each.start_s, each.end_s) for each in lost] == [(1, 2.0, 4.0)]
    before = [
        [each for each in timeline.points if each.channel == 1 and each.end_s < 2]
        for timeline in (reference, got)
    ]
    assert before[0]
    for one, other in zip(*before, strict=True):
        assert one.posteriors == pytest.approx(other.posteriors, abs=1e-5)


async def test_loss_is_warned_of_counted_and_logged_without_names() -> None:
    async with live_lab(config=BOTH_ROLES) as lab:
        packets = [
            (channel, number, number * 20, bytes([100]) * 160)
            for number in range(1, 400)
            for channel in (0, 1)
            if not (channel == 0 and number % 20 == 5)
        ]
        with capture_logs() as logs:
            seen = await say(lab, packets)
    (warning,) = [each for each in seen if isinstance(each, Warning) and "packet" in each.code]
    assert (warning.code, warning.channel) == ("packet_loss", 0)
    # About 5 %: a heartbeat may come before the last packets. The counts at the end are exact.
    assert re.match(r"\d+\.\d% of the packets", warning.message)
    gaps = [each for each in seen if isinstance(each, Gap) and each.final]
    assert sum(each.end_s - each.start_s for each in gaps if each.reason == "lost") == (
        pytest.approx(20 * 0.02)
    )
    value = lab.metrics.registry.get_sample_value
    assert value("emotion_monitor_packets_total", {"outcome": "taken"}) == len(packets)
    assert value("emotion_monitor_packets_total", {"outcome": "lost"}) == 20
    told = [each for each in logs if each["event"] == "track_ended"]
    assert [(each["channel"], each["lost"]) for each in told] == [(0, 20), (1, 0)]
    assert set(told[0]) == {
        *("event", "log_level", "stream_id", "channel", "packets", "lost", "late", "duplicate"),
        *("reordered", "jumps", "slips", "lost_ms", "drift_ppm"),
    }


async def test_drift_is_warned_of_while_the_stream_runs() -> None:
    async with live_lab(config=BOTH_ROLES) as lab:
        packets = [
            (channel, number, round(number * 20 * (1.001 if channel else 1)), bytes([100]) * 160)
            for number in range(1, 2200)
            for channel in (0, 1)
        ]
        seen = await say(lab, packets)
    (warning,) = [each for each in seen if isinstance(each, Warning) and "drift" in each.code]
    assert (warning.code, warning.channel) == ("clock_drift", 1)
    assert "parts in a million too slow" in warning.message
    assert lab.metrics.registry.get_sample_value("emotion_monitor_clock_drift_ratio_count") == 2
