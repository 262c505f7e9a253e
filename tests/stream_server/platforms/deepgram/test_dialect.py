from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.schema import LabelName
from stream_server.platforms.deepgram.dialect import MAX_BAD_MESSAGES, DeepgramDialect
from stream_server.platforms.deepgram.query import ListenQuery
from stream_server.wire.dialect import AudioData, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Flush, KeepAlive, Stop, error_message
from stream_server.wire.results import Flushed, StreamChannel
from stream_server.wire.start import StreamSpec
from tests.support.media_files import live_messages
from tests.support.protocol_lab import heartbeat, ready, server_messages
from tests.support.results import LABELS, make_gap, make_point, make_segment, make_summary

MONO = "encoding=linear16&sample_rate=16000"
FORMAT = b"fmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0"


def dialect(query: str = MONO) -> DeepgramDialect:
    asked = ListenQuery.of(parse_qsl(query, keep_blank_values=True))
    return DeepgramDialect(asked, ("customer", "agent"), "request-1", 1_800_000_000.25)


def begun(query: str = MONO, *, analysed: tuple[bool, ...] = (True,)) -> DeepgramDialect:
    """Return one whose stream has begun."""
    one = dialect(query)
    channels = tuple(
        StreamChannel(index=index, role=f"role-{index}", name="", analysed=is_analysed)
        for index, is_analysed in enumerate(analysed)
    )
    labels = tuple(LabelName(name=name, name_zh="") for name in LABELS)
    assert one.send(ready(labels=labels, channels=channels)) == []
    return one


def say(one: DeepgramDialect, *messages: Any) -> list[Any]:
    return [json.loads(text) for message in messages for text in one.send(message)]


def text(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def wav(data: bytes, length: int = 0) -> bytes:
    return b"RIFF\0\0\0\0WAVE" + FORMAT + b"data" + length.to_bytes(4, "little") + data


# -- What clients say ------------------------------------------------------------------------------


def test_the_stream_is_known_before_the_first_message():
    spec = dialect().start
    assert spec is not None
    assert spec.metadata == {"request_id": "request-1"}


def test_messages_of_the_specification():
    one = begun()
    assert one.receive(b"\0\1") == [AudioData(b"\0\1")]
    assert one.receive('{ "type": "KeepAlive" }') == [KeepAlive()]
    assert one.receive('{ "type": "Finalize" }') == [Flush()]
    assert one.receive('{ "type": "Finalize", "channel": 0 }') == [Flush()]
    (answer,) = one.receive(text("Configure", keyterms=["a"]))
    assert isinstance(answer, Say)
    assert json.loads(answer.messages[0]) == {
        "type": "ConfigureSuccess",
        "request_id": "request-1",
    }
    assert one.receive('{ "type": "CloseStream" }') == [Stop()]


def test_an_empty_binary_message_is_the_end_too():
    assert begun().receive(b"") == [Stop()]


@pytest.mark.parametrize("late", [b"\0\0", b"", text("KeepAlive"), text("Finalize"), "nonsense"])
def test_after_the_end_nothing_is_heard(late: str | bytes):
    one = begun()
    one.receive(text("CloseStream"))
    assert one.receive(late) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", ErrorCode.BAD_MESSAGE),
        ("[]", ErrorCode.BAD_MESSAGE),
        ('{"type": 1}', ErrorCode.BAD_MESSAGE),
        ('{"type": "Finalize", "channel": "x"}', ErrorCode.BAD_MESSAGE),
        ("[" * 5000, ErrorCode.BAD_MESSAGE),
        ("\ud800", ErrorCode.BAD_MESSAGE),
        (text("keepalive"), ErrorCode.UNKNOWN_MESSAGE),
    ],
)
def test_what_is_not_understood_leaves_the_stream_as_it_was(message: str, code: ErrorCode):
    one = begun()
    with pytest.raises(ProtocolError) as caught:
        one.receive(message)
    assert caught.value.code is code
    assert not caught.value.ends_stream
    (told,) = say(one, error_message(caught.value))
    assert (told["type"], told["variant"]) == ("Error", "SchemaError")
    assert "KeepAlive, Finalize, CloseStream or Configure" in told["description"]
    assert one.receive(b"\0\0") == [AudioData(b"\0\0")]


