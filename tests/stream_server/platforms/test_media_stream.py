"""The words of each platform, and what none of them should say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.platforms.media_stream import BOTH_TRACKS, MediaStreamDialect, payload_of
from stream_server.platforms.plivo import extra_headers
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import MAX_BAD_MESSAGES, AudioData, Dialect, HoldsAudio, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Mark, Stop
from stream_server.wire.start import StreamSpec
from tests.support.platform_calls import PLATFORMS, TABLES, Platform, audio_bytes
from tests.support.protocol_lab import ready

ROLES = ("customer", "agent")
EVERY = pytest.mark.parametrize("name", TABLES)
WITH_TRACKS = pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo"])

CALLER = bytes(range(256)) * 5  # 160 ms of µ-law
AGENT = CALLER[::-1]


def dialect_of(name: str, **options: Any) -> MediaStreamDialect:
    return MediaStreamDialect(TABLES[name], roles=ROLES, **options)


def receive_all(dialect: Dialect, messages: Any) -> list[Inbound]:
    return [
        inbound
        for message in messages
        for inbound in dialect.receive(
            message if isinstance(message, str | bytes) else json.dumps(message)
        )
    ]


def started(name: str, *tracks: str, **options: Any) -> MediaStreamDialect:
    dialect = dialect_of(name, **options)
    dialect.receive(json.dumps(PLATFORMS[name]().start(tracks or ("inbound",), {})))
    assert dialect.start is not None
    return dialect


def refused(dialect: MediaStreamDialect, message: Any) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        receive_all(dialect, [message])
    return caught.value


def audio_of(inbound: list[Inbound]) -> bytes:
    return b"".join(each.data for each in inbound if isinstance(each, AudioData))


def interleaved(*channels: bytes) -> bytes:
    return bytes(byte for tick in zip(*channels, strict=True) for byte in tick)


# -- A call ----------------------------------------------------------------------------------------


@EVERY
def test_a_call_of_one_track(name: str):
    call: Platform = PLATFORMS[name](**({"encoding": "audio/x-mulaw"} if name == "exotel" else {}))
    dialect = dialect_of(name, tracks=("inbound",))
    spec, *rest = receive_all(dialect, call.call({"inbound": CALLER}))
    assert isinstance(spec, StreamSpec) and spec is dialect.start
    assert spec.format == AudioFormat("mulaw", 8000, 1)
    assert [channel.role for channel in spec.channels] == ["customer"]
    assert (spec.name, spec.wants, spec.live) == (call.call_id, frozenset(), True)
    assert spec.metadata["platform"] == name
    assert spec.metadata[TABLES[name].stream_id] == call.stream_id
    assert audio_of(rest) == CALLER
    assert isinstance(rest[-1], Stop) or not call.stop(0)


@WITH_TRACKS
def test_a_call_of_two_tracks(name: str):
    spec, *rest = receive_all(
        dialect_of(name), PLATFORMS[name]().call({"inbound": CALLER, "outbound": AGENT})
    )
    assert isinstance(spec, StreamSpec)
    assert spec.format == AudioFormat("mulaw", 8000, 2)
    assert [channel.role for channel in spec.channels] == ["customer", "agent"]
    assert audio_of(rest) == interleaved(CALLER, AGENT)
    assert all(not each.lost for each in rest if isinstance(each, AudioData))


@pytest.mark.parametrize("listed", [["outbound"], ["outbound_track"]])
def test_one_track_is_that_of_its_role(listed: list[str]):
    start = PLATFORMS["twilio"]().start((), {})
    start["start"]["tracks"] = listed
    (spec,) = receive_all(dialect_of("twilio"), [start])
    assert isinstance(spec, StreamSpec)
    assert [channel.role for channel in spec.channels] == ["agent"]


@pytest.mark.parametrize("listed", [["outbound", "inbound"], ["both_tracks"], ["both"]])
def test_two_tracks_are_inbound_first(listed: list[str]):
    start = PLATFORMS["twilio"]().start((), {})
    start["start"]["tracks"] = listed
    (spec,) = receive_all(dialect_of("twilio"), [start])
    assert isinstance(spec, StreamSpec)
    assert [channel.role for channel in spec.channels] == ["customer", "agent"]


def test_telnyx_does_not_say_which_tracks_come():
    two = started("telnyx")
    assert two.start is not None and two.start.format.num_channels == 2
    one = started("telnyx", tracks=("outbound",))
    assert one.start is not None
    assert [channel.role for channel in one.start.channels] == ["agent"]


def test_what_start_lists_counts_more_than_the_url():
    dialect = started("twilio", "inbound", tracks=BOTH_TRACKS)
    assert dialect.start is not None and dialect.start.format.num_channels == 1


@EVERY
def test_nothing_is_sent(name: str):
    dialect = started(name)
    assert dialect.send(ready()) == []
    assert not dialect.can_resume and not dialect.client_closes


# -- Formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "encoding", "rate_hz", "expected"),
    [
        ("telnyx", "PCMU", 8000, AudioFormat("mulaw", 8000)),
        ("telnyx", "audio/x-mulaw", 8000, AudioFormat("mulaw", 8000)),
        ("telnyx", "PCMA", 8000, AudioFormat("alaw", 8000)),
        ("telnyx", "L16", 16000, AudioFormat("pcm_s16le", 16000)),
        ("plivo", "audio/x-l16", 8000, AudioFormat("pcm_s16le", 8000)),
        ("plivo", "audio/x-l16", 16000, AudioFormat("pcm_s16le", 16000)),
        ("exotel", "audio/x-raw", 8000, AudioFormat("pcm_s16le", 8000)),
        ("exotel", "raw/slin", 24000, AudioFormat("pcm_s16le", 24000)),
        ("exotel", "audio/x-mulaw", 8000, AudioFormat("mulaw", 8000)),
        ("signalwire", "audio/x-l16", 24000, AudioFormat("pcm_s16le", 24000)),
        ("signalwire", "L16@24000h", 24000, AudioFormat("pcm_s16le", 24000)),
        ("signalwire", "L16", 16000, AudioFormat("pcm_s16le", 16000)),
    ],
)
def test_formats(name: str, encoding: str, rate_hz: int, expected: AudioFormat):
    call = PLATFORMS[name](encoding=encoding, rate_hz=rate_hz)
    (spec,) = receive_all(dialect_of(name, tracks=("inbound",)), [call.start(("inbound",), {})])
    assert isinstance(spec, StreamSpec) and spec.format == expected


def test_the_rate_may_be_part_of_the_encoding():
    start = PLATFORMS["plivo"](encoding="audio/x-l16;rate=16000").start(("inbound",), {})
    del start["start"]["mediaFormat"]["sampleRate"]
    (spec,) = receive_all(dialect_of("plivo"), [start])
    assert isinstance(spec, StreamSpec) and spec.format == AudioFormat("pcm_s16le", 16000)


def test_a_format_nobody_names_is_the_usual_one():
    start = PLATFORMS["twilio"]().start(("inbound",), {})
    del start["start"]["mediaFormat"]
    (spec,) = receive_all(dialect_of("twilio"), [start])
    assert isinstance(spec, StreamSpec) and spec.format == AudioFormat("mulaw", 8000)


@pytest.mark.parametrize("encoding", ["AMR-WB", "G729", ""])
def test_encodings_that_are_not_understood(encoding: str):
    start = PLATFORMS["telnyx"](encoding=encoding).start(("inbound",), {})
    error = refused(dialect_of("telnyx"), start)
    assert error.code is ErrorCode.BAD_FORMAT and "pcmu" in str(error)


def test_several_channels_in_a_track_are_not_understood():
    start = PLATFORMS["telnyx"]().start(("inbound",), {})
    start["start"]["media_format"]["channels"] = 2
    assert refused(dialect_of("telnyx"), start).code is ErrorCode.BAD_FORMAT


@pytest.mark.parametrize("rate_hz", [0, 7999, 1_000_000])
def test_a_rate_beyond_all_limits(rate_hz: int):
    start = PLATFORMS["telnyx"](rate_hz=rate_hz).start(("inbound",), {})
    assert refused(dialect_of("telnyx"), start).code is ErrorCode.BAD_FORMAT


# -- What is kept with the stream ------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_custom_parameters_are_kept(name: str):
    start = PLATFORMS[name]().start(("inbound",), {"queue": "billing", "sessionId": "abc-xyz"})
    (spec,) = receive_all(dialect_of(name), [start])
    assert isinstance(spec, StreamSpec)
    assert (spec.metadata["queue"], spec.metadata["sessionId"]) == ("billing", "abc-xyz")


def test_no_parameter_takes_the_place_of_what_is_known():
    parameters = {"platform": "other", "streamSid": "MZ0", **{str(n): "x" for n in range(100)}}
    (spec,) = receive_all(
        dialect_of("twilio"), [PLATFORMS["twilio"]().start(("inbound",), parameters)]
    )
    assert isinstance(spec, StreamSpec)
    assert spec.metadata["platform"] == "twilio"
    assert spec.metadata["streamSid"] == PLATFORMS["twilio"].stream_id
    assert len(spec.metadata) == 32


@pytest.mark.parametrize("name", ["telnyx", "exotel"])
def test_numbers_of_people_are_not_kept(name: str):
    (spec,) = receive_all(dialect_of(name), [PLATFORMS[name]().start(("inbound",), {})])
    assert isinstance(spec, StreamSpec)
    assert not any("+" in value for value in spec.metadata.values())


@pytest.mark.parametrize(
    "headers",
    ["a=1;b=x y", "a=1,b=x%20y", '{"a": 1, "b": "x y"}', " a = 1 ; b = x y ;;=3;c"],
)
def test_extra_headers_of_plivo(headers: str):
    start = PLATFORMS["plivo"]().start(("inbound",), {})
    start["extra_headers"] = headers
    (spec,) = receive_all(dialect_of("plivo"), [start])
    assert isinstance(spec, StreamSpec)
    assert (spec.metadata["a"], spec.metadata["b"]) == ("1", "x y")
    assert "c" not in spec.metadata and "" not in spec.metadata


def test_of_endless_extra_headers_the_first_are_read():
    # Other calls wait meanwhile.
    many = ";".join(f"n{number}=%41" for number in range(100_000))
    assert 100 < len(extra_headers(many)) < 1000


@pytest.mark.parametrize("headers", [None, 3, "{", '{"a"', '["a"]', "[" * 100_000])
def test_extra_headers_that_are_none(headers: Any):
    start = PLATFORMS["plivo"]().start(("inbound",), {})
    start["extra_headers"] = headers
    (spec,) = receive_all(dialect_of("plivo"), [start])
    assert isinstance(spec, StreamSpec) and "a" not in spec.metadata


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("agent,customer", ["agent", "customer"]),
        ("agent customer", ["agent", "customer"]),
        ("agent", ["agent", "customer"]),
        ("driver", ["driver", "customer"]),
        ("", ["customer", "agent"]),
    ],
)
def test_a_parameter_says_who_speaks(roles: str, expected: list[str]):
    start = PLATFORMS["twilio"]().start(BOTH_TRACKS, {"roles": roles})
    (spec,) = receive_all(dialect_of("twilio"), [start])
    assert isinstance(spec, StreamSpec)
    assert [channel.role for channel in spec.channels] == expected


def test_a_role_that_is_none_ends_the_stream():
    start = PLATFORMS["twilio"]().start(BOTH_TRACKS, {"roles": "Agent"})
    assert refused(dialect_of("twilio"), start).code is ErrorCode.BAD_START


# -- Events ----------------------------------------------------------------------------------------


@EVERY
def test_a_key_is_a_mark_of_a_name_that_does_not_say_which(name: str):
    dialect = started(name)
    assert receive_all(dialect, [PLATFORMS[name]().dtmf("7")]) == [Mark(name="dtmf", key="7")]


def test_a_mark():
    assert receive_all(started("twilio"), [mark("greeting\n" + "x" * 300)]) == [
        Mark(name="greeting " + "x" * 247)
    ]


def mark(name: Any) -> dict[str, Any]:
    return {
        "event": "mark",
        "sequenceNumber": "4",
        "streamSid": PLATFORMS["twilio"].stream_id,
        "mark": {"name": name},
    }


@EVERY
@pytest.mark.parametrize("event", ["connected", "clearedAudio", "playedStream", "error", "clear"])
def test_other_events_are_ignored_at_any_time(name: str, event: str):
    for dialect in (dialect_of(name), started(name)):
        for _ in range(MAX_BAD_MESSAGES + 1):
            assert receive_all(dialect, [{"event": event, "streamSid": 3}]) == []


@pytest.mark.parametrize("name", ["twilio", "telnyx", "exotel"])
def test_a_call_that_stops_before_it_starts(name: str):
    assert receive_all(dialect_of(name), PLATFORMS[name]().stop(1)) == [Stop()]


def test_what_waits_for_the_other_track_can_be_had():
    dialect: Dialect = dialect_of("plivo")
    assert isinstance(dialect, HoldsAudio) and dialect.release() == []
    call = PLATFORMS["plivo"]().call({"inbound": CALLER, "outbound": AGENT[:-160]})
    heard = receive_all(dialect, call)
    assert len(audio_of(heard)) == 2 * len(AGENT[:-160])
    (rest,) = dialect.release()
    assert isinstance(rest, AudioData)
    assert (rest.data[::2], len(rest.lost)) == (CALLER[-160:], 1)
    assert dialect.release() == []


# -- Numbers and order -----------------------------------------------------------------------------


def media(number: Any, timestamp: Any, payload: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "event": "media",
        "streamSid": PLATFORMS["twilio"].stream_id,
        "media": {
            "track": "inbound",
            "chunk": number,
            "timestamp": timestamp,
            "payload": audio_bytes(CALLER[:160]) if payload is None else payload,
            **changes,
        },
    }


@pytest.mark.parametrize(
    ("number", "timestamp"),
    [("1", "155"), (1, 155), (1.0, 155.5), (" 1 ", "155.75"), (None, None), (None, "155")],
)
def test_numbers_may_be_strings_or_missing(number: Any, timestamp: Any):
    assert audio_of(receive_all(started("twilio"), [media(number, timestamp)])) == CALLER[:160]


@pytest.mark.parametrize(
    "wrong", ["", "-1", -1, "1e3", "٣", [], {}, "9" * 16, 10**300, 1e300, "0x1"]
)
@pytest.mark.parametrize("field", ["chunk", "timestamp"])
def test_what_is_no_number(wrong: Any, field: str):
    message = media("1", "155")
    message["media"][field] = wrong
    assert refused(started("twilio"), message).code is ErrorCode.BAD_MESSAGE


def test_packets_of_telnyx_are_put_in_order():
    messages = list(PLATFORMS["telnyx"]().messages({"inbound": CALLER}))
    messages[3], messages[4] = messages[4], messages[3]
    rest = receive_all(dialect_of("telnyx", tracks=("inbound",)), messages)[1:]
    assert audio_of(rest) == CALLER


def test_a_packet_that_comes_twice_counts_once():
    messages = list(PLATFORMS["telnyx"]().messages({"inbound": CALLER}))
    messages.insert(4, messages[3])
    rest = receive_all(dialect_of("telnyx", tracks=("inbound",)), messages)[1:]
    assert audio_of(rest) == CALLER


def test_a_packet_that_never_comes_is_lost():
    messages = list(PLATFORMS["twilio"]().messages({"inbound": CALLER}))
    del messages[4]
    rest = receive_all(dialect_of("twilio"), messages)[1:]
    lost = [span for each in rest if isinstance(each, AudioData) for span in each.lost]
    assert len(audio_of(rest)) == len(CALLER)
    assert sum(span.end_tick - span.start_tick for span in lost) == 160


def test_a_track_nobody_asked_for_is_left_out():
    messages = PLATFORMS["telnyx"]().messages({"inbound": CALLER, "outbound": AGENT})
    rest = receive_all(dialect_of("telnyx", tracks=("inbound",)), messages)[1:]
    assert audio_of(rest) == CALLER


def test_media_without_a_track_is_of_the_only_one():
    message = media("1", "0")
    del message["media"]["track"]
    assert audio_of(receive_all(started("twilio"), [message])) == CALLER[:160]
    two = started("twilio", "inbound", "outbound")
    assert refused(two, message).code is ErrorCode.BAD_MESSAGE


# -- What makes no sense ---------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    "message",
    [
        b"\x00\x01",
        "",
        "x",
        "[]",
        "3",
        "null",
        "{}",
        '{"event": 3}',
        '{"event": null}',
        "[" * 100_000,
        '{"event": "start"}',
        '{"event": "start", "start": []}',
    ],
)
def test_nonsense_is_refused_and_changes_nothing(name: str, message: str | bytes):
    dialect = dialect_of(name, tracks=("inbound",))
    assert refused(dialect, message).code is ErrorCode.BAD_MESSAGE
    assert dialect.start is None
    call = PLATFORMS[name](**({"encoding": "audio/x-mulaw"} if name == "exotel" else {}))
    _, *rest = receive_all(dialect, call.call({"inbound": CALLER}))
    assert audio_of(rest) == CALLER


@pytest.mark.parametrize(
    "message",
    [
        {"event": "media"},
        {"event": "media", "media": None},
        {"event": "mark"},
        mark(None),
        mark(3),
        media("1", "0", track="sideways"),
        media("1", "0", track=1),
        media("1", "0", payload=3),
        media("1", "0", payload="?"),
        media("1", "0", payload="AAAAA"),
        media("1", "0", payload="AA A="),
    ],
)
def test_a_wrong_message_leaves_the_stream_as_it_was(message: Any):
    dialect = started("twilio")
    messages = list(PLATFORMS["twilio"]().messages({"inbound": CALLER}))[2:]
    inbound = receive_all(dialect, messages[:3])
    assert refused(dialect, message).code is ErrorCode.BAD_MESSAGE
    assert audio_of(inbound + receive_all(dialect, messages[3:])) == CALLER


def test_base64_comes_in_all_its_forms():
    data = bytes(range(62, 256)) + b"\xff\xfe\xfb"
    standard, url_safe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    lines = "\r\n".join(standard[at : at + 76] for at in range(0, len(standard), 76))
    for text in (standard, url_safe, url_safe.rstrip("="), lines, lines.replace("\r\n", "\r")):
        assert payload_of({"payload": text}, "payload", 1) == data
    for text in (standard[:-3], "=" + standard, "ä" + standard, "*"):
        with pytest.raises(ProtocolError, match="not Base64"):
            payload_of({"payload": text}, "payload", 1)


def test_half_a_sample_is_refused():
    dialect = started("exotel")
    message = PLATFORMS["exotel"]().media(1, "", 1, 0, b"abc")
    assert refused(dialect, message).code is ErrorCode.BAD_MESSAGE


def test_media_of_another_stream_is_refused():
    message = {**media("1", "0"), "streamSid": "MZ0"}
    assert refused(started("twilio"), message).code is ErrorCode.UNEXPECTED_MESSAGE


def test_media_that_does_not_say_of_which_stream():
    message = media("1", "0")
    del message["streamSid"]
    assert audio_of(receive_all(started("twilio"), [message])) == CALLER[:160]


@EVERY
def test_start_comes_first_and_once(name: str):
    call = PLATFORMS[name]()
    dialect = dialect_of(name)
    for early in (call.media(1, "inbound", 1, 0, b"\xff" * 160), call.dtmf("1")):
        assert refused(dialect, early).code is ErrorCode.UNEXPECTED_MESSAGE
    receive_all(dialect, [call.start(("inbound",), {})])
    second = refused(dialect, call.start(("inbound", "outbound"), {}))
    assert second.code is ErrorCode.UNEXPECTED_MESSAGE


def test_nothing_comes_after_stop():
    dialect = started("twilio")
    receive_all(dialect, PLATFORMS["twilio"]().stop(2))
    for late in (media("1", "0"), *PLATFORMS["twilio"]().stop(3)):
        assert refused(dialect, late).code is ErrorCode.UNEXPECTED_MESSAGE


def test_too_much_nonsense_ends_the_stream():
    dialect = started("twilio")
    codes = [refused(dialect, "x").code for _ in range(MAX_BAD_MESSAGES + 1)]
    assert codes == [ErrorCode.BAD_MESSAGE] * MAX_BAD_MESSAGES + [ErrorCode.TOO_MANY_ERRORS]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 10**6, 10**14, "5", "99999999999"]) | JSON
MEDIA = st.fixed_dictionaries(
    {},
    optional={
        "track": st.sampled_from(["inbound", "outbound"]) | JSON,
        "chunk": NUMBERS,
        "timestamp": NUMBERS,
        "payload": st.binary(max_size=400).map(audio_bytes) | JSON,
    },
)


@st.composite
def calls(draw: st.DrawFn, name: str) -> list[str]:
    """Return what a platform might send if all its rules were off."""
    call = PLATFORMS[name]()
    stream_id: st.SearchStrategy[dict[str, str]] = st.just(
        {TABLES[name].stream_id: call.stream_id}
    ) | st.just({})
    events = st.one_of(
        st.builds(lambda m, s: {"event": "media", "media": m, **s}, MEDIA | JSON, stream_id),
        st.just(call.start(("inbound", "outbound"), {"a": "b"})),
        st.builds(lambda s: {"event": "start", "start": s}, JSON),
        st.just(call.dtmf("1")),
        st.builds(lambda value: {"event": "mark", "mark": value}, JSON),
        st.sampled_from(call.stop(3) or [{"event": "stop"}]),
        JSON,
    )
    return [json.dumps(message) for message in draw(st.lists(events, max_size=24))]


@EVERY
@settings(max_examples=40)
@given(st.data())
def test_whatever_comes_is_understood_or_refused(name: str, data: st.DataObject):
    dialect = dialect_of(name)
    ticks = 0
    for message in data.draw(calls(name)):
        was_started, was_stopped = dialect.start is not None, dialect._stopped
        try:
            inbound = dialect.receive(message)
        except ProtocolError as error:
            assert (dialect.start is not None, dialect._stopped) == (was_started, was_stopped)
            if error.ends_stream:
                break
            continue
        for each in inbound:
            if isinstance(each, AudioData):
                assert dialect.start is not None
                num_bytes = dialect.start.format.bytes_per_tick
                assert len(each.data) % num_bytes == 0
                ticks += len(each.data) // num_bytes
                for span in each.lost:
                    assert 0 <= span.start_tick < span.end_tick <= len(each.data) // num_bytes
    # What comes out is bounded by what went in, whatever timestamps say.
    assert ticks < 24 * 3600 * 8000


@pytest.mark.parametrize(
    ("in_start", "in_media"),
    [
        ({"mediaFormat": {"encoding": None, "sampleRate": None, "channels": None}}, {}),
        ({"tracks": "both_tracks"}, {}),
        ({}, {"track": "inbound_track"}),
        ({}, {"track": "Inbound"}),
        ({}, {"payload": base64.encodebytes(b"\x7f" * 160).decode()}),
        ({}, {"timestamp": None, "chunk": None}),
    ],
)
def test_what_can_be_understood_is(in_start: dict[str, Any], in_media: dict[str, Any]):
    start = {"event": "start", "start": {"callSid": "CA1", **in_start}}
    media = {"track": "inbound", "payload": audio_bytes(b"\x7f" * 160), **in_media}
    dialect = dialect_of("twilio")
    spec, *audio = receive_all(dialect, [start, {"event": "media", "media": media}])
    assert isinstance(spec, StreamSpec) and spec.format.encoding == "mulaw"
    num_channels = 2 if "tracks" in in_start else 1
    assert spec.format.num_channels == num_channels
    heard = [each.data for each in [*audio, *dialect.release()] if isinstance(each, AudioData)]
    assert len(b"".join(heard)) == 160 * num_channels
