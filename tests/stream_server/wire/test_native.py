from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import GOOD_MESSAGES_PER_BAD, MAX_BAD_MESSAGES, AudioData, Dialect
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.feed_messages import ResultEncoder
from stream_server.wire.messages import (
    Discarded,
    Flush,
    KeepAlive,
    Mark,
    Pause,
    Resume,
    Start,
    Stop,
)
from stream_server.wire.native import NativeDialect
from stream_server.wire.results import Point
from stream_server.wire.start import StreamSpec
from tests.support.protocol_lab import FRAMES, SPEC, point, ready, server_messages

START = '{"type": "start", "encoding": "pcm_s16le", "sample_rate": 8000}'


def started(**changes: Any) -> NativeDialect:
    dialect = NativeDialect()
    dialect.receive(json.dumps({**json.loads(START), **changes}))
    return dialect


def refused(dialect: NativeDialect, message: str | bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        dialect.receive(message)
    return caught.value


def test_it_is_a_dialect():
    dialect: Dialect = NativeDialect()
    assert dialect.receive(START)


def test_start_comes_first():
    dialect = NativeDialect()
    (spec,) = dialect.receive(START)
    assert isinstance(spec, StreamSpec)
    assert spec.format == AudioFormat("pcm_s16le", 8000)
    assert dialect.start is spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type": "keepalive"}', KeepAlive()),
        ('{"type": "flush", "of_a_later_version": {"x": [1]}}', Flush()),
        ('{"type": "pause"}', Pause()),
        ('{"type": "discarded", "samples": 0}', Discarded(samples=0)),
        ('{"type": "mark", "name": "q"}', Mark(name="q")),
        ('{"type": "stop"}', Stop()),
    ],
)
def test_controls(text: str, expected: object):
    assert started().receive(text) == [expected]


def test_audio():
    dialect = started()
    assert dialect.receive(b"\0\1\2") == [AudioData(b"\0\1\2")]
    assert dialect.receive(b"") == [AudioData(b"")]


def test_audio_before_start_ends_the_connection():
    error = refused(NativeDialect(), b"\0\0")
    assert error.code is ErrorCode.NOT_STARTED
    assert str(error) == "got 2 bytes of audio before 'start'; send it first"


def test_a_control_before_start_is_ignored():
    dialect = NativeDialect()
    assert refused(dialect, '{"type": "stop"}').code is ErrorCode.UNEXPECTED_MESSAGE
    assert dialect.receive(START)
    assert dialect.receive('{"type": "stop"}')


@pytest.mark.parametrize("second", [START, '{"type": "start"}'])
def test_a_second_start_is_ignored(second: str):
    dialect = started()
    spec = dialect.start
    assert refused(dialect, second).code is ErrorCode.UNEXPECTED_MESSAGE
    assert dialect.start is spec
    assert dialect.receive(b"\0\0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "{}",
        "null",
        '{"type": 5}',
        '{"type": "mark"}',
        '{"type": "mark", "name": 5}',
        '{"type": "mark", "name": "%s"}' % ("x" * 257),
        '{"type": "mark", "name": "a\\u0000"}',
        '{"type": "discarded", "samples": -1}',
        '{"type": "discarded", "samples": 1.5}',
        '{"type": "discarded", "samples": 99999999999999999999999999}',
        '{"type": "flush"',
        '{"type": "flush"} {"type": "flush"}',
        "[" * 100_000,
        '{"type": "flush", "x": ' + "[" * 100_000,
        '{"type": "\ud800"}',
    ],
)
def test_a_bad_message_is_ignored(text: str):
    dialect = started()
    error = refused(dialect, text)
    assert error.code is ErrorCode.BAD_MESSAGE
    assert "\ud800" not in str(error)
    assert len(str(error)) < 250
    assert dialect.receive(b"\0\0")


