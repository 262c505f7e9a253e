"""What is read of a Kinesis video stream of Amazon Connect, however it comes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.platforms.amazon_connect import Announcement, ContactAudio
from stream_server.platforms.amazon_connect.matroska import MatroskaReader
from stream_server.wire.dialect import AudioData
from stream_server.wire.errors import ErrorCode, ProtocolError
from tests.support.kinesis import ARN, BLOCK_BYTES, CONTACT, element, event, fragments, tags

BLOCKS = 40


def tone(hz: int, blocks: int = BLOCKS) -> bytes:
    at = np.arange(blocks * BLOCK_BYTES // 2)
    return (8000 * np.sin(2 * np.pi * hz * at / 8000)).astype("<i2").tobytes()


SIDES = (tone(440), tone(880))
BEGIN = element(0x1A45DFA3, b"")


def announced(**fields: Any) -> Announcement:
    return Announcement.of(json.dumps(event(**fields)).encode())


def heard(pieces: Iterable[bytes]) -> tuple[list[AudioData], ContactAudio]:
    audio = ContactAudio(announced(), max_jitter_ms=200)
    found: list[AudioData] = []
    for piece in pieces:
        found += audio.receive(piece)
    return [*found, *audio.flush()], audio


def sides_of(found: Iterable[AudioData], channels: int = 2) -> list[bytes]:
    samples = np.frombuffer(b"".join(each.data for each in found), "<i2").reshape(-1, channels)
    return [np.ascontiguousarray(each).tobytes() for each in samples.T]


@pytest.mark.parametrize("is_tagged_first", [False, True])
@pytest.mark.parametrize("has_sizes", [False, True])
def test_both_sides_are_read_however_the_bytes_are_split(is_tagged_first: bool, has_sizes: bool):
    data = b"".join(fragments(SIDES, is_tagged_first=is_tagged_first, has_sizes=has_sizes))
    cut = random.Random(0)
    ends = [0, *sorted(cut.sample(range(1, len(data)), 500)), len(data)]
    pieces = [data[a:b] for a, b in pairwise(ends)]
    found, audio = heard(pieces)
    assert tuple(sides_of(found)) == SIDES
    assert all(not each.lost for each in found) and audio.num_channels == 2


def test_audio_of_another_contact_is_never_given_out():
    ours, theirs = fragments(SIDES), fragments(SIDES, contact="somebody-else", first=BLOCKS)
    found, audio = heard([*ours, theirs[0][:-1], theirs[0][-1:], *theirs[1:]])
    assert audio.is_over and tuple(sides_of(found)) == SIDES
    # Even where the tag comes behind the audio, and the response breaks off before it.
    audio = ContactAudio(announced(), max_jitter_ms=200)
    assert audio.receive(theirs[0][: theirs[0].index(b"ContactId")]) == []
    audio.begin_response()
    assert audio.flush() == []


def test_a_fragment_that_does_not_say_whose_it_is_belongs_to_the_last_contact():
    found, audio = heard(
        [*fragments(SIDES), *fragments(SIDES, contact=None, first=BLOCKS)],
    )
    assert tuple(sides_of(found)) == tuple(each * 2 for each in SIDES) and not audio.is_over


def test_what_is_missing_is_lost_and_what_comes_twice_is_dropped():
    first, second = fragments(SIDES), fragments(SIDES, first=BLOCKS + 8)
    found, audio = heard([*first, first[-1], *second])
    lost = [span for each in found for span in each.lost]
    assert {span.channel for span in lost} == {0, 1}
    assert sum(span.end_tick - span.start_tick for span in lost) == 2 * 8 * BLOCK_BYTES // 2
    assert audio.stats.channels[0].lost > 0


def test_streams_of_what_the_customer_says_only():
    found, audio = heard(fragments(SIDES[:1], names=("Track_audio/L16",)))
    assert audio.num_channels == 1 and sides_of(found, 1) == [SIDES[0]]
    found, audio = heard(fragments(SIDES, names=("AUDIO_TO_CUSTOMER", "AUDIO_FROM_CUSTOMER")))
    assert sides_of(found) == [SIDES[1], SIDES[0]]


def test_going_on_after_the_last_whole_fragment():
    whole = fragments(SIDES)
    _, audio = heard([*whole[:2], whole[2][:-40]])
    assert whole[1].endswith(audio.token.encode())
    _, audio = heard([BEGIN + tags(("AWS_KINESISVIDEO_ERROR_CODE", "4006"))])
    assert audio.error_code == "4006"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"RIFF....WAVEfmt ", "0x5249"),
        (b"\x00" * 16, "0x00"),
        (element(0xA3, b"\x81\0\0\x06abc"), "lacing"),
        (element(0xA3, b"\x81"), "a block of 1 bytes"),
        (b"\xa3" + (1 << 56 | 1 << 30).to_bytes(8, "big"), "1073741824 bytes"),
        (b"\xec\xff", "without a size"),
        (tags(("MimeType", "audio/L16;rate=16000;channels=1;")), "16000 Hz"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, words: str):
    with pytest.raises(ProtocolError, match=words) as caught:
        heard([data if data[0] in b"R\0" else BEGIN + data])
    assert caught.value.code is ErrorCode.BAD_FORMAT


@settings(max_examples=30)
@given(st.binary(max_size=400), st.integers(0, 4000), st.integers(1, 50))
def test_damaged_bytes_are_refused_or_read_but_nothing_else(noise: bytes, at: int, size: int):
    (data,) = fragments(tuple(each[: 2 * BLOCK_BYTES] for each in SIDES))
    data = data[:at] + noise + data[at + len(noise) :]
    try:
        whole = MatroskaReader().receive(data)
    except ProtocolError as error:
        assert error.code is ErrorCode.BAD_FORMAT
        return
    reader = MatroskaReader()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    assert [each for piece in pieces for each in reader.receive(piece)] == whole


def test_an_announcement_tells_the_stream_and_no_numbers_or_attributes():
    found = announced(after=None, roles="agent customer")
    assert (found.contact_id, found.arn, found.region) == (CONTACT, ARN, "eu-west-2")
    assert found.after == ""
    spec = found.spec(("customer", "agent"), 2)
    assert [each.role for each in spec.channels] == ["agent", "customer"]
    assert spec.call_id == spec.name == CONTACT
    assert spec.metadata == {"platform": "amazon-connect", "queue": "Billing"}


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("ContactId", "x y", ErrorCode.BAD_START),
        ("ContactId", 7, ErrorCode.BAD_MESSAGE),
        ("MediaStreams", {}, ErrorCode.BAD_START),
        ("MediaStreams", None, ErrorCode.BAD_START),
        ("MediaStreams", {"Customer": {"Audio": None}}, ErrorCode.BAD_START),
        (
            "MediaStreams",
            {"Customer": {"Audio": {"StreamARN": "arn:aws:kinesisvideo:x.evil.org/:1:stream/a/1"}}},
            ErrorCode.BAD_START,
        ),
        (
            "MediaStreams",
            {"Customer": {"Audio": {"StreamARN": ARN, "StartFragmentNumber": "now"}}},
            ErrorCode.BAD_START,
        ),
    ],
)
def test_what_is_no_contact_is_refused(path: str, value: Any, code: ErrorCode):
    said = event()
    said["Details"]["ContactData"][path] = value
    with pytest.raises(ProtocolError) as caught:
        Announcement.of(json.dumps(said).encode())
    assert caught.value.code is code


@settings(max_examples=30)
@given(st.binary(max_size=200) | st.text(max_size=50).map(json.dumps))
def test_an_announcement_may_be_anything(body: bytes | str):
    with pytest.raises(ProtocolError):
        Announcement.of(body if isinstance(body, bytes) else body.encode())
