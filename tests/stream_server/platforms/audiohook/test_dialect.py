from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.audiohook.dialect import AudioHookDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import (
    Discarded,
    Mark,
    Pause,
    Resume,
    Stop,
    error_message,
)
from stream_server.wire.results import StreamClosed
from stream_server.wire.start import StreamSpec
from tests.support.protocol_lab import heartbeat, ready, results

SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
OTHER = "e160e428-53e2-487c-977d-96989bf5c99d"
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
CONVERSATION = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
PARTICIPANT = "883efee8-3d6c-4537-b500-6d7ca4b92fa0"
NULL = "00000000-0000-0000-0000-000000000000"
STEREO = {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000}
OPEN = {
    "organizationId": ORGANIZATION,
    "conversationId": CONVERSATION,
    "participant": {"id": PARTICIPANT, "ani": "+15555551234", "aniName": "J", "dnis": "+18005556"},
    "media": [STEREO],
}
CLOSED = StreamClosed(stream_id="s1", seq=9, reason="stopped", closed_at=2.5)


class Client:
    """Writes messages with numbers that are right, and reads what the server says to them."""

    def __init__(self, **options: Any) -> None:
        self.dialect = AudioHookDialect(
            roles=("customer", "agent"),
            **{"session_id": SESSION, "organization_id": ORGANIZATION} | options,
        )
        self.seq = 0
        self.serverseq = 0

    def text(self, kind: str, parameters: Any = None, **changes: Any) -> str:
        self.seq += 1
        message = {
            "version": "2",
            "id": SESSION,
            "type": kind,
            "seq": self.seq,
            "serverseq": self.serverseq,
            "position": "PT0S",
            "parameters": parameters or {},
        }
        return json.dumps({k: v for k, v in (message | changes).items() if v is not None})

    def does(self, kind: str, parameters: Any = None, **changes: Any) -> list[Inbound]:
        return self.dialect.receive(self.text(kind, parameters, **changes))

    def opens(self, **changes: Any) -> StreamSpec:
        (spec,) = self.does("open", OPEN | changes)
        assert isinstance(spec, StreamSpec)
        return spec

    def is_opened(self, **changes: Any) -> dict[str, Any]:
        """Open the session; return the parameters of ``opened``."""
        self.opens(**changes)
        (text,) = self.dialect.send(ready())
        parameters: dict[str, Any] = json.loads(text)["parameters"]
        return parameters

    def fails(self, message: str | bytes) -> ProtocolError:
        with pytest.raises(ProtocolError) as caught:
            self.dialect.receive(message)
        assert caught.value.ends_stream
        return caught.value


def said(inbound: list[Inbound]) -> list[str]:
    """Return the types of what is answered at once."""
    return [
        json.loads(text)["type"]
        for each in inbound
        if isinstance(each, Say)
        for text in each.messages
    ]


def test_what_the_stream_is():
    spec = Client(ids={"session_id": SESSION, "correlation_id": OTHER}).opens(
        language="en-US", customConfig={"queue": "sales", "vip": True, "tags": ["a", 1]}
    )
    assert spec.format == AudioFormat("mulaw", 8000, 2)
    assert [(c.role, c.name) for c in spec.channels] == [
        ("customer", "external"),
        ("agent", "internal"),
    ]
    assert spec.live
    assert spec.name == CONVERSATION
    assert spec.metadata == {
        "platform": "genesys",
        "session_id": SESSION,
        "correlation_id": OTHER,
        "organization_id": ORGANIZATION,
        "conversation_id": CONVERSATION,
        "participant_id": PARTICIPANT,
        "language": "en-US",
        "custom.queue": "sales",
        "custom.vip": "true",
        "custom.tags": '["a",1]',
    }


def test_numbers_and_names_of_people_are_not_kept():
    spec = Client().opens()
    assert not any(
        private in text
        for private in ("5555551234", "aniName", "18005556")
        for text in (*spec.metadata.values(), *spec.metadata, spec.name)
    )


def test_what_is_kept_is_bounded():
    config = {f"{number}\x00" + "k" * 299: "\x07" + "v" * 299 for number in range(50)}
    spec = Client().opens(customConfig=config, language="\x1b" + "l" * 999)
    assert len(spec.metadata) == 32
    assert all(len(text) <= 256 for entry in spec.metadata.items() for text in entry)
    assert all(text.isprintable() for entry in spec.metadata.items() for text in entry)