def test_an_unknown_type_is_ignored():
    dialect = started()
    error = refused(dialect, '{"type": "%s"}' % ("volume" * 100))
    assert error.code is ErrorCode.UNKNOWN_MESSAGE
    assert str(error).startswith("got type 'volumevolume")
    assert str(error).endswith(
        "expected start, keepalive, flush, pause, resume, discarded, mark, tell_consent,"
        " tell_speaker, objection,"
        " stop"
    )
    assert len(str(error)) < 200
    assert dialect.receive(b"\0\0")


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_rate": "8000"},
        {"sample_rate": None},
        {"channels": 2},
        {"channels": [{"role": 1}]},
        {"wants": ["x" * 10_000]},
        {"wants": ["x - at `" * 1000]},
        {"metadata": {"a": 1}},
        {"resume": {"token": "t"}},
    ],
)
def test_a_bad_start_ends_the_connection(changes: dict[str, Any]):
    dialect = NativeDialect()
    error = refused(dialect, json.dumps({**json.loads(START), **changes}))
    assert error.code is ErrorCode.BAD_START
    assert len(str(error)) < 250
    assert dialect.start is None


def test_where_a_start_is_wrong_is_said():
    error = refused(NativeDialect(), START.replace("}", ', "wants": ["words"]}'))
    assert str(error) == "invalid 'start': Invalid enum value 'words' - at `$.wants[0]`"


def test_a_query_is_a_start():
    dialect = NativeDialect({"encoding": "mulaw", "sample_rate": "8000"})
    assert dialect.start is not None
    assert dialect.start.format == AudioFormat("mulaw", 8000)
    assert dialect.receive(b"\0") == [AudioData(b"\0")]
    assert dialect.receive('{"type": "stop"}') == [Stop()]
    assert refused(dialect, START).code is ErrorCode.UNEXPECTED_MESSAGE


def test_a_wrong_query_is_refused_at_once():
    with pytest.raises(ProtocolError) as caught:
        NativeDialect({"encoding": "speex"})
    assert caught.value.code is ErrorCode.BAD_FORMAT


@pytest.mark.parametrize("query", [None, {}])
def test_no_query_is_no_start(query: dict[str, str] | None):
    assert NativeDialect(query).start is None


def test_audio_of_a_pause_is_dropped_and_named_once_a_pause():
    dialect = started()
    for _ in range(2):
        dialect.receive('{"type": "pause"}')
        error = refused(dialect, b"\0\0")
        assert error.code is ErrorCode.UNEXPECTED_MESSAGE
        assert "while paused; send 'resume' first" in str(error)
        assert dialect.receive(b"\0\0") == []
        assert dialect.receive('{"type": "resume", "paused_samples": 4}') == [
            Resume(paused_samples=4)
        ]
        assert dialect.receive(b"\0\0") == [AudioData(b"\0\0")]


@pytest.mark.parametrize("text", ['{"type": "pause"}', '{"type": "discarded", "samples": 1}'])
def test_what_makes_no_sense_in_a_pause_is_ignored(text: str):
    dialect = started()
    dialect.receive('{"type": "pause"}')
    assert refused(dialect, text).code is ErrorCode.UNEXPECTED_MESSAGE
    assert dialect.receive('{"type": "resume"}') == [Resume()]


def test_marks_and_flushes_are_taken_in_a_pause():
    dialect = started()
    dialect.receive('{"type": "pause"}')
    assert dialect.receive('{"type": "flush"}') == [Flush()]
    assert dialect.receive('{"type": "mark", "name": "a"}') == [Mark(name="a")]
    assert dialect.receive('{"type": "stop"}') == [Stop()]


def test_resume_without_a_pause_is_ignored():
    assert refused(started(), '{"type": "resume"}').code is ErrorCode.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("samples", [-1, 1 << 60])
def test_a_pause_has_a_sensible_length(samples: int):
    dialect = started()
    dialect.receive('{"type": "pause"}')
    text = json.dumps({"type": "resume", "paused_samples": samples})
    assert refused(dialect, text).code is ErrorCode.BAD_MESSAGE
    assert refused(dialect, b"\0").code is ErrorCode.UNEXPECTED_MESSAGE, "the pause is still open"


def test_a_stream_that_is_taken_up_in_a_pause_is_paused():
    dialect = started()
    dialect.send(ready(resumed=True, paused=True))
    assert refused(dialect, b"\0\0").code is ErrorCode.UNEXPECTED_MESSAGE
    assert dialect.receive('{"type": "resume"}') == [Resume()]


