"""AudioSocket, against frames that others encoded and against any bytes at all."""

from __future__ import annotations

import re
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.asterisk.audiosocket import (
    AUDIO_RATES_HZ,
    HANGUP,
    MAX_PAYLOAD_BYTES,
    AudioSocketLeg,
    CallerAudio,
    Frame,
    FrameParser,
    FrameType,
    Identified,
    KeyPressed,
    LegFailed,
    LegOver,
    encode_audio,
    encode_frame,
    encode_uuid,
)
from stream_server.wire.errors import ErrorCode, ProtocolError

CALL = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
RAMP = struct.pack("<160h", *((sample - 80) * 400 for sample in range(160)))

VECTORS = [
    # What the npm package asterisk-audiosocket 0.1.0 (encodeFrame, encodeAudio, encodeHangup)
    # answered; its FrameParser was held against 43 frames of this encoder in pieces, by hand.
    (Frame(FrameType.UUID, CALL.bytes), "01001040325ec25efd4bd3805f53576e581d13"),
    (Frame(FrameType.SLIN, RAMP), "100140" + RAMP.hex()),
    (Frame(FrameType.SLIN), "100000"),
    (Frame(FrameType.HANGUP), "000000"),
    (Frame(FrameType.ERROR, b"\x02"), "ff000102"),
    # Of the packagist package 7-zete-7/audiosocket.
    (Frame(FrameType.DTMF, b"7"), "03000137"),
    (Frame(FrameType.SLIN, b"foobar"), "100006666f6f626172"),
]

frames = st.builds(
    Frame,
    st.one_of(st.sampled_from([int(each) for each in FrameType]), st.integers(0, 255)),
    st.binary(max_size=700),
)


def identified() -> AudioSocketLeg:
    leg = AudioSocketLeg()
    assert leg.receive(encode_uuid(CALL)) == [Identified(str(CALL))]
    return leg


@pytest.mark.parametrize(("frame", "encoded"), VECTORS)
def test_frames_are_as_others_encode_them(frame: Frame, encoded: str):
    assert encode_frame(frame).hex() == encoded
    assert FrameParser().receive(bytes.fromhex(encoded)) == [frame]


def test_the_short_forms_are_frames():
    assert encode_uuid(CALL) == encode_frame(Frame(FrameType.UUID, CALL.bytes))
    assert encode_frame(Frame(FrameType.HANGUP)) == HANGUP
    for frame_type, rate in AUDIO_RATES_HZ.items():
        assert encode_audio(RAMP, rate) == encode_frame(Frame(frame_type, RAMP))


def test_what_no_frame_can_hold_is_said():
    with pytest.raises(ValueError, match="got a payload of 65536 bytes, expected at most 65535"):
        encode_audio(bytes(MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(ValueError, match="got a rate of 11025 Hz, expected one of 8000, 12000"):
        encode_audio(b"", 11_025)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 3000), max_size=12), st.binary())
def test_any_pieces_give_the_same_frames(
    sent: list[Frame], cuts: list[int], partial: bytes
) -> None:
    data = b"".join(map(encode_frame, sent)) + encode_frame(Frame(0x10, bytes(600)))[:-1]
    parser = FrameParser()
    seen = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        seen += parser.receive(data[start:end])
    assert seen == sent
    assert parser.partial_bytes == 602


@given(st.lists(st.binary(max_size=64)))
def test_no_bytes_break_a_leg(pieces: list[bytes]) -> None:
    """It takes them or fails, in pieces as in one, and what came before counts."""

    def outcome(pieces: list[bytes]) -> tuple[bytes, list[str]]:
        leg = AudioSocketLeg()
        events = [event for piece in pieces for event in leg.receive(piece)]
        audio = b"".join(each.data for each in events if isinstance(each, CallerAudio))
        return audio, [repr(each) for each in events if not isinstance(each, CallerAudio)]

    begun = [encode_uuid(CALL), encode_audio(RAMP), *pieces]
    whole, split = outcome([b"".join(begun)]), outcome(begun)
    assert whole == split
    assert whole[0].startswith(RAMP)


def failed(leg: AudioSocketLeg, data: bytes) -> ProtocolError:
    (event,) = leg.receive(data)
    assert isinstance(event, LegFailed)
    # It is over, whatever follows.
    assert leg.receive(HANGUP) == []
    return event.error


def test_a_call_from_the_uuid_to_the_hangup():
    leg = AudioSocketLeg()
    assert leg.receive(encode_uuid(CALL) + encode_audio(RAMP) + encode_audio(RAMP)) == [
        Identified("40325ec2-5efd-4bd3-805f-53576e581d13"),
        CallerAudio(8000, RAMP + RAMP),
    ]
    assert leg.receive(encode_frame(Frame(FrameType.DTMF, b"5"))) == [KeyPressed("5")]
    assert leg.receive(encode_audio(RAMP, 16_000)) == [CallerAudio(16_000, RAMP)]
    assert leg.receive(encode_frame(Frame(0x42, b"of a later version"))) == []
    assert leg.is_whole
    assert leg.receive(HANGUP + encode_audio(RAMP)) == [LegOver("stopped")]
    assert leg.receive(encode_audio(RAMP)) == []
    assert leg.num_frames == 7


def test_a_leg_that_ends_within_a_frame_is_not_whole():
    leg = identified()
    assert leg.receive(encode_audio(RAMP)[:-1]) == []
    assert not leg.is_whole


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x01", "stopped"),
        (b"\x02", "client_lost"),
        (b"\x04", "client_lost"),
        (b"", "client_lost"),
    ],
)
def test_an_error_ends_the_leg(payload: bytes, reason: str):
    leg = identified()
    (event,) = leg.receive(encode_frame(Frame(FrameType.ERROR, payload)))
    assert event == LegOver(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [rate for rate in AUDIO_RATES_HZ.values() if rate <= 48_000])
def test_rates_up_to_48_khz_are_taken(rate: int):
    assert identified().receive(encode_audio(RAMP, rate)) == [CallerAudio(rate, RAMP)]


@pytest.mark.parametrize("rate", [96_000, 192_000])
def test_higher_rates_are_refused(rate: int):
    error = failed(identified(), encode_audio(RAMP, rate))
    assert re.match(f"got audio of {rate} Hz, .* at most 48000", str(error))
    assert error.code is ErrorCode.BAD_FORMAT


def test_half_a_sample_is_refused():
    error = failed(identified(), encode_audio(RAMP[:-1]))
    assert str(error).startswith("got 319 bytes of audio, expected whole samples")


@pytest.mark.parametrize(
    "first",
    [
        encode_audio(RAMP),
        HANGUP,
        encode_frame(Frame(FrameType.UUID, CALL.bytes[:-1])),
        b"GET / HTTP/1.1\r\n" + bytes(0x4000 * 2),
    ],
)
def test_a_connection_begins_with_a_uuid(first: bytes):
    error = failed(AudioSocketLeg(), first)
    assert "expected type 0x01 with the 16 bytes" in str(error)
    assert error.code is ErrorCode.BAD_START


def test_a_connection_is_of_one_call():
    leg = identified()
    assert leg.receive(encode_uuid(CALL)) == []
    assert "got a second UUID" in str(failed(leg, encode_uuid(UUID(int=1))))
