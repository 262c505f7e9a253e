"""What the child makes of messages, run in this process: everything but the process itself."""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ser_engine.types import FloatArray
from stream_server.decoding.child import Pipe, main
from stream_server.wire.codecs import CODECS
from tests.support.fake_engine import square
from tests.support.media_files import live_messages

pytestmark = pytest.mark.needs("av")

RATE = 16_000
TWO = np.stack([square(2 * RATE, 0.1), square(2 * RATE, 0.3)], axis=1)
ONE = TWO[:, :1]


@dataclass
class Messages(Pipe):
    """The pipe of a child that is fed by a list."""

    waiting: list[tuple[bytes, bytes]]
    samples: bytearray = field(default_factory=bytearray)
    holes: list[tuple[int, int]] = field(default_factory=list)  # bytes before it, samples of it
    answers: int = 0
    ffmpeg: str = ""
    error: str = ""

    def receive(self) -> tuple[bytes, bytes]:
        return self.waiting.pop(0)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        match kind:
            case b"S":
                self.samples += payload
            case b"L":
                self.holes.append((len(self.samples), struct.unpack(">Q", payload)[0]))
            case b"K":
                self.answers += 1
            case b"F":
                self.ffmpeg = payload.decode()
            case _:
                self.error = payload.decode()


def decode(name: str, data: Iterable[bytes], channels: int = 1, rate_hz: int = RATE) -> Messages:
    codec = CODECS[name]
    waiting = [(b"D", each) for each in data]
    asked = len(waiting) + 1
    pipe = Messages([*waiting, (b"E", b"")])
    job: dict[str, Any] = {
        "words": codec.words,
        "container": codec.container,
        "decoder": codec.decoder,
        "decoder_hz": codec.decoder_hz,
        "packet_bytes": codec.packet_bytes,
        "rate_hz": rate_hz,
        "channels": channels,
    }
    main(job, pipe)
    assert pipe.error or pipe.answers == asked, "each message is answered, once"
    return pipe


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