def test_a_session_that_goes_on_names_the_former_ones():
    former = [{"id": OTHER, "serverseq": 3, "clientseq": 4}, {"id": "?", "serverseq": 0}]
    assert Client().opens(continuedSessions=former).metadata["continues"] == OTHER


def test_positions_told_begin_where_the_client_says():
    client = Client()
    client.does("open", OPEN, position="PT1M0.5S")
    client.dialect.send(ready())
    (_, point, *_) = results()
    client.dialect.send(point)
    (event,) = client.dialect.send(CLOSED)
    (entity,) = json.loads(event)["parameters"]["entities"]
    assert (entity["data"]["start"], entity["data"]["end"]) == ("PT60.5S", "PT61S")


@pytest.mark.parametrize(
    ("asked", "language", "expected"),
    [(None, "en-US", None), (False, "en-US", None), (True, "en-US", ["en-US"]), (True, None, [])],
)
def test_languages_are_told_if_asked_for(asked: Any, language: Any, expected: Any):
    opened = Client().is_opened(supportedLanguages=asked, language=language)
    assert opened.get("supportedLanguages") == expected


def test_the_first_message_names_the_session_where_no_header_does():
    client = Client(session_id="", organization_id="")
    client.opens()
    (text,) = client.dialect.send(ready())
    assert json.loads(text)["id"] == SESSION
    assert client.fails(client.text("ping", id=OTHER)).code is ErrorCode.TOO_MANY_ERRORS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "1"}, "got version '1', expected '2'"),
        ({"version": 2}, r"not an AudioHook message.*got `int` - at `\$.version`"),
        ({"seq": 0}, "got seq 0, expected 2"),
        ({"seq": 1}, "got seq 1, expected 2"),
        ({"seq": 3}, "got seq 3, expected 2"),
        ({"seq": 1 << 80}, "expected 2|not an AudioHook message"),
        ({"seq": "2"}, "not an AudioHook message"),
        ({"serverseq": 2}, "got serverseq 2, expected at most 1"),
        ({"serverseq": -1}, "got serverseq -1"),
        ({"id": OTHER}, "id of another session"),
        ({"id": "x"}, "got the id 'x', expected a UUID"),
        ({"position": "1.2"}, "for position"),
        ({"position": None}, "not an AudioHook message"),
        ({"type": None}, "not an AudioHook message.*missing required field `type`"),
        ({"parameters": "x" * 65_535}, "expected at most 65535"),
    ],
)
def test_a_wrong_envelope_ends_the_session(changes: dict[str, Any], expected: str):
    client = Client()
    client.is_opened()
    with pytest.raises(ProtocolError, match=expected) as caught:
        client.does("ping", **changes)
    assert caught.value.ends_stream


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "{", '{"type":"ping"}', "[" * 60_000, "ä"]
)
def test_a_text_that_is_no_message_ends_the_session(text: str):
    client = Client()
    assert client.fails(text).code is ErrorCode.BAD_START
    client = Client()
    client.is_opened()
    assert client.fails(text).code is ErrorCode.TOO_MANY_ERRORS


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"conversationId": "call-1"}, ErrorCode.BAD_START),
        ({"participant": None}, ErrorCode.BAD_START),
        ({"media": {}}, ErrorCode.BAD_START),
        ({"media": []}, ErrorCode.BAD_FORMAT),
        ({"media": [STEREO | {"format": "OPUS"}]}, ErrorCode.BAD_FORMAT),
        ({"customConfig": [1]}, ErrorCode.BAD_START),
        ({"organizationId": OTHER}, ErrorCode.UNAUTHORIZED),
    ],
)
def test_a_wrong_open_is_refused(changes: dict[str, Any], code: ErrorCode):
    client = Client()
    error = client.fails(client.text("open", OPEN | changes))
    assert error.code is code
    if code is ErrorCode.BAD_START:
        assert next(iter(changes)) in str(error)


def test_audio_before_open_is_refused():
    assert Client().fails(bytes(3200)).code is ErrorCode.NOT_STARTED


@pytest.mark.parametrize(
    ("media", "size"), [(STEREO, 3201), (STEREO | {"format": "L16"}, 3202), (STEREO, 1)]
)
def test_half_a_sample_ends_the_session(media: dict[str, Any], size: int):
    """Else the two sides would change places, and the agent's anger be the customer's."""
    client = Client()
    client.is_opened(media=[media])
    assert client.fails(bytes(size)).code is ErrorCode.BAD_FORMAT


