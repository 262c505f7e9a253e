import random
from collections.abc import Iterable

import pytest

from stream_server.tracks import TrackAligner
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData

RATE = 8_000
PACKET = 160
ONE = AudioFormat("mulaw", RATE, 1)
TWO = AudioFormat("mulaw", RATE, 2)


def sound(number: int, channel: int = 0, size: int = PACKET) -> bytes:
    """Return a packet of which every byte tells its number; never silence."""
    return bytes([1 + (number * 2 + channel) % 250]) * size


def channels(pieces: Iterable[AudioData], audio_format: AudioFormat = TWO) -> list[bytes]:
    """Return each channel's samples, and check that what is lost is silent."""
    whole = [bytearray() for _ in range(audio_format.num_channels)]
    size = audio_format.bytes_per_sample
    for piece in pieces:
        ticks, rest = divmod(len(piece.data), audio_format.bytes_per_tick)
        assert ticks and not rest
        for channel, samples in enumerate(whole):
            for tick in range(ticks):
                at = (tick * len(whole) + channel) * size
                samples += piece.data[at : at + size]
        for span in piece.lost:
            assert 0 <= span.start_tick < span.end_tick <= ticks
    return [bytes(samples) for samples in whole]


def lost(
    pieces: Iterable[AudioData], channel: int = 0, tick_bytes: int = 2
) -> list[tuple[int, int]]:
    """Return what a channel lost, from the start of the stream, in as few spans as can be."""
    spans: list[tuple[int, int]] = []
    at = 0
    for piece in pieces:
        for span in piece.lost:
            if span.channel != channel:
                continue
            start, end = at + span.start_tick, at + span.end_tick
            if spans and spans[-1][1] == start:
                start = spans.pop()[0]
            spans.append((start, end))
        at += len(piece.data) // tick_bytes
    return spans


def put_all(
    aligner: TrackAligner, packets: Iterable[tuple[int, bytes, int | None, int | None]]
) -> list[AudioData]:
    """Put packets of channel, payload, time, number; return all that comes out."""
    pieces: list[AudioData] = []
    for channel, payload, at_tick, number in packets:
        pieces += aligner.put(channel, payload, at_tick=at_tick, number=number)
    return pieces + aligner.flush()


def test_packets_of_two_channels_come_out_interleaved_and_at_once() -> None:
    aligner = TrackAligner(TWO)
    assert aligner.put(0, sound(0), at_tick=800, number=1) == []
    (piece,) = aligner.put(1, sound(0, 1), at_tick=800, number=1)
    assert piece == AudioData(bytes([1, 2]) * PACKET)


@pytest.mark.parametrize("modes", ["both", "number", "time", "neither"])
def test_whatever_tells_the_place_a_channel_without_trouble_comes_out_as_it_is(modes: str) -> None:
    aligner = TrackAligner(ONE)
    packets = [
        (
            0,
            sound(n),
            1000 + n * PACKET if modes in ("both", "time") else None,
            7 + n if modes in ("both", "number") else None,
        )
        for n in range(50)
    ]
    pieces = [aligner.put(c, p, at_tick=t, number=n)[0] for c, p, t, n in packets]
    assert b"".join(piece.data for piece in pieces) == b"".join(p for _, p, _, _ in packets)
    assert aligner.flush() == []
    (track,) = aligner.stats.channels
    assert (track.packets, track.lost, track.late, track.duplicate) == (50, 0, 0, 0)
    assert (track.received_ms, track.lost_ms, track.slips) == (1000, 0, 0)


@pytest.mark.parametrize("modes", ["both", "number", "time"])
def test_packets_that_come_in_another_order_and_twice_are_put_right(modes: str) -> None:
    order = [0, 1, 3, 2, 2, 4, 7, 5, 6, 6, 7, 8, 9]
    aligner = TrackAligner(ONE)
    pieces = put_all(
        aligner,
        (
            (0, sound(n), n * PACKET if modes != "number" else None, n if modes != "time" else None)
            for n in order
        ),
    )
    assert b"".join(piece.data for piece in pieces) == b"".join(sound(n) for n in range(10))
    assert not lost(pieces, tick_bytes=1)
    (track,) = aligner.stats.channels
    assert (track.lost, track.late, track.duplicate) == (0, 0, 3)
    assert track.reordered == 3


