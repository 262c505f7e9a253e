"""Platforms whose only time is when a packet came."""

from __future__ import annotations

import random

import pytest

from stream_server.tracks import TrackAligner
from stream_server.wire.audio_format import AudioFormat

RATE, PACKET = 8_000, 160
ONE = AudioFormat("pcm_s16le", RATE, 1)
TWO = AudioFormat("pcm_s16le", RATE, 2)


@pytest.mark.parametrize("ppm", [-200])
def test_drift_is_measured_through_the_jitter_of_a_network(ppm: int) -> None:
    """TCP keeps the order: a delayed packet delays those behind it. Delays: 5 ms on average, now
    and then a burst of up to 150 ms, and five seconds of standing delay."""
    rng = random.Random(ppm)
    aligner = TrackAligner(TWO, ticks="arrival")
    arrived = [0.0, 0.0]
    arrivals = []
    for n in range(30_000):  # ten minutes
        for channel, fast in ((0, 0), (1, ppm)):
            true_ms = n * 20 / (1 + fast * 1e-6)
            delay_ms = rng.expovariate(1 / 5)
            if rng.random() < 0.002:
                delay_ms += rng.uniform(50, 150)
            if 10_000 < n < 10_250:
                delay_ms += 80
            arrived[channel] = max(arrived[channel], true_ms + delay_ms)
            arrivals.append((arrived[channel], channel, n, true_ms))
    worst = 0.0
    for at_ms, channel, n, true_ms in sorted(arrivals):
        aligner.put(channel, b"\1\0" * PACKET, at_tick=round(at_ms * 8))
        track = aligner._tracks[channel]
        if n > 1500 and not track.is_waiting and track.position is not None:
            position = track.position
            worst = max(worst, abs(position / 8 - 20 - true_ms))
    assert worst < 8
    still, drifting = aligner.stats.channels
    assert still.drift_ppm == pytest.approx(0, abs=5)
    assert drifting.drift_ppm == pytest.approx(ppm, abs=5)
    assert still.lost == drifting.lost == still.jumps == drifting.jumps == 0
    assert still.lost_ms <= 20 and drifting.lost_ms <= 20


def test_a_burst_after_a_stall_is_no_hole() -> None:
    aligner = TrackAligner(ONE, ticks="arrival")
    total = 0
    for n in range(200):
        at_ms = n * 20 if not 100 <= n < 120 else 120 * 20
        total += sum(len(p.data) for p in aligner.put(0, b"\1\0" * PACKET, at_tick=at_ms * 8))
    total += sum(len(p.data) for p in aligner.flush())
    assert total == 200 * PACKET * 2
    assert aligner.stats.channels[0].lost_ms == 0


def test_audio_that_stays_away_is_a_hole() -> None:
    aligner = TrackAligner(ONE, ticks="arrival")
    for n in range(200):
        aligner.put(0, b"\1\0" * PACKET, at_tick=(n * 20 + (3_000 if n >= 100 else 0)) * 8)
    aligner.flush()
    (track,) = aligner.stats.channels
    assert track.lost_ms == 3_000


def test_a_first_packet_that_is_delayed_does_not_shift_the_channel() -> None:
    aligner = TrackAligner(TWO, ticks="arrival")
    for n in range(100):
        aligner.put(0, b"\1\0" * PACKET, at_tick=n * PACKET)
        if n >= 4:
            for late in range(5) if n == 4 else (n,):
                aligner.put(1, b"\2\0" * PACKET, at_tick=n * PACKET + late)
    aligner.flush()
    assert aligner.stats.channels[1].lost_ms == 0
