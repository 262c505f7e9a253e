"""Bandwidth's messages, written from its documentation. Over a socket: test_telephone_platforms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.platforms.bandwidth import BANDWIDTH
from stream_server.platforms.media_stream import MediaStreamDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Stop
from stream_server.wire.start import StreamSpec
from tests.support.platform_calls import PLATFORMS

CALL = PLATFORMS["bandwidth"]()


def dialect_of() -> MediaStreamDialect:
    return MediaStreamDialect(BANDWIDTH, roles=("customer", "agent"))


def put(dialect: MediaStreamDialect, *messages: dict[str, Any]) -> list[Inbound]:
    return [each for message in messages for each in dialect.receive(json.dumps(message))]


def test_a_call_of_two_tracks():
    sides = {"inbound": bytes(range(160)), "outbound": bytes(range(160))[::-1]}
    numbered = [
        {**message, "sequenceNumber": str(number)}
        for number, message in enumerate(CALL.messages(sides, parameters={"queue": "billing"}))
    ]
    spec, *rest = put(dialect_of(), *numbered)
    assert isinstance(spec, StreamSpec)
    assert spec.format == AudioFormat("mulaw", 8000, 2)
    assert [channel.role for channel in spec.channels] == ["customer", "agent"]
    assert spec.name == CALL.call_id
    assert spec.metadata == {
        "platform": "bandwidth",
        "streamId": CALL.stream_id,
        "accountId": "5555555",
        "queue": "billing",
    }
    audio = b"".join(each.data for each in rest if isinstance(each, AudioData))
    assert (audio[::2], audio[1::2]) == (sides["inbound"], sides["outbound"])
    assert rest[-1] == Stop()


def test_one_track_is_that_of_its_role_and_what_is_unknown_is_ignored():
    dialect = dialect_of()
    assert put(dialect, {"eventType": "hello"}) == []
    (spec,) = put(dialect, CALL.start(("outbound",), {}))
    assert isinstance(spec, StreamSpec)
    assert [channel.role for channel in spec.channels] == ["agent"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"tracks": [{"name": "inbound", "mediaFormat": {"encoding": "OPUS"}}]}, "bad_format"),
        (
            {
                "tracks": [
                    {"name": "inbound", "mediaFormat": {"sampleRate": 8000}},
                    {"name": "outbound", "mediaFormat": {"sampleRate": 16_000}},
                ]
            },
            "bad_message",
        ),
    ],
)
def test_a_start_that_cannot_be_served(change: dict[str, Any], code: str):
    start = CALL.start(("inbound",), {})
    start["metadata"] |= change
    with pytest.raises(ProtocolError) as caught:
        put(dialect_of(), start)
    assert caught.value.code is ErrorCode(code)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {"eventType": st.sampled_from(["start", "media", "stop"]) | JSON},
    optional={
        "metadata": JSON
        | st.fixed_dictionaries(
            {
                "tracks": JSON
                | st.lists(st.fixed_dictionaries({"name": JSON, "mediaFormat": JSON}), max_size=2)
            }
        ),
        "streamParams": JSON,
        "track": st.sampled_from(["inbound", "outbound"]) | JSON,
        "payload": st.sampled_from(["//7+", "?"]) | JSON,
    },
)


@settings(max_examples=60)
@given(st.lists(FIELDS | st.just(CALL.start(("inbound", "outbound"), {})), max_size=12))
def test_whatever_comes_is_understood_or_refused(messages: list[dict[str, Any]]):
    dialect = dialect_of()
    for message in messages:
        was_started = dialect.start is not None
        try:
            dialect.receive(json.dumps(message))
        except ProtocolError:
            assert (dialect.start is not None) == was_started
