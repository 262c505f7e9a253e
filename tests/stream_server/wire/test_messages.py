"""Every message survives the way over the wire."""

from __future__ import annotations

import msgspec
import pytest

from stream_server.wire.messages import (
    ChannelSpec,
    ClientMessage,
    ConsentTold,
    Discarded,
    Flush,
    KeepAlive,
    Mark,
    Objection,
    Pause,
    Resume,
    ResumeRequest,
    ServerMessage,
    SpeakerTold,
    Start,
    Stop,
)
from tests.support.protocol_lab import server_messages

CLIENT_MESSAGES: list[ClientMessage] = [
    Start(
        encoding="alaw",
        sample_rate=8000,
        channels=(ChannelSpec(role="customer", name="Ann"), ChannelSpec()),
        name="call",
        metadata={"queue": "sales"},
        wants=("frames",),
        resume=ResumeRequest(token="t", next_sample=4, last_seq=2),
        token="secret",
    ),
    KeepAlive(),
    Flush(),
    Pause(),
    Resume(),
    Resume(paused_samples=4),
    Discarded(samples=4),
    Mark(name="here"),
    ConsentTold(consent="given", notice_version="3"),
    SpeakerTold(speaker="speaker 2", left_out=False, channel=1),
    Objection(),
    Stop(),
]


@pytest.mark.parametrize("message", CLIENT_MESSAGES, ids=lambda m: type(m).__name__)
def test_client_messages_come_back(message: ClientMessage):
    text = msgspec.json.encode(message)
    assert msgspec.json.decode(text, type=ClientMessage) == message


@pytest.mark.parametrize("message", server_messages(), ids=lambda m: type(m).__name__)
def test_server_messages_come_back(message: ServerMessage):
    text = msgspec.json.encode(message)
    assert msgspec.json.decode(text, type=ServerMessage) == message


def test_every_type_is_tried():
    assert {type(m) for m in CLIENT_MESSAGES} == set(ClientMessage.__args__)
    assert {type(m) for m in server_messages()} == set(ServerMessage.__args__)


def test_types_name_one_message_each():
    types = [*ClientMessage.__args__, *ServerMessage.__args__]
    tags = [message.__struct_config__.tag for message in types]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("message", server_messages(), ids=lambda m: type(m).__name__)
def test_unknown_fields_are_ignored(message: ServerMessage):
    said = {**msgspec.to_builtins(message), "of_a_later_version": [1]}
    assert msgspec.json.decode(msgspec.json.encode(said), type=ServerMessage) == message
