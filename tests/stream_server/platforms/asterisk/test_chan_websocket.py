"""chan_websocket, as Asterisk's documentation and source say it speaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.platforms.asterisk import FORMATS, ChanWebSocketDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ChannelSpec, Mark
from stream_server.wire.start import StreamSpec
from tests.support.protocol_lab import server_messages

PLAIN = (
    "MEDIA_START connection_id:media_connection1 channel:WebSocket/media_connection1/0x7f39bc02"
    " channel_id:1750000000.42 format:ulaw optimal_frame_size:160 ptime:20"
)
FIRST_RELEASES = (
    "MEDIA_START connection_id:6e4c0d3a-2b22-4a5c-9b59-9c4f7a3c6c1e"
    " channel:WebSocket/INCOMING/0x7f39bc02 format:slin16 optimal_frame_size:640 ptime:20"
)
KEYS = [
    "DTMF_END digit:5 channel_id:1750000000.42",
    '{"event":"DTMF_END","channel_id":"1750000000.42","digit":"5"}',
]
EVENTS = [
    "MEDIA_XOFF",
    "MEDIA_XON",
    "QUEUE_DRAINED",
    "STATUS channel_id:1750000000.42 queue_length:0 xon_level:800 xoff_level:900"
    " queue_full:false bulk_media:false media_paused:false",
    "MEDIA_BUFFERING_COMPLETED id",
    "MEDIA_MARK_PROCESSED id",
    "ERROR channel_id:1750000000.42 error_text:Unable to parse JSON command",
    "",
    "SOMETHING of:a later:version",
    '{"event":"MEDIA_XOFF","channel_id":"1750000000.42"}',
    '{"event":17}',
    '{"no":"event"}',
    "{half",
]


def start_json(**changes: Any) -> str:
    return json.dumps(
        {
            "event": "MEDIA_START",
            "connection_id": "media_connection1",
            "channel": "WebSocket/media_connection1/0x7f39bc02",
            "channel_id": "1750000000.42",
            "format": "ulaw",
            "optimal_frame_size": 160,
            "ptime": 20,
            "channel_variables": {"QUEUE": "sales"},
            **changes,
        }
    )


def begun(text: str = PLAIN, **query: str) -> StreamSpec:
    dialect = ChanWebSocketDialect("customer", query)
    (spec,) = dialect.receive(text)
    assert isinstance(spec, StreamSpec)
    assert dialect.start is spec
    return spec


def test_a_call_in_plain_text():
    dialect = ChanWebSocketDialect("customer")
    assert dialect.start is None
    assert dialect.receive(KEYS[0]) == []
    (spec,) = dialect.receive(PLAIN)
    assert spec == StreamSpec(
        format=AudioFormat("mulaw", 8000),
        channels=(ChannelSpec(role="customer"),),
        name="1750000000.42",
        metadata={
            "platform": "asterisk-websocket",
            "connection_id": "media_connection1",
            "channel": "WebSocket/media_connection1/0x7f39bc02",
            "channel_id": "1750000000.42",
        },
        wants=frozenset(),
    )
    assert dialect.receive(b"\xff" * 160) == [AudioData(b"\xff" * 160)]
    for event in EVENTS:
        assert dialect.receive(event) == []
    for key in KEYS:
        assert dialect.receive(key) == [Mark(name="dtmf", key="5")]
    assert dialect.receive(b"\x7f" * 160) == [AudioData(b"\x7f" * 160)]


def test_json_says_the_same_and_the_channels_variables():
    plain, spec = begun(), begun(start_json())
    assert spec.metadata == {**plain.metadata, "QUEUE": "sales"}
    assert (spec.format, spec.name, spec.channels) == (plain.format, plain.name, plain.channels)


def test_variables_cannot_pass_for_ids_and_are_bounded():
    variables = {"channel_id": "forged", "long": "x" * 1000, **{f"v{i}": i for i in range(100)}}
    spec = begun(start_json(channel_variables=variables))
    assert spec.metadata["channel_id"] == "1750000000.42"
    assert (len(spec.metadata), len(spec.metadata["long"])) == (32, 256)


def test_without_a_channel_id_the_connection_names_the_stream():
    spec = begun(FIRST_RELEASES)
    assert spec.name == "6e4c0d3a-2b22-4a5c-9b59-9c4f7a3c6c1e"
    assert spec.format == AudioFormat("pcm_s16le", 16_000)


def test_the_query_says_role_and_name():
    spec = begun(PLAIN, role="agent", name="call 7")
    assert (spec.channels, spec.name) == ((ChannelSpec(role="agent"),), "call 7")


@pytest.mark.parametrize(("name", "known"), list(FORMATS.items()))
def test_formats(name: str, known: tuple[str, int]):
    spec = begun(PLAIN.replace("ulaw", name))
    assert (spec.format.told_encoding, spec.format.sample_rate_hz) == known


@pytest.mark.parametrize("said", ["speex", "slin96", "g729", ""])
def test_other_formats_are_refused(said: str):
    with pytest.raises(ProtocolError, match=f"got '{said}' format, expected one of") as caught:
        begun(PLAIN.replace("ulaw", said))
    assert caught.value.code is ErrorCode.BAD_FORMAT


@pytest.mark.parametrize("text", ["MEDIA_START", '{"event":"MEDIA_START","format":7}'])
def test_a_start_without_a_format_is_refused(text: str):
    with pytest.raises(ProtocolError, match="got no format"):
        begun(text)


def test_audio_does_not_come_first():
    with pytest.raises(ProtocolError, match="before MEDIA_START") as caught:
        ChanWebSocketDialect("customer").receive(b"\xff" * 160)
    assert caught.value.code is ErrorCode.NOT_STARTED


def test_a_second_start_is_ignored_and_told_of():
    dialect = ChanWebSocketDialect("customer")
    dialect.receive(PLAIN)
    with pytest.raises(ProtocolError, match="got a second MEDIA_START") as caught:
        dialect.receive(PLAIN)
    assert not caught.value.ends_stream


def test_what_is_mistyped_in_the_query_is_refused():
    with pytest.raises(ProtocolError, match="got 'rolle' in the query, expected role and name"):
        ChanWebSocketDialect("customer", {"rolle": "agent"})
    with pytest.raises(ProtocolError, match="got role 'A B' of channel 0"):
        begun(PLAIN, role="A B")


def test_nothing_is_ever_sent():
    dialect = ChanWebSocketDialect("customer")
    assert [dialect.send(message) for message in server_messages()] == [[]] * len(server_messages())


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(st.text(), st.binary(), st.sampled_from([PLAIN, start_json(), *KEYS, *EVENTS]))
    )
)
def test_no_messages_break_it(messages: list[str | bytes]) -> None:
    dialect = ChanWebSocketDialect("customer")
    for message in messages:
        try:
            dialect.receive(message)
        except ProtocolError as error:
            if error.ends_stream:
                return