def levels(pipe: Messages, channels: int) -> FloatArray:
    samples = np.frombuffer(pipe.samples, "<i2").reshape(-1, channels) / 32_768
    return np.asarray(np.abs(samples[RATE // 2 : 3 * RATE // 2]).mean(axis=0), np.float32)


FORMATS = [
    ("webm", TWO),
    ("ogg", TWO),
    ("mp4", TWO),
    ("flac", TWO),
    ("mp3", TWO),
    ("aac", TWO),
    ("wav", TWO),
    ("amr", ONE),
    ("amr-nb", ONE),
    ("g722", ONE),
]


@pytest.mark.parametrize(("name", "samples"), FORMATS)
def test_how_the_bytes_are_split_does_not_matter(name: str, samples: FloatArray):
    data, channels = b"".join(live_messages(name, samples)), samples.shape[1]
    whole = decode(name, [data], channels)
    assert (whole.error, whole.holes) == ("", [])
    # Encoders add up to 0.12 s before and after.
    assert len(whole.samples) / 2 / channels == pytest.approx(len(samples), abs=2000)
    np.testing.assert_allclose(levels(whole, channels), [0.1, 0.3][:channels], 0.2)
    for seed in range(4):
        cut = random.Random(seed)
        # The beginning byte by byte, too: that is where headers are.
        cuts = [*range(60 * (seed % 2)), *(cut.randrange(len(data)) for _ in range(10 * seed))]
        assert decode(name, split(data, cuts), channels).samples == whole.samples


def test_packets_of_opus_and_one_that_was_lost():
    packets = live_messages("opus", TWO)
    whole = decode("opus", packets, 2)
    np.testing.assert_allclose(levels(whole, 2), [0.1, 0.3], 0.2)
    # An empty message says that a packet never came: 20 ms of silence that is no silence.
    packets[50] = b""
    lost = decode("opus", packets, 2)
    ((at, length),) = lost.holes
    assert length == 320
    assert at == pytest.approx(50 * 1280, abs=1280)
    assert len(lost.samples) + 4 * length == pytest.approx(len(whole.samples), abs=64)


def test_what_a_network_or_a_disk_lost_of_a_container_is_a_hole():
    (data,) = live_messages("webm", TWO)
    third = len(data) // 3
    pipe = decode("webm", [data[:third], data[third + 3000 :]], 2)
    ((_, length),) = pipe.holes
    assert 0.03 * RATE < length < RATE
    assert len(pipe.samples) // 4 + length == pytest.approx(2 * RATE, abs=480)


def test_after_a_pause_that_was_told_the_times_of_a_container_make_no_second_gap():
    (data,) = live_messages("webm", TWO)
    third = len(data) // 3
    pipe = Messages([(b"D", data[:third]), (b"A", b""), (b"D", data[third + 3000 :]), (b"E", b"")])
    main(
        {"container": "matroska", "rate_hz": RATE, "channels": 2, "words": "", "decoder": ""}, pipe
    )
    assert (pipe.holes, pipe.error) == ([], "")


@pytest.mark.parametrize("name", ["g729", "amr-wb"])
def test_frames_that_nothing_here_encodes_are_cut_and_decoded(name: str):
    rate_hz = CODECS[name].decoder_hz
    noise = np.random.default_rng(0)
    # Of AMR-WB the frame type 3 is 36 bytes after its header.
    frame, size = {"g729": (b"", 10), "amr-wb": (bytes([3 << 3 | 4]), 36)}[name]
    data = b"".join(frame + noise.bytes(size) for _ in range(50))
    pieces = split(data, range(0, len(data), 7))
    pipe = decode(name, pieces, 1, rate_hz)
    per_frame_s = {"g729": 0.01, "amr-wb": 0.02}[name]
    assert len(pipe.samples) // 2 == round(50 * per_frame_s * rate_hz)
    assert pipe.samples == decode(name, [data], 1, rate_hz).samples


NOISE = np.random.default_rng(1).bytes(400_000)
SAMPLES = (
    (np.random.default_rng(2).normal(size=200_000).cumsum() * 300 % 16_000).astype("<i2").tobytes()
)


@pytest.mark.parametrize(
    "name", ["webm", "ogg", "mp4", "flac", "mp3", "aac", "wav", "amr", "amr-nb", "amr-wb", "opus"]
)
@pytest.mark.parametrize("data", [NOISE, SAMPLES], ids=["noise", "samples"])
def test_what_is_not_audio_of_its_kind_is_an_error_and_no_sound(name: str, data: bytes):
    pipe = decode(name, split(data, range(0, len(data), 700)))
    assert pipe.error
    # FFmpeg's own words are for the log.
    assert "nvalid data" not in pipe.error and "Errno" not in pipe.error
    # A packet of Opus may be nearly anything, so it takes some of them.
    assert len(pipe.samples) < 2 * RATE * (3 if name == "opus" else 0.5)


def test_other_channels_than_told_are_an_error():
    (data,) = live_messages("webm", TWO)
    assert decode("webm", [data], 1).error == (
        "got 2 channels in the audio, expected 1 as declared; declare 2, or send 1"
    )


def test_mp4_that_does_not_begin_with_its_header():
    (data,) = live_messages("mp4", TWO)
    at = data.index(b"moov") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    pipe = decode("mp4", [data[:at] + data[at + length :]], 2)
    assert "expected 'moov' before it; write it in fragments or with 'faststart'" in pipe.error


SPEEX = base64.b64decode(
    "T2dnUwACAAAAAAAAAACSBI1AAAAAAMAdutwBUFNwZWV4ICAgMS4yLjEAAAAAAAAAAAAAAAAAAAABAAAAUAAAAEAf"
    "AAAAAAAABAAAAAEAAAD/////oAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAT2dnUwAAAAAAAAAAAACSBI1AAQAAAIEI"
    "avEBIBgAAABFbmNvZGVkIHdpdGggU3BlZXggMS4yLjEAAAAAT2dnUwAEQAYAAAAAAACSBI1AAgAAAPb2p5cLCgoK"
    "CgoKCgoKCgpAT4gq7Zyk6sJGQE+IXCysJOrCTkBPiFwsrCTqwk5AT4hcLKwk6sJOQE+IXCysJOrCTkBPiFwsrCTq"
    "wk5AT4hcLKwk6sJOQE+IXCysJOrCTkBPiFwsrCTqwk5AT4hcLKwk6sJOQE+IXCysJOrCTg=="
)
"""A fifth of a second of a tone at 8 kHz, by speexenc: FFmpeg has no encoder of Speex."""


def test_ogg_with_speex_is_decoded():
    pipe = decode("ogg", split(SPEEX, range(0, len(SPEEX), 50)), 1, 8000)
    assert (pipe.error, pipe.holes) == ("", [])
    assert len(pipe.samples) // 2 == pytest.approx(1600, abs=320)
    assert np.abs(np.frombuffer(pipe.samples, "<i2")).mean() > 1000


def test_what_ffmpeg_says_of_damage_is_for_the_log():
    (data,) = live_messages("webm", TWO)
    pipe = decode("webm", [data[:30] + NOISE[:300_000]], 2)
    assert pipe.error == "it cannot be read: got data that make no sense in its format"
    assert pipe.ffmpeg.startswith("InvalidDataError: ")
    # It does not end: it is given up.
    assert "no audio" in decode("webm", [data[:60] + NOISE[:300_000]], 2).error


def a_tag(size: int) -> bytes:
    """Return an ID3v2 tag with a picture."""
    picture = b"\0image/jpeg\0\3\0" + np.random.default_rng(3).bytes(size)
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    return b"ID3\3\0\0" + bytes(len(frame) >> 7 * at & 127 for at in (3, 2, 1, 0)) + frame


def a_picture(size: int) -> bytes:
    """Return FLAC's block of one."""
    fields = struct.pack(">II10sIIIIII", 3, 10, b"image/jpeg", 0, 9, 9, 24, 0, size)
    block = fields + np.random.default_rng(3).bytes(size)
    return b"\6" + len(block).to_bytes(3, "big") + block


@pytest.mark.parametrize("name", ["mp3", "aac", "flac", "wav"])
def test_pictures_before_the_audio_are_passed_over(name: str):
    (data,) = live_messages(name, TWO)
    whole, size = decode(name, [data], 2), 400_000
    match name:
        case "flac":
            # Before the blocks that follow STREAMINFO.
            assert not data[4] & 128
            data = data[:42] + a_picture(size) + data[42:]
        case "wav":
            at = data.index(b"data")
            data = data[:at] + b"LIST" + struct.pack("<I", size) + bytes(size) + data[at:]
        case _:
            data = a_tag(size) + data
    pipe = decode(name, split(data, range(0, len(data), 5000)), 2)
    assert (pipe.error, pipe.holes) == ("", [])
    assert pipe.samples == whole.samples


def test_a_picture_without_end_is_not_waited_for():
    data = a_tag(100)
    pipe = decode("mp3", [data[:6] + b"\x7f" * 4 + data[10:]])
    assert pipe.error == (
        "got 268435465 bytes before the audio, expected at most 16777216; send it without pictures"
    )


@pytest.mark.parametrize(
    ("name", "length"), [("webm", 200), ("ogg", 3000), ("mp4", 900), ("flac", 42), ("wav", 44)]
)
def test_a_stream_that_ends_in_its_header_says_so(name: str, length: int):
    data = b"".join(live_messages(name, TWO))[:length]
    assert decode(name, split(data, range(0, length, 10)), 2).error == (
        "it ended before its first audio"
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_a_chained_stream_of_ogg_goes_on_if_it_is_of_the_same_kind(channels: int):
    first = b"".join(live_messages("ogg", TWO[:, :channels]))
    other = b"".join(live_messages("ogg", TWO))
    alone, both = decode("ogg", [first], channels), decode("ogg", [first + other], channels)
    if channels == 2:
        assert (len(both.samples), both.error) == (2 * len(alone.samples), "")
    else:
        assert "begin another stream for what follows" in both.error


def test_amr_of_several_channels_is_not_taken_for_one():
    (data,) = live_messages("amr", ONE)
    several = b"#!AMR_MC1.0\n\0\0\0\2" + data[6:]
    assert decode("amr", split(several, range(20))).error == (
        "got AMR of several channels, expected one channel"
    )


def test_nothing_was_sent():
    pipe = decode("webm", [])
    assert not pipe.error
    assert not pipe.samples
