from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.platforms.vonage import VonageDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import MAX_BAD_MESSAGES, AudioData, Dialect
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Mark
from stream_server.wire.start import StreamSpec
from tests.support.protocol_lab import ready

PACKET = bytes(640)


def connected(**changes: Any) -> str:
    message = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", **changes}
    return json.dumps({name: value for name, value in message.items() if value is not None})


def dialect_of() -> VonageDialect:
    return VonageDialect(roles=("customer", "agent"))


def started(**changes: Any) -> VonageDialect:
    dialect = dialect_of()
    dialect.receive(connected(**changes))
    return dialect


def refused(dialect: VonageDialect, message: str | bytes) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        dialect.receive(message)
    return caught.value.code


def test_a_call():
    dialect = dialect_of()
    as_dialect: Dialect = dialect
    (spec,) = as_dialect.receive(connected(uuid="63f61863", language="en-GB", age=40, vip=True))
    assert isinstance(spec, StreamSpec) and spec is dialect.start
    assert spec.format == AudioFormat("pcm_s16le", 16000)
    assert [channel.role for channel in spec.channels] == ["customer"]
    assert (spec.name, spec.wants) == ("63f61863", frozenset())
    assert spec.metadata == {
        "platform": "vonage",
        "uuid": "63f61863",
        "language": "en-GB",
        "age": "40",
        "vip": "true",
    }
    assert dialect.receive(PACKET) == [AudioData(PACKET)]
    assert dialect.receive(b"odd") == [AudioData(b"odd")]
    assert dialect.send(ready()) == []
    assert not dialect.can_resume and not dialect.client_closes


@pytest.mark.parametrize(
    ("content_type", "rate_hz"),
    [
        ("audio/l16;rate=8000", 8000),
        ("audio/l16;rate=24000", 24000),
        ("audio/L16; rate=16000", 16000),
        ("audio/l16", 16000),
        (None, 16000),
    ],
)
def test_rates(content_type: str | None, rate_hz: int):
    dialect = started(**{"content-type": content_type})
    assert dialect.start is not None
    assert dialect.start.format == AudioFormat("pcm_s16le", rate_hz)


@pytest.mark.parametrize(
    "content_type", ["audio/l8;rate=8000", "audio/l16;rate=1", "audio/l16;rate=x", "", 3]
)
def test_formats_that_are_not_understood(content_type: Any):
    dialect = dialect_of()
    assert refused(dialect, connected(**{"content-type": content_type})) is ErrorCode.BAD_FORMAT


def test_headers_say_who_speaks():
    dialect = started(roles="agent")
    assert dialect.start is not None
    assert [channel.role for channel in dialect.start.channels] == ["agent"]
    assert refused(dialect_of(), connected(roles="Agent!")) is ErrorCode.BAD_START


def test_nested_headers_are_left_out():
    dialect = started(address={"city": "New York"}, system_roles=[1])
    assert dialect.start is not None and dialect.start.metadata == {"platform": "vonage"}


def test_a_key_is_a_mark_that_does_not_say_which():
    message = '{"event":"websocket:dtmf","digit":"5","duration":260}'
    assert started().receive(message) == [Mark(name="dtmf", key="5")]
    assert refused(dialect_of(), message) is ErrorCode.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(
    "event", ["websocket:cleared", "websocket:notify", "websocket:media:update", "x"]
)
def test_other_events_are_ignored(event: str):
    dialect = started()
    for _ in range(MAX_BAD_MESSAGES + 1):
        assert dialect.receive(json.dumps({"event": event})) == []


@pytest.mark.parametrize("message", ["", "x", "[]", "{}", '{"event": 1}', "[" * 100_000])
def test_nonsense_is_refused_and_changes_nothing(message: str):
    dialect = dialect_of()
    assert refused(dialect, message) is ErrorCode.BAD_MESSAGE
    dialect.receive(connected())
    assert refused(dialect, message) is ErrorCode.BAD_MESSAGE
    assert dialect.receive(PACKET) == [AudioData(PACKET)]


def test_audio_before_the_first_message_is_refused():
    dialect = dialect_of()
    assert refused(dialect, PACKET) is ErrorCode.UNEXPECTED_MESSAGE
    dialect.receive(connected())
    assert refused(dialect, connected()) is ErrorCode.UNEXPECTED_MESSAGE


def test_too_much_nonsense_ends_the_stream():
    dialect = started()
    codes = [refused(dialect, "x") for _ in range(MAX_BAD_MESSAGES + 1)]
    assert codes == [ErrorCode.BAD_MESSAGE] * MAX_BAD_MESSAGES + [ErrorCode.TOO_MANY_ERRORS]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
FIRST = st.dictionaries(
    st.sampled_from(["content-type", "uuid", "roles", "name"]), JSON, max_size=4
).map(lambda fields: {"event": "websocket:connected", **fields})


@settings(max_examples=40)
@given(st.lists(st.binary() | (JSON | FIRST).map(json.dumps) | st.text(), max_size=12))
def test_whatever_comes_is_understood_or_refused(messages: list[str | bytes]):
    dialect = dialect_of()
    for message in messages:
        was_started = dialect.start is not None
        try:
            dialect.receive(message)
        except ProtocolError:
            assert (dialect.start is not None) is was_started