def test_there_is_an_end_to_it():
    one = begun()
    for _ in range(MAX_BAD_MESSAGES):
        with pytest.raises(ProtocolError):
            one.receive("?")
    with pytest.raises(ProtocolError) as caught:
        one.receive("?")
    assert caught.value.code is ErrorCode.TOO_MANY_ERRORS


# -- WAV -------------------------------------------------------------------------------------------


@given(st.integers(1, 60))
def test_a_wav_header_begins_the_stream(size: int):
    assert dialect("model=nova-3").start is None
    one = dialect("model=nova-3")
    data = wav(b"\1\2" * 40)
    requests: list[Any] = []
    for at in range(0, len(data), size):
        requests += one.receive(data[at : at + size])
    spec = requests[0]
    assert isinstance(spec, StreamSpec)
    assert one.start is spec
    assert (spec.format.encoding, spec.format.sample_rate_hz) == ("pcm_s16le", 8000)
    audio = b"".join(each.data for each in requests if isinstance(each, AudioData))
    assert audio == b"\1\2" * 40


def test_what_follows_the_audio_of_a_file_is_no_audio():
    one = dialect("")
    _, audio = one.receive(wav(b"\1\2\3\4LIST", 4))
    assert audio == AudioData(b"\1\2\3\4")
    assert one.receive(b"more texts") == [KeepAlive()]


def test_before_the_header_is_there():
    one = dialect("")
    assert one.receive(text("KeepAlive")) == []
    assert one.receive(text("Finalize")) == []
    assert one.receive(b"RIFF") == []
    told, end = one.receive(text("CloseStream"))
    assert end == Stop()
    assert isinstance(told, Say)
    metadata = json.loads(told.messages[0])
    assert (metadata["type"], metadata["duration"], metadata["channels"]) == ("Metadata", 0.0, 0)


def test_audio_that_is_neither():
    with pytest.raises(ProtocolError, match="encoding and sample_rate in the query") as caught:
        dialect("").receive(b"words")
    assert caught.value.code is ErrorCode.BAD_FORMAT


@pytest.mark.needs("av")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["webm", "ogg", "mp4", "flac", "mp3", "aac", "amr"])
def test_what_begins_with_another_header_is_decoded(name: str, channels: int):
    if name == "amr":
        channels = 1
    (data,) = live_messages(name, np.zeros((32_000, channels), np.float32))
    one = dialect("")
    requests: list[Any] = []
    for at in range(0, len(data), 7):
        requests += one.receive(data[at : at + 7])
    spec = requests[0]
    assert isinstance(spec, StreamSpec)
    assert (spec.format.codec, spec.format.num_channels) == (name, channels)
    assert b"".join(each.data for each in requests[1:]) == data


@pytest.mark.parametrize(
    ("query", "codec", "rate_hz"),
    [
        ("encoding=opus&sample_rate=48000", "opus", 48_000),
        ("encoding=ogg-opus", "ogg", 16_000),
        ("encoding=amr-nb&sample_rate=8000", "amr-nb", 8000),
        ("encoding=g729", "g729", 8000),
        ("encoding=speex&sample_rate=16000", "ogg", 16_000),
    ],
)
def test_deepgrams_codecs(query: str, codec: str, rate_hz: int):
    start = dialect(query).start
    assert start is not None
    assert (start.format.codec, start.format.sample_rate_hz) == (codec, rate_hz)
    with pytest.raises(ProtocolError, match="'silk', expected linear16"):
        dialect("encoding=silk&sample_rate=16000")


def test_a_wav_header_that_does_not_fit():
    with pytest.raises(ProtocolError, match="2 roles for 1 channels"):
        dialect("roles=a,b").receive(wav(b""))


# -- What they are told ----------------------------------------------------------------------------

