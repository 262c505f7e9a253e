"""mod_audio_stream and mod_audio_fork, as their documentation and source say they speak."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.schema import MIXED_ROLE
from stream_server.platforms.freeswitch import FreeSwitchDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Error, Mark, Pause, Resume, Stop
from stream_server.wire.start import StreamSpec
from tests.support.protocol_lab import point, ready, server_messages

ROLES = ("customer", "agent")
FRAME = bytes(320)
JAMBONZ = {
    "callSid": "f1d2c3b4",
    "direction": "inbound",
    "sampleRate": 8000,
    "mixType": "stereo",
    "customerData": {"nested": True},
}


def dialect(**query: str) -> FreeSwitchDialect:
    return FreeSwitchDialect(ROLES, query)


def begun(metadata: Any = None, **query: str) -> StreamSpec:
    return started(dialect(**query), metadata)


def started(one: FreeSwitchDialect, metadata: Any = None) -> StreamSpec:
    """Begin the stream: with metadata, or with the first audio that waits no more."""
    first = FRAME if metadata is None else json.dumps(metadata)
    for _ in range(26):
        if inbound := one.receive(first):
            spec, *audio = inbound
            assert isinstance(spec, StreamSpec)
            assert len(audio) in (0, 1, 26)
            return spec
    raise AssertionError("it waits for ever")


def roles(spec: StreamSpec) -> list[str]:
    return [channel.role for channel in spec.channels]


def test_audio_without_a_word_is_the_caller_at_8_khz():
    one = dialect()
    for _ in range(25):
        assert one.receive(FRAME) == []
    spec, *audio = one.receive(FRAME)
    assert isinstance(spec, StreamSpec)
    assert spec.format == AudioFormat("pcm_s16le", 8000, 1)
    assert (roles(spec), spec.name, spec.wants) == (["customer"], "", frozenset())
    assert spec.metadata == {"platform": "freeswitch"}
    assert audio == [AudioData(FRAME)] * 26
    assert one.start is spec
    assert one.receive(FRAME) == [AudioData(FRAME)]


def test_metadata_that_comes_after_the_first_audio_is_waited_for():
    one = dialect()
    assert [one.receive(bytes([n]) * 640) for n in range(3)] == [[]] * 3
    spec, *audio = one.receive(json.dumps(JAMBONZ))
    assert isinstance(spec, StreamSpec)
    assert (spec.format.num_channels, spec.name) == (2, "f1d2c3b4")
    assert audio == [AudioData(bytes([n]) * 640) for n in range(3)]


def test_little_is_kept_while_metadata_is_waited_for():
    one = dialect()
    assert one.receive(bytes(150_000)) == []
    spec, *audio = one.receive(bytes(150_000))
    assert isinstance(spec, StreamSpec)
    assert len(audio) == 2


def test_with_a_name_in_the_query_nothing_is_waited_for():
    spec, audio = dialect(name="call 7").receive(FRAME)
    assert isinstance(spec, StreamSpec)
    assert audio == AudioData(FRAME)


def test_a_call_that_ends_at_once_is_a_stream_all_the_same():
    one = dialect()
    assert one.receive(FRAME) == []
    spec, *rest = one.receive(b"")
    assert isinstance(spec, StreamSpec)
    assert rest == [AudioData(FRAME), Stop()]


def test_metadata_names_the_call_and_its_format():
    one = dialect()
    (spec,) = one.receive(json.dumps(JAMBONZ))
    assert isinstance(spec, StreamSpec)
    assert spec.format == AudioFormat("pcm_s16le", 8000, 2)
    assert (roles(spec), spec.name) == (["customer", "agent"], "f1d2c3b4")
    assert spec.metadata == {
        "platform": "freeswitch",
        **{key: str(value) for key, value in JAMBONZ.items() if key != "customerData"},
    }
    assert one.receive(bytes(640)) == [AudioData(bytes(640))]


@pytest.mark.parametrize(
    ("metadata", "query", "rate", "channels"),
    [
        (None, {"rate": "16000"}, 16_000, ["customer"]),
        (None, {"rate": "16k", "channels": "2"}, 16_000, ["customer", "agent"]),
        (None, {"mix": "stereo"}, 8000, ["customer", "agent"]),
        (None, {"mix": "mono"}, 8000, ["customer"]),
        (None, {"mix": "mixed"}, 8000, [MIXED_ROLE]),
        (None, {"mix": "mixed", "roles": "customer"}, 8000, ["customer"]),
        (None, {"roles": "agent,customer"}, 8000, ["agent", "customer"]),
        ({"sample_rate": "16000"}, {}, 16_000, ["customer"]),
        ({"rate": "16k", "mix-type": "mixed"}, {}, 16_000, [MIXED_ROLE]),
        ({"channels": 2}, {}, 8000, ["customer", "agent"]),
        # The query goes first.
        ({"rate": 16_000, "mix": "stereo"}, {"rate": "8k", "mix": "mono"}, 8000, ["customer"]),
        ([1, 2], {}, 8000, ["customer"]),
    ],
)
def test_rate_and_channels(
    metadata: Any, query: dict[str, str], rate: int, channels: list[str]
) -> None:
    spec = begun(metadata, **query)
    assert (spec.format.sample_rate_hz, roles(spec)) == (rate, channels)


def test_who_talks_to_whom_is_not_kept_unless_the_query_says_so():
    # What jambonz sends by itself.
    call = {
        "callSid": "9fb35c28",
        "direction": "inbound",
        "from": "+15550001111",
        "to": "+15550002222",
        "caller_id": "+15550001111",
        "callerName": "A Person",
        "sampleRate": 8000,
        "mixType": "stereo",
    }
    spec = begun(call, **{"meta.to": "the sales line"})
    assert spec.metadata["direction"] == "inbound"
    assert spec.metadata["to"] == "the sales line"
    assert not any("+1555" in text or "Person" in text for text in spec.metadata.values())


def test_plain_metadata_is_kept_as_it_is():
    (spec,) = dialect().receive("call 7 of sales")
    assert isinstance(spec, StreamSpec)
    assert spec.metadata == {"platform": "freeswitch", "metadata": "call 7 of sales"}


def test_the_query_names_the_stream_and_adds_metadata():
    spec = begun({"uuid": "u1", "queue": "sales"}, name="call 7", **{"meta.site": "b"})
    assert spec.name == "call 7"
    assert spec.metadata == {
        "platform": "freeswitch",
        "site": "b",
        "uuid": "u1",
        "queue": "sales",
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"rate": "fast"}, "got sample_rate 'fast'"),
        ({"rate": "96k"}, "got sample_rate 96000"),
        ({"mix": "surround"}, "got mix 'surround', expected one of mono, mixed, stereo"),
        ({"channels": "3"}, "got 3 channels without roles"),
        ({"speed": "2"}, "got 'speed' in the query"),
        ({"wants": "everything"}, "got 'everything' in wants"),
    ],
)
def test_a_wrong_query_is_told_before_the_first_message(query: dict[str, str], message: str):
    with pytest.raises(ProtocolError, match=message):
        FreeSwitchDialect(ROLES, query)


def test_wrong_metadata_ends_the_connection():
    with pytest.raises(ProtocolError, match="got sample_rate 96000") as caught:
        dialect().receive('{"sampleRate": 96000}')
    assert caught.value.code is ErrorCode.BAD_FORMAT


def test_pauses_are_told_by_text():
    one = dialect()
    started(one)
    (pause,) = one.receive('{"type": "pause"}')
    assert isinstance(pause, Pause)
    # What was on its way is dropped; the module's own pause follows.
    assert one.receive(FRAME) == one.receive(FRAME) == []
    (resume,) = one.receive('{"type": "resume"}')
    assert resume == Resume()
    assert one.receive(FRAME) == [AudioData(FRAME)]
    assert one.receive('{"type": "mark", "name": "here"}') == [Mark(name="here")]
    with pytest.raises(ProtocolError, match="not paused") as caught:
        one.receive('{"type": "resume"}')
    assert not caught.value.ends_stream


def test_other_text_is_ignored():
    one = dialect()
    started(one)
    for text in ("hello", '{"event":"dtmf","dtmf":"5"}', "{half", '{"type":"start"}', "[]"):
        assert one.receive(text) == []


def test_an_empty_message_is_a_graceful_shutdown():
    one = dialect()
    started(one)
    assert one.receive(b"") == [Stop()]


def test_nothing_is_sent_unless_asked_for():
    one = dialect()
    started(one)
    assert [text for message in server_messages() for text in one.send(message)] == []


def test_results_are_sent_if_asked_for():
    one = dialect(wants="segments")
    started(one)
    texts = [cast(str, text) for message in server_messages() for text in one.send(message)]
    kinds = [json.loads(text)["type"] for text in texts]
    assert kinds == "error segment gap marked flushed consent warning summary".split()
    assert one.send(point()) == one.send(ready()) == []


def test_mod_audio_fork_passes_on_only_what_is_of_the_type_json():
    one = FreeSwitchDialect(ROLES, {"wants": "points"}, wrapped=True)
    started(one)
    (text,) = one.send(point())
    told = json.loads(text)
    assert (told["type"], told["data"]["type"]) == ("json", "point")
    error = Error(code="idle", message="got", remedy="send", close_code=4408)
    (text,) = one.send(error)
    assert json.loads(text)["data"]["code"] == "idle"


@given(
    st.lists(
        st.one_of(
            st.text(),
            st.binary(),
            st.sampled_from(['{"type":"pause"}', '{"type":"resume"}', json.dumps(JAMBONZ)]),
            st.dictionaries(
                st.sampled_from(["rate", "mix", "channels", "uuid", "x"]),
                st.one_of(st.text(), st.integers(), st.none(), st.lists(st.integers())),
            ).map(json.dumps),
        )
    )
)
def test_no_messages_break_it(messages: list[str | bytes]) -> None:
    one = dialect()
    for message in messages:
        try:
            one.receive(message)
        except ProtocolError as error:
            if error.ends_stream:
                return