def test_audio_in_a_pause_is_not_analysed():
    client = Client()
    client.is_opened()
    assert client.does("paused") == [Pause()]
    assert client.dialect.receive(bytes(3200)) == []
    assert client.does("discarded", {"start": "PT0S", "discarded": "PT1S"}) == []
    resumed = client.does("resumed", {"start": "PT0S", "discarded": "PT2S"})
    assert resumed == [Resume(paused_samples=16_000)]
    assert client.dialect.receive(bytes(3200)) == [AudioData(bytes(3200))]


def test_a_gap_that_begins_late_has_what_is_missing_before_it():
    client = Client()
    client.is_opened()
    client.dialect.receive(bytes(3200))  # 0.2 s
    late = client.does("discarded", {"start": "PT1.2S", "discarded": "PT0.5S"})
    assert late == [Discarded(samples=8000 + 4000)]
    # One that begins early, by rounding, is as long as it says.
    early = client.does("discarded", {"start": "PT1.699S", "discarded": "PT0.5S"})
    assert early == [Discarded(samples=4000)]


def test_gaps_are_told_from_where_the_session_began():
    client = Client()
    client.does("open", OPEN, position="PT60S")
    client.dialect.send(ready())
    gap = {"start": "PT60S", "discarded": "PT0.5S"}
    assert client.does("discarded", gap) == [Discarded(samples=4000)]
    late = {"start": "PT61S", "discarded": "PT0.5S"}
    assert client.does("discarded", late) == [Discarded(samples=8000)]


def test_a_gap_told_without_a_pause():
    client = Client()
    client.is_opened()
    resumed = client.does("resumed", {"start": "PT0S", "discarded": "PT0.5S"})
    assert resumed == [Discarded(samples=4000)]
    assert client.does("resumed", {"start": "PT0.5S", "discarded": "PT0S"}) == []


@pytest.mark.parametrize("parameters", [{}, {"start": "PT0S"}, {"start": "PT0S", "discarded": "x"}])
def test_a_gap_without_its_length_ends_the_session(parameters: dict[str, Any]):
    client = Client()
    client.is_opened()
    for kind in ("discarded", "resumed"):
        client.fails(client.text(kind, parameters))


def test_what_is_not_of_this_phase_is_let_pass():
    client = Client()
    for kind in ("update", "discarded", "paused", "resumed", "error", "dtmf", "no_such_type"):
        assert client.does(kind) == []
    client.is_opened()
    assert client.does("open", OPEN) == []
    assert client.does("no_such_type") == []


def test_a_session_that_closes_before_it_opens():
    client = Client()
    closing = client.does("close", {"reason": "end"})
    assert (said(closing), closing[-1]) == (["closed"], Stop())


def test_a_probe_has_no_stream():
    client = Client()
    probe = OPEN | {"conversationId": NULL, "participant": {"id": NULL}}
    assert said(client.does("open", probe)) == ["opened"]
    assert client.dialect.start is None
    assert client.dialect.receive(bytes(3200)) == []
    closing = client.does("close", {"reason": "end"})
    assert (said(closing), closing[-1]) == (["closed"], Stop())


@pytest.mark.parametrize("changes", [{"conversationId": NULL}, {"participant": {"id": NULL}}])
def test_half_a_probe_is_a_call(changes: dict[str, Any]):
    assert Client().opens(**changes)


@pytest.mark.parametrize("first", ["open", "ping", "close"])
def test_who_is_not_authorized_hears_of_nothing_else(first: str):
    client = Client(is_authorized=False)
    error = client.fails(client.text(first, OPEN))
    assert (error.code, str(error)) == (ErrorCode.UNAUTHORIZED, "not authorized")
    (text,) = client.dialect.send(error_message(error))
    message = json.loads(text)
    assert (message["type"], message["parameters"]) == ("disconnect", {"reason": "unauthorized"})
    assert message["clientseq"] == 1
    assert said(client.does("close", {"reason": "disconnect"})) == ["closed"]


@pytest.mark.parametrize("message", [bytes(3200), "{", ""])
def test_who_is_not_authorized_is_not_read_either(message: str | bytes):
    assert Client(is_authorized=False).fails(message).code is ErrorCode.UNAUTHORIZED