@pytest.mark.parametrize("modes", ["both", "number", "time"])
def test_what_never_comes_is_lost_time(modes: str) -> None:
    aligner = TrackAligner(ONE)
    missing = {5, 6, 30}
    pieces = put_all(
        aligner,
        (
            (0, sound(n), n * PACKET if modes != "number" else None, n if modes != "time" else None)
            for n in range(60)
            if n not in missing
        ),
    )
    expected = [b"\xff" * PACKET if n in missing else sound(n) for n in range(60)]
    assert b"".join(piece.data for piece in pieces) == b"".join(expected)
    assert lost(pieces, tick_bytes=1) == [(800, 1120), (4800, 4960)]
    (track,) = aligner.stats.channels
    assert (track.lost, track.lost_ms, track.late) == (3, 60, 0)


def test_a_packet_that_comes_after_its_time_was_given_up_is_late() -> None:
    aligner = TrackAligner(ONE, max_jitter_ms=100)
    order = [0, 1, 3, 4, 5, 6, 7, 2, 8, 9]
    pieces = put_all(aligner, ((0, sound(n), n * PACKET, n) for n in order))
    assert lost(pieces, tick_bytes=1) == [(320, 480)]
    (track,) = aligner.stats.channels
    assert (track.lost, track.late, track.duplicate, track.lost_ms) == (0, 1, 0, 20)


def test_a_silent_channel_is_lost_once_another_is_far_enough_ahead() -> None:
    aligner = TrackAligner(TWO, max_jitter_ms=100)
    pieces: list[AudioData] = []
    for n in range(20):
        pieces += aligner.put(0, sound(n), at_tick=n * PACKET, number=n)
        if n < 5 or n >= 15:
            pieces += aligner.put(1, sound(n, 1), at_tick=n * PACKET, number=n)
        if n == 14:
            assert sum(len(piece.data) for piece in pieces) // 2 == 15 * PACKET - 800
    pieces += aligner.flush()
    first, second = channels(pieces)
    assert first == b"".join(sound(n) for n in range(20))
    assert lost(pieces, 0) == []
    assert lost(pieces, 1) == [(800, 2400)]
    assert second[2400:] == b"".join(sound(n, 1) for n in range(15, 20))


def test_channels_that_start_and_end_apart_are_lost_before_and_after() -> None:
    aligner = TrackAligner(TWO)
    packets = [(0, sound(n), n * PACKET, None) for n in range(50)]
    packets += [(1, sound(n, 1), n * PACKET, None) for n in range(20, 60)]
    packets.sort(key=lambda packet: packet[2])
    pieces = put_all(aligner, packets)
    first, second = channels(pieces)
    assert len(first) == len(second) == 60 * PACKET
    assert lost(pieces, 0) == [(8000, 9600)]
    assert lost(pieces, 1) == [(0, 3200)]
    assert second[3200:3360] == sound(20, 1)


def test_the_clock_begins_with_the_earliest_audio_not_with_the_first_packet() -> None:
    aligner = TrackAligner(TWO)
    pieces = put_all(
        aligner,
        [(0, sound(1), 160, None), (1, sound(0, 1), 0, None), (1, sound(1, 1), 160, None)],
    )
    assert lost(pieces, 0) == [(0, 160)]
    assert lost(pieces, 1) == []


def test_noise_of_times_moves_nothing() -> None:
    random.seed(1)
    aligner = TrackAligner(TWO)
    packets = [
        (c, sound(n, c), n * PACKET + random.randrange(-60, 61), n)
        for n in range(500)
        for c in range(2)
    ]
    pieces = put_all(aligner, packets)
    for channel in (0, 1):
        assert sum(end - start for start, end in lost(pieces, channel)) <= 120
        assert aligner.stats.channels[channel].lost == 0
        assert aligner.stats.channels[channel].jumps == 0


@pytest.mark.parametrize("ppm", [-200, 0, 200])
def test_drift_is_measured_and_made_up_for(ppm: int) -> None:
    """Channel 1's samples come ``ppm`` too fast; times are those of a clock with 1 ms steps."""
    random.seed(ppm)
    aligner = TrackAligner(TWO)
    worst = 0.0
    for n in range(30_000):  # ten minutes
        for channel, fast in ((0, 0), (1, ppm)):
            true_ms = (n + 1) * 20 / (1 + fast * 1e-6)
            stamp_ms = int(true_ms - 20 + random.gauss(0, 2))
            aligner.put(channel, sound(n, channel), at_tick=stamp_ms * 8, number=n)
            position = aligner._tracks[channel].position
            assert position is not None
            if n > 250:
                worst = max(worst, abs(position / 8 - true_ms))
    assert worst < 6
    still, drifting = aligner.stats.channels
    assert still.drift_ppm == pytest.approx(0, abs=2)
    assert drifting.drift_ppm == pytest.approx(ppm, abs=2)
    assert still.lost == drifting.lost == still.jumps == drifting.jumps == 0