SPEECH = [
    make_gap(0.0, 1.0, final=False),
    make_gap(0.0, 1.2),
    make_point(1.0, angry=0.9, speech_share=0.6),
    make_point(1.5, angry=0.7),
    make_segment(1.2, 1.9),
    make_point(2.0, sad=0.9),
    make_segment(1.9, 2.5, label="sad"),
    heartbeat(published_s=2.5),
]
"""Silence, angry, sad, silence."""


def spans(messages: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (
            m["start"],
            round(m["start"] + m["duration"], 6),
            m["emotion"] and m["emotion"]["label"],
            m["is_final"],
            m["speech_final"],
        )
        for m in messages
        if m["type"] == "Results"
    ]


def test_one_result_for_each_stretch():
    told = say(begun(), *SPEECH)
    assert spans(told) == [(1.2, 1.9, "angry", True, False), (1.9, 2.5, "sad", True, True)]
    assert len(told) == 2


def test_a_result_in_the_form_of_the_specification():
    told = say(begun(), *SPEECH)[0]
    emotion = told.pop("emotion")
    assert told == {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": pytest.approx(0.7),
        "start": 1.2,
        "is_final": True,
        "speech_final": False,
        "channel": {
            "alternatives": [{"transcript": "", "confidence": 0.8, "words": []}],
            "role": "role-0",
        },
        "metadata": {
            "request_id": "request-1",
            "model_info": {
                "name": "compact",
                "version": "1",
                "arch": "emotion",
                "licence": "CC-BY-NC-SA-4.0",
                "notice": "weaker",
            },
            "model_uuid": "27c4c0d1-70da-5c1f-a95f-fdd73e178257",
            "stream_id": "s1",
        },
        "from_finalize": False,
    }
    assert (emotion["label"], emotion["confidence"]) == ("angry", 0.8)
    assert list(emotion["posteriors"]) == list(LABELS)
    assert sum(emotion["posteriors"].values()) == pytest.approx(1.0, abs=1e-5)
    assert (emotion["provisional"], emotion["narrow_band"]) == (False, False)
    assert 0.6 < emotion["speech_share"] < 1


def test_interim_results_grow_and_are_replaced():
    told = say(begun(MONO + "&interim_results=true"), *SPEECH)
    assert spans(told) == [
        (1.2, 1.5, "angry", False, False),
        (1.2, 2.0, "angry", False, False),
        (1.2, 1.9, "angry", True, False),
        (1.9, 2.5, "sad", False, False),
        (1.9, 2.5, "sad", True, True),
    ]


def test_gaps_are_told_where_they_are_asked_for():
    told = say(begun(MONO + "&gaps=true"), *SPEECH, make_gap(2.5, 4.0, reason="lost"))
    assert spans(told)[0] == (0.0, 1.2, None, True, False)
    assert [m.get("gap") for m in told] == [{"reason": "silence"}, None, None, {"reason": "lost"}]
    assert told[0]["channel"]["alternatives"][0]["transcript"] == ""


def test_the_label_as_transcript():
    (told,) = say(begun(MONO + "&transcript=label"), *SPEECH)[:1]
    (alternative,) = told["channel"]["alternatives"]
    assert alternative["transcript"] == "angry"
    (word,) = alternative["words"]
    assert (word["word"], word["start"], word["end"]) == ("angry", 1.2, 1.9)


def test_speech_starts_and_utterances_end_where_that_is_asked_for():
    one = begun(MONO + "&vad_events=true&utterance_end_ms=1000")
    told = say(one, *SPEECH, heartbeat(published_s=3.4), heartbeat(published_s=3.5))
    told += say(one, heartbeat(published_s=9.0), make_gap(2.5, 9.5), make_point(9.5, sad=1.0))
    assert [m["type"] for m in told] == [
        "SpeechStarted",
        "Results",
        "Results",
        "UtteranceEnd",
        "SpeechStarted",
    ]
    assert told[0] == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 1.2}
    assert told[3] == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 2.5}
    assert told[4]["timestamp"] == 9.5


def test_a_pause_that_nobody_looked_at_ends_an_utterance_too():
    one = begun(MONO + "&utterance_end_ms=1000")
    told = say(one, *SPEECH, make_gap(2.5, 3.5))
    assert [m["type"] for m in told][2:] == ["UtteranceEnd"]
    one = begun(MONO + "&utterance_end_ms=1000")
    assert [m["type"] for m in say(one, *SPEECH, make_gap(2.5, 3.4))][2:] == []