def test_nothing_comes_after_stop():
    dialect = started()
    dialect.receive('{"type": "stop"}')
    for text in ('{"type": "stop"}', '{"type": "flush"}', '{"type": "mark", "name": "a"}'):
        assert refused(dialect, text).code is ErrorCode.UNEXPECTED_MESSAGE
    assert "that came after 'stop'" in str(refused(dialect, b"\0"))
    assert dialect.receive(b"\0") == []
    assert dialect.receive('{"type": "keepalive"}') == [KeepAlive()]


def test_too_many_bad_messages_end_the_stream():
    dialect = started()
    codes = [refused(dialect, "x").code for _ in range(MAX_BAD_MESSAGES + 1)]
    assert codes == [ErrorCode.BAD_MESSAGE] * MAX_BAD_MESSAGES + [ErrorCode.TOO_MANY_ERRORS]


def test_good_messages_make_up_for_bad_ones():
    dialect = started()
    for _ in range(3 * MAX_BAD_MESSAGES):
        assert refused(dialect, '{"type": "new"}').code is ErrorCode.UNKNOWN_MESSAGE
        for _ in range(GOOD_MESSAGES_PER_BAD):
            dialect.receive(b"\0\0")


ALWAYS = {"ready", "error", "heartbeat", "marked", "flushed", "warning", "consent", "summary"}


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        ([], set()),
        (["points"], {"point", "gap"}),
        (["frames"], {"point", "gap"}),
        (["segments"], {"segment", "gap"}),
        (["alerts"], {"alert"}),
        (["points", "segments", "alerts"], {"point", "segment", "gap", "alert"}),
    ],
)
def test_what_is_not_wanted_is_not_sent(wants: list[str], expected: set[str]):
    dialect = started(wants=wants)
    sent = {json.loads(text)["type"] for m in server_messages() for text in dialect.send(m)}
    assert sent == ALWAYS | expected


@pytest.mark.parametrize(("wants", "expected"), [(["points"], None), (["frames"], FRAMES)])
def test_frames_are_sent_where_they_are_wanted(wants: list[str], expected: object):
    (text,) = started(wants=wants).send(point(frames=FRAMES))
    assert isinstance(text, str)
    assert msgspec.json.decode(text, type=Point).frames == expected


def test_connections_share_what_is_encoded():
    encoder = ResultEncoder()
    dialects = [NativeDialect({"sample_rate": "8000"}, encoder=encoder) for _ in range(2)]
    result = point()
    (first,), (second,) = (dialect.send(result) for dialect in dialects)
    assert first is second


def test_an_error_can_be_told_before_start():
    (error,) = (m for m in server_messages() if type(m).__name__ == "Error")
    assert len(NativeDialect().send(error)) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
types = st.sampled_from(
    [m.__struct_config__.tag for m in (Start, Flush, Pause, Resume, Discarded, Mark, Stop)]
)
fields = st.sampled_from([*Start.__struct_fields__, "samples", "paused_samples"])
objects = st.builds(
    lambda kind, rest: json.dumps({"type": kind, **rest}),
    types | st.text(max_size=5),
    st.dictionaries(fields, json_values, max_size=4),
)
likely = st.sampled_from([START, '{"type": "pause"}', '{"type": "resume"}', '{"type": "stop"}'])
any_text = st.text(st.characters(exclude_categories=()), max_size=20)


@given(st.lists(st.binary(max_size=8) | any_text | objects | likely, max_size=30))
def test_nothing_that_comes_breaks_it(messages: list[str | bytes]):
    dialect = NativeDialect()
    for message in messages:
        try:
            inbound = dialect.receive(message)
        except ProtocolError as error:
            assert len(str(error)) < 400
            str(error).encode()
        else:
            assert len(inbound) <= 1


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "encoding",
                "sample_rate",
                "channels",
                "roles",
                "names",
                "name",
                "wants",
                "version",
                "meta.a",
            ]
        )
        | any_text,
        any_text | st.sampled_from(["1", "8000", "mulaw", "a,b"]),
        max_size=6,
    )
)
def test_no_query_breaks_it(query: dict[str, str]):
    try:
        NativeDialect(query)
    except ProtocolError as error:
        assert error.ends_stream
        str(error).encode()


def test_the_lab_speaks_of_the_same_spec():
    assert started(channels=[{"role": "customer"}]).start == SPEC
