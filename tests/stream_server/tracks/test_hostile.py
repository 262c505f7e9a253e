"""What makes no sense is bounded, counted and does not stop the stream."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.tracks import TrackAligner
from stream_server.tracks.track import MAX_HOLE_S
from stream_server.wire.audio_format import AudioFormat, Encoding
from stream_server.wire.dialect import AudioData

RATE, PACKET = 8_000, 160
ONE = AudioFormat("mulaw", RATE, 1)
TWO = AudioFormat("mulaw", RATE, 2)

SAMPLE_BYTES: dict[Encoding, int] = {"mulaw": 1, "alaw": 1, "pcm_s16le": 2, "pcm_f32le": 4}

packets = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 700),
        st.none() | st.integers(-2000, 20_000) | st.integers(-(10**30), 10**30),
        st.none() | st.integers(0, 60) | st.integers(-(10**30), 10**30),
    ),
    max_size=60,
)


@pytest.mark.parametrize("encoding", SAMPLE_BYTES)
@pytest.mark.parametrize("ticks", ["media", "arrival"])
@settings(max_examples=25)
@given(drawn=packets, max_jitter_ms=st.integers(20, 2000))
def test_whatever_comes_all_channels_are_equally_long_and_little_is_held(
    encoding: Encoding,
    ticks: str,
    drawn: list[tuple[int, int, int | None, int | None]],
    max_jitter_ms: int,
) -> None:
    audio_format = AudioFormat(encoding, RATE, 2)
    aligner = TrackAligner(audio_format, max_jitter_ms=max_jitter_ms, ticks=ticks)  # type: ignore[arg-type]
    size = SAMPLE_BYTES[encoding]
    pieces: list[AudioData] = []
    counts = [0, 0]
    for channel, length, at_tick, number in drawn:
        counts[channel] += 1
        pieces += aligner.put(channel, bytes(length), at_tick=at_tick, number=number)
    pieces += aligner.flush()
    assert aligner.flush() == []
    total = 0
    lost = [0, 0]
    for piece in pieces:
        num_ticks, rest = divmod(len(piece.data), 2 * size)
        assert 0 < num_ticks <= RATE
        assert rest == 0
        total += num_ticks
        ends = [0, 0]
        for span in piece.lost:
            assert ends[span.channel] <= span.start_tick < span.end_tick <= num_ticks
            ends[span.channel] = span.end_tick
            lost[span.channel] += span.end_tick - span.start_tick
    for channel, track in enumerate(aligner.stats.channels):
        assert track.packets == counts[channel]
        assert track.lost_ms == pytest.approx(lost[channel] / 8, abs=1)
        assert min(track.lost, track.late, track.duplicate, track.reordered, track.jumps) >= 0
        assert track.late + track.duplicate <= track.packets
        # No audio is made: what is there and not lost came, single samples against drift aside.
        assert total - lost[channel] <= track.received_ms * 8 + 8 + track.slips
    assert total <= len(drawn) * (MAX_HOLE_S * RATE + 700)


def test_a_wrong_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="got channel 2, expected 0 to 1"):
        TrackAligner(TWO).put(2, b"")


def test_a_sample_that_is_not_whole_is_left_out() -> None:
    aligner = TrackAligner(AudioFormat("pcm_s16le", RATE, 1))
    (piece,) = aligner.put(0, b"\x01\x00\x02\x00\x03")
    assert piece.data == b"\x01\x00\x02\x00"


@pytest.mark.parametrize(
    ("encoding", "silent"), [("mulaw", b"\xff"), ("alaw", b"\xd5"), ("pcm_s16le", b"\0\0")]
)
def test_lost_time_is_digital_silence(encoding: Encoding, silent: bytes) -> None:
    aligner = TrackAligner(AudioFormat(encoding, RATE, 2))
    (piece,) = [*aligner.put(0, b"\x11" * 160 * len(silent)), *aligner.flush()]
    assert piece.data == (b"\x11" * len(silent) + silent) * 160


def test_one_wrong_time_is_noise_wherever_it_points() -> None:
    for far in (-(10**9), -8_000, 8_000, 10**9):
        aligner = TrackAligner(ONE)
        pieces: list[AudioData] = []
        for n in range(100):
            at_tick = n * PACKET + (far if n == 50 else 0)
            pieces += aligner.put(0, bytes([n + 1]) * PACKET, at_tick=at_tick, number=n)
        pieces += aligner.flush()
        assert b"".join(piece.data for piece in pieces) == b"".join(
            bytes([n + 1]) * PACKET for n in range(100)
        )
        assert aligner.stats.lost == 0


def test_times_that_jump_further_than_a_hole_may_be_are_read_anew() -> None:
    aligner = TrackAligner(ONE)
    pieces: list[AudioData] = []
    for n in range(200):
        at_tick = n * PACKET + (10**9 if n >= 100 else 0)
        pieces += aligner.put(0, bytes([n + 1]) * PACKET, at_tick=at_tick)
    pieces += aligner.flush()
    assert sum(len(piece.data) for piece in pieces) == 200 * PACKET
    (track,) = aligner.stats.channels
    assert (track.jumps, track.lost_ms) == (1, 0)


def test_a_pause_of_a_minute_is_a_hole_of_a_minute_that_takes_little_memory() -> None:
    aligner = TrackAligner(TWO)
    pieces: list[AudioData] = []
    for n in range(200):
        for channel in (0, 1):
            at_tick = n * PACKET + (60 * RATE if n >= 100 else 0)
            pieces += aligner.put(channel, bytes([n + 1]) * PACKET, at_tick=at_tick, number=n)
    pieces += aligner.flush()
    assert sum(len(piece.data) for piece in pieces) == 2 * (200 * PACKET + 60 * RATE)
    for track in aligner.stats.channels:
        assert (track.lost, track.lost_ms, track.jumps) == (0, 60_000, 0) or track.lost > 0
        assert (track.lost_ms, track.jumps) == (60_000, 0)
    assert len({id(piece.data) for piece in pieces if len(piece.data) == 2 * RATE}) == 1


@pytest.mark.parametrize("numbered", [True, False])
def test_times_that_begin_anew_cost_a_second_at_most(numbered: bool) -> None:
    aligner = TrackAligner(ONE)
    pieces: list[AudioData] = []
    for n in range(400):
        at_tick = (n if n < 200 else n - 200) * PACKET
        pieces += aligner.put(
            0, bytes([n % 250 + 1]) * PACKET, at_tick=at_tick, number=n if numbered else None
        )
    pieces += aligner.flush()
    received = sum(len(piece.data) for piece in pieces)
    assert (400 - 52) * PACKET <= received <= 400 * PACKET
    (track,) = aligner.stats.channels
    assert track.jumps == 1


def test_numbers_that_begin_anew_cost_a_packet() -> None:
    aligner = TrackAligner(ONE)
    pieces: list[AudioData] = []
    for n in range(400):
        number = 60_000 + n if n < 200 else n - 200
        pieces += aligner.put(0, bytes([n % 250 + 1]) * PACKET, number=number)
    pieces += aligner.flush()
    assert sum(len(piece.data) for piece in pieces) == 399 * PACKET
    assert aligner.stats.channels[0].jumps == 1


def test_a_channel_whose_times_lie_back_is_taken_up_after_a_second() -> None:
    aligner = TrackAligner(TWO)
    pieces: list[AudioData] = []
    for n in range(300):
        pieces += aligner.put(0, b"\x01" * PACKET, at_tick=80_000 + n * PACKET, number=n)
        pieces += aligner.put(1, b"\x02" * PACKET, at_tick=n * PACKET, number=n)
    pieces += aligner.flush()
    first, second = aligner.stats.channels
    assert (first.late, first.jumps) == (0, 0)
    assert second.jumps == 1
    assert second.late <= 51
    heard = b"".join(piece.data for piece in pieces)[1::2].count(2)
    assert heard >= (300 - 62) * PACKET


def test_tiny_packets_do_not_pile_up() -> None:
    aligner = TrackAligner(ONE, max_jitter_ms=2000)
    aligner.put(0, b"\x01", number=0)
    for n in range(2, 3000):
        aligner.put(0, b"\x01", number=n)
        assert len(aligner._tracks[0]._order.held) <= 256


def test_random_loss_delay_and_copies_never_move_the_audio() -> None:
    """Each sample that comes out lies where its packet's number says."""
    rng = random.Random(3)
    aligner = TrackAligner(TWO, max_jitter_ms=100)
    sent = [
        (n + rng.choice([0, 0, 0, 0, rng.uniform(0, 8)]), channel, n)
        for n in range(1000)
        for channel in (0, 1)
        for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 1, 1, 2]))
    ]
    pieces: list[AudioData] = []
    for _, channel, n in sorted(sent):
        noise = rng.randrange(-16, 17)
        pieces += aligner.put(
            channel, bytes([n % 250 + 1]) * PACKET, at_tick=777 + n * PACKET + noise, number=n
        )
    pieces += aligner.flush()
    data = b"".join(piece.data for piece in pieces)
    for channel in (0, 1):
        samples = data[channel::2]
        assert len(samples) == pytest.approx(1000 * PACKET, abs=2 * PACKET)
        off = [
            tick
            for tick, value in enumerate(samples)
            if value != 255
            and (tick + 24) // PACKET % 250 + 1 != value
            and max(tick - 24, 0) // PACKET % 250 + 1 != value
        ]
        assert not off
        track = aligner.stats.channels[channel]
        assert track.lost > 50 and track.late > 0 and track.duplicate > 0 and track.reordered > 0