def flushed(at_s: float) -> Flushed:
    return Flushed(stream_id="s1", seq=9, at_sample=round(at_s * 16_000), at_s=at_s)


def test_finalize_tells_of_what_is_there():
    one = begun()
    one.receive(text("Finalize"))
    told = say(one, make_point(0.0, angry=0.9), flushed(0.6))
    assert spans(told) == [(0.0, 0.5, "angry", True, True)]
    assert told[0]["from_finalize"]
    told = say(one, make_point(0.5, angry=0.9), make_segment(0.0, 1.0), heartbeat())
    assert spans(told) == [(0.5, 1.0, "angry", True, True)]
    assert not told[0]["from_finalize"]


def test_finalize_in_silence_is_answered():
    one = begun()
    one.receive(text("Finalize"))
    (told,) = say(one, flushed(1.0))
    assert (told["start"], told["duration"], told["emotion"]) == (1.0, 0.0, None)
    assert told["from_finalize"]


def test_finalize_of_one_channel():
    # Who waits for an answer gets one of a channel that is not analysed, too.
    one = begun(MONO + "&channels=2&multichannel=true", analysed=(True, False))
    one.receive(text("Finalize", channel=1))
    one.receive(text("Finalize"))
    assert [m["channel_index"] for m in say(one, flushed(1.0))] == [[1, 2]]
    assert [m["channel_index"] for m in say(one, flushed(1.0))] == [[0, 2], [1, 2]]


def test_metadata_is_the_last_message():
    one = begun()
    one.receive(b"\1\2")
    told = say(one, make_point(0.0, angry=0.9), make_segment(0.0, 0.5), make_summary())
    assert [m["type"] for m in told] == ["Results", "Metadata"]
    model_uuid = told[0]["metadata"]["model_uuid"]
    metadata = told[-1]
    assert list(metadata.pop("model_info")) == [model_uuid]
    assert metadata == {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": "request-1",
        "sha256": hashlib.sha256(b"\1\2").hexdigest(),
        "created": "2027-01-15T08:00:00.250Z",
        "duration": 1.0,
        "channels": 1,
        "models": [model_uuid],
        "stream_id": "s1",
    }


def test_nothing_else_is_ever_said():
    """Clients of Deepgram's fail on a type they do not know."""
    one = begun(MONO + "&vad_events=true&utterance_end_ms=1000&interim_results=true&gaps=true")
    known = {"Results", "Metadata", "SpeechStarted", "UtteranceEnd", "Error"}
    messages = [
        message
        for message in server_messages()
        if type(message).__name__ not in ("Ready", "Point", "Segment")
    ]
    assert {m["type"] for m in say(one, *messages)} <= known


# -- Anything --------------------------------------------------------------------------------------

_texts = st.one_of(
    st.sampled_from([text(kind) for kind in ("KeepAlive", "Finalize", "CloseStream", "Configure")]),
    st.text(max_size=30),
    st.dictionaries(
        st.sampled_from(["type", "channel", "x"]),
        st.one_of(st.integers(), st.text(max_size=5), st.none()),
    ).map(json.dumps),
)
_messages = st.one_of(_texts, st.binary(max_size=50), st.just(wav(b"\0\0")))


@settings(max_examples=40)
@given(st.lists(_messages, max_size=30), st.sampled_from([MONO, "", "tag=a"]))
def test_any_messages_are_understood_or_refused(messages: list[str | bytes], query: str):
    one = dialect(query)
    is_begun, is_over = one.start is not None, False
    for message in messages:
        try:
            requests = one.receive(message)
        except ProtocolError:
            continue
        for request in requests:
            assert not is_over, "nothing follows the end"
            if isinstance(request, StreamSpec):
                assert not is_begun, "a stream begins once"
                is_begun = True
            elif isinstance(request, Stop):
                is_over = True
            else:
                assert is_begun or isinstance(request, Say)