def test_after_disconnect_nothing_is_taken_amiss():
    client = Client()
    client.is_opened()
    error = client.fails(client.text("ping", seq=77))
    (text,) = client.dialect.send(error_message(error))
    assert json.loads(text)["parameters"]["reason"] == "error"
    assert "got seq 77" in json.loads(text)["parameters"]["info"]
    assert client.dialect.send(error_message(error)) == []
    for message in (bytes(3), "{", client.text("ping", id="x", seq=-5, position="?")):
        assert said(client.dialect.receive(message)) in ([], ["pong"])
    assert said(client.does("close", {"reason": "disconnect"}, seq=99)) == ["closed"]
    assert client.does("close") == []


def test_an_error_after_close_is_not_told():
    client = Client()
    client.is_opened()
    assert client.does("close") == [Stop()]
    assert client.does("close") == []
    assert said(client.does("ping")) == ["pong"]
    failure = error_message(ProtocolError(ErrorCode.ENGINE_FAILED, "it failed"))
    (text,) = client.dialect.send(failure)
    assert json.loads(text)["type"] == "closed"


def test_what_the_platform_has_no_words_for():
    client = Client()
    client.is_opened()
    assert client.dialect.send(heartbeat()) == []
    assert client.dialect.send(error_message(ProtocolError(ErrorCode.BAD_AUDIO, "bad"))) == []


def test_without_events_no_result_is_told():
    client = Client(event_interval_ms=None)
    assert client.opens().wants == frozenset()
    client.dialect.send(ready())
    assert [text for result in results() for text in client.dialect.send(result)] == []


durations = st.sampled_from(["PT0S", "PT1.5S", "PT1H", "P7D", "", "x", "PT9999999S"]) | st.text(
    max_size=9
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = (
    "open close ping update discarded paused resumed error dtmf playback_started pong event".split()
)
parameters = (
    st.just(OPEN)
    | st.fixed_dictionaries({"start": durations, "discarded": durations})
    | st.dictionaries(st.sampled_from([*OPEN, "reason", "language"]), json_values)
    | json_values
)
steps = st.one_of(
    st.tuples(st.sampled_from(KINDS), parameters),
    st.tuples(st.just("audio"), st.integers(0, 5000)),
    st.tuples(st.just("raw"), st.text(max_size=50) | st.binary(max_size=50)),
    st.tuples(st.just("result"), st.integers(0, len(results()) - 1)),
)


@given(st.lists(steps, max_size=25), st.booleans())
def test_no_sequence_of_messages_makes_it_fail(sequence: list[tuple[str, Any]], opened: bool):
    """Whatever comes is answered, asked for, let pass or a ProtocolError; ``closed`` comes last."""
    client = Client()
    told: list[str | bytes] = []
    if opened:
        client.is_opened()
        client.serverseq = 1
    admitted = opened
    for kind, value in sequence:
        try:
            if kind == "audio":
                inbound = client.dialect.receive(bytes(value))
            elif kind == "raw":
                inbound = client.dialect.receive(value)
            elif kind == "result":
                told += client.dialect.send(results()[value]) if admitted else []
                continue
            else:
                inbound = client.does(kind, value)
        except ProtocolError as error:
            assert error.ends_stream
            told += client.dialect.send(error_message(error))
            admitted = False
            continue
        for each in inbound:
            if isinstance(each, StreamSpec):
                told += client.dialect.send(ready())
                admitted = True
            elif isinstance(each, Say):
                told += each.messages
            elif isinstance(each, Stop):
                told += client.dialect.send(CLOSED) if admitted else []
                admitted = False
    numbers = [json.loads(text)["seq"] for text in told]
    assert numbers == list(range(1 + opened, len(told) + 1 + opened))
    kinds = [json.loads(text)["type"] for text in told]
    assert "closed" not in kinds[:-1]


@pytest.mark.parametrize(("digit", "key"), [("9", "9"), ("#", "#"), ("", ""), ("12", "")])
def test_a_key_that_is_pressed_is_a_mark(digit: str, key: str):
    client = Client()
    client.is_opened()
    assert client.does("dtmf", {"digit": digit}) == [Mark(name="dtmf", key=key)]


def test_a_key_without_a_digit_ends_the_session():
    client = Client()
    client.is_opened()
    assert "digit" in str(client.fails(client.text("dtmf", {"key": "9"})))
