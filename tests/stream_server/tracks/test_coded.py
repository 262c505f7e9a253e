"""Packets of codecs get the places that their samples would get."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.tracks import TrackAligner
from stream_server.tracks.coded import CodedTracks, opus_samples, track_format
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, CodedAudio
from stream_server.wire.errors import ErrorCode, ProtocolError
from tests.support.media_files import live_messages

RATE = 16_000
TWO = AudioFormat("pcm_s16le", RATE, 2)


def decoded(payload: bytes) -> bytes:
    """Return two samples a byte, as G.722 would if it had no memory."""
    return np.repeat(np.frombuffer(payload, np.uint8), 2).astype("<i2").tobytes()


def named(coded: list[CodedAudio]) -> list[AudioData]:
    """Put samples in the places of their numbers."""
    known: list[dict[int, int]] = [{0: 0}, {0: 0}]
    pieces = []
    for each in coded:
        if (came := each.came) is not None:
            samples = np.frombuffer(decoded(came.payload), "<i2").tolist()
            assert len(samples) == came.num_samples
            known[came.channel] |= dict(enumerate(samples, came.first))
        for placed in each.placed:
            numbers = np.frombuffer(placed.data, np.uint32).reshape(-1, 2)
            samples = [[known[c][int(n)] for c, n in enumerate(row)] for row in numbers]
            pieces.append(AudioData(np.array(samples, "<i2").tobytes(), placed.lost))
    return pieces


@settings(max_examples=60, deadline=None)
@given(
    packets=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.binary(min_size=1, max_size=40),
            st.none() | st.integers(0, 3000),
            st.none() | st.integers(0, 40),
        ),
        max_size=40,
    )
)
def test_whatever_comes_the_samples_lie_where_the_aligner_puts_them(
    packets: list[tuple[int, bytes, int | None, int | None]],
):
    aligner = TrackAligner(TWO, max_jitter_ms=20)
    tracks = CodedTracks(track_format("g722", 2), max_jitter_ms=20)
    expected: list[AudioData] = []
    coded: list[CodedAudio] = []
    for channel, payload, at_tick, number in packets:
        expected += aligner.put(channel, decoded(payload), at_tick=at_tick, number=number)
        coded += tracks.put(channel, payload, at_tick=at_tick, number=number)
    assert named([*coded, *tracks.flush()]) == [*expected, *aligner.flush()]
    assert tracks.stats == aligner.stats


def test_numbers_begin_anew_before_they_are_too_long_for_four_bytes(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("stream_server.tracks.coded._LAST_NUMBER", 1000)
    tracks = CodedTracks(track_format("g722", 1))
    firsts = [
        each.came.first
        for _ in range(5)
        for each in tracks.put(0, bytes(160))
        if each.came is not None
    ]
    assert firsts == [1, 321, 641, 1, 321]


@given(payload=st.binary(max_size=40) | st.binary(min_size=1200, max_size=4000))
def test_any_bytes_have_the_length_of_opus_or_none(payload: bytes):
    assert opus_samples(payload) in range(0, 48 * 120 + 1, 120)


@pytest.mark.parametrize(
    ("payload", "samples"),
    [
        (b"\x48" + bytes(20), 960),  # one frame of SILK, 20 ms
        (b"\x19" + bytes(20), 2 * 2880),  # two of 60 ms
        (b"\xe3\x03" + bytes(20), 3 * 120),  # three of CELT, 2.5 ms
        (b"\xfb\x07", 0),  # seven of 20 ms are too many
        (b"\xfb", 0),  # it does not say how many
        (b"\x48" + bytes(4000), 0),  # no frame is so long
        (b"", 0),
    ],
)
def test_how_long_a_packet_of_opus_is(payload: bytes, samples: int):
    assert opus_samples(payload) == samples


@pytest.mark.needs("av")
def test_packets_of_a_real_encoder_have_their_length():
    import av

    packets = live_messages("opus", np.zeros((RATE, 1), np.float32))
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    for packet in packets:
        assert opus_samples(packet) == sum(f.samples for f in decoder.decode(av.Packet(packet)))


@pytest.mark.parametrize(("codec", "payload"), [("opus", b""), ("opus", b"\xfb"), ("g722", b"")])
def test_what_is_no_packet_is_a_bad_message(codec: str, payload: bytes):
    with pytest.raises(ProtocolError, match=f"no packet of {codec}") as caught:
        CodedTracks(track_format(codec, 1)).put(0, payload)
    assert caught.value.code is ErrorCode.BAD_MESSAGE
