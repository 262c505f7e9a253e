from __future__ import annotations

import dataclasses

import msgspec
import pytest

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import (
    ClientMessage,
    Discarded,
    Flush,
    KeepAlive,
    Mark,
    Pause,
    Resume,
    ResumeRequest,
    ServerMessage,
    Start,
    Stop,
    error_message,
)
from stream_server.wire.native_client import DEFAULT_KEPT_S, ClientState, NativeClient
from stream_server.wire.replay_log import CannotBeginAnewError
from stream_server.wire.results import Summary
from stream_server.wire.start import StreamSpec, check_start
from tests.support.protocol_lab import SPEC, heartbeat, point, ready, results, server_messages

WEBM = dataclasses.replace(SPEC, format=AudioFormat.told("webm", 16_000, 1))
SUMMARY = next(result for result in results() if isinstance(result, Summary))


def text(message: ServerMessage) -> str:
    return msgspec.json.encode(message).decode()


def parsed(message: str | bytes) -> ClientMessage:
    decoded: ClientMessage = msgspec.json.decode(message, type=ClientMessage)
    return decoded


def parsed_or_bytes(message: str | bytes) -> ClientMessage | bytes:
    return message if isinstance(message, bytes) else parsed(message)


def streaming(
    spec: StreamSpec = SPEC, *, max_kept_bytes: int | None = None, **described: int
) -> NativeClient:
    client = NativeClient(spec, max_kept_bytes=max_kept_bytes)
    client.connect()
    client.receive(text(ready(**described)))
    return client


def test_start_asks_for_the_spec():
    spec = dataclasses.replace(
        SPEC,
        name="Call",
        metadata={"a": "b"},
        wants=frozenset(("frames", "points")),
        token="secret",
    )
    start = parsed(NativeClient(spec).connect())
    assert isinstance(start, Start)
    assert check_start(start) == spec


def test_audio_waits_for_ready():
    client = NativeClient(SPEC)
    client.send_audio(b"\1\1")
    assert client.take_outgoing() == []
    client.connect()
    assert (client.take_outgoing(), client.keep_alive()) == ([], [])
    assert client.state is ClientState.STARTING
    assert client.receive(text(ready())) == [ready()]
    assert client.take_outgoing() == [b"\1\1"]
    assert (client.state, client.ready) == (ClientState.STREAMING, ready())


def test_controls_are_said():
    client = streaming()
    client.flush()
    client.discard(0)
    client.discard(3)
    client.mark("m")
    client.pause()
    client.resume(4)
    client.stop()
    assert [parsed(message) for message in client.take_outgoing()] == [
        Flush(),
        Discarded(samples=3),
        Mark(name="m"),
        Pause(),
        Resume(paused_samples=4),
        Stop(),
    ]
    assert client._log.end_sample == 7


def test_keepalive_is_not_kept():
    client = streaming()
    assert [parsed(message) for message in client.keep_alive()] == [KeepAlive()]
    assert client.take_outgoing() == []


def test_results_are_new_once():
    client = streaming()
    assert client.receive(text(point(3))) == [point(3)]
    assert client.receive(text(point(3))) == []
    assert client.receive(text(point(2))) == []
    assert client.receive(text(point(7))) == [point(7)]


def test_every_message_is_understood():
    for message in server_messages():
        client = NativeClient(SPEC)
        client.connect()
        assert client.receive(text(message)) == [message]


def test_what_a_later_version_says_is_left_out():
    client = streaming()
    assert client.receive('{"type": "mood", "x": 1}') == []
    assert client.receive(b"\0") == []


@pytest.mark.parametrize("message", ["", "[]", '{"type": "point"}', "[" * 100_000, "\ud800"])
def test_what_no_server_says_is_an_error(message: str):
    with pytest.raises(ProtocolError, match="not of this protocol"):
        streaming().receive(message)


def test_ready_comes_once():
    with pytest.raises(ProtocolError, match="got 'ready'") as caught:
        streaming().receive(text(ready()))
    assert caught.value.code is ErrorCode.UNEXPECTED_MESSAGE


def test_a_lost_stream_is_taken_up():
    client = streaming()
    client.send_audio(bytes(20))
    client.take_outgoing()
    client.receive(text(point(5)))
    client.receive(text(heartbeat(received_samples=10)))
    client.send_audio(b"\2\2\3\3")
    client.take_outgoing()
    assert client.closed(1006)
    assert client.state is ClientState.DISCONNECTED
    client.send_audio(b"\4\4")
    start = parsed(client.connect())
    assert isinstance(start, Start)
    assert start.resume == ResumeRequest(token="token-1", next_sample=10, last_seq=5)
    client.receive(text(ready(resumed=True, received_samples=11, resume_token="token-2")))
    assert client.take_outgoing() == [b"\3\3", b"\4\4"]
    assert client._stream.start_sample == 0
    client.closed(None)
    start = parsed(client.connect())
    assert isinstance(start, Start)
    assert start.resume is not None
    assert start.resume.token == "token-2"


def test_a_stream_that_is_gone_is_followed_by_a_new_one():
    client = streaming()
    client.send_audio(bytes(16_000))
    client.take_outgoing()
    client.receive(text(point(5)))
    client.receive(text(heartbeat(received_samples=8000)))
    client.send_audio(b"\2\2")
    client.closed(None)
    client.connect()
    client.receive(text(ready(resumed=False)))
    assert (client._stream.start_sample, client.stream_start_s) == (8000, 1.0)
    assert client.take_outgoing() == [b"\2\2"]
    assert client.receive(text(point(1))) == [point(1)], "its results are counted from 0 again"
    client.receive(text(heartbeat(received_samples=1)))
    client.closed(None)
    start = parsed(client.connect())
    assert isinstance(start, Start)
    assert start.resume == ResumeRequest(token="token-1", next_sample=1, last_seq=1)


def test_encoded_audio_is_counted_and_taken_up_in_bytes():
    client = streaming(WEBM, received_bytes=0)
    client.send_audio(bytes(9) + b"\1\2\3")
    client.discard(480)
    client.send_audio(b"\4")
    assert [parsed_or_bytes(each) for each in client.take_outgoing()] == [
        bytes(9) + b"\1\2\3",
        Discarded(samples=480),
        b"\4",
    ]
    client.receive(text(heartbeat(received_samples=9999, received_bytes=5)))
    client.closed(None)
    start = parsed(client.connect())
    assert isinstance(start, Start)
    # The message of which the server had a part is still whole.
    assert start.resume == ResumeRequest(token="token-1", next_sample=0, next_byte=0)
    client.receive(text(ready(resumed=True, received_samples=9999, received_bytes=10)))
    assert [parsed_or_bytes(each) for each in client.take_outgoing()] == [
        b"\2\3",
        Discarded(samples=480),
        b"\4",
    ]


def test_encoded_audio_begins_anew_with_all_of_it_or_not_at_all():
    client = streaming(WEBM, received_bytes=0)
    client.send_audio(b"\1\2")
    client.take_outgoing()
    client.closed(None)
    client.connect()
    client.receive(text(ready(resumed=False, received_bytes=0)))
    assert client.take_outgoing() == [b"\1\2"]
    client.receive(text(heartbeat(received_bytes=2)))
    client.closed(None)
    client.connect()
    with pytest.raises(CannotBeginAnewError, match="whose first 2 bytes are no longer"):
        client.receive(text(ready(resumed=False, received_bytes=0)))
    # Nor where the server ended it after it had decoded some: that would be told twice.
    client = streaming(WEBM, received_bytes=0)
    client.send_audio(b"\1\2")
    client.take_outgoing()
    client.receive(
        text(msgspec.structs.replace(SUMMARY, reason="server_stopped", received_samples=5))
    )
    assert client.state is ClientState.DISCONNECTED
    with pytest.raises(CannotBeginAnewError, match="the server ended the stream"):
        client.connect()


def test_what_was_dropped_of_encoded_audio_is_no_gap():
    client = NativeClient(WEBM, max_kept_bytes=3)
    for _ in range(3):
        client.send_audio(b"\1\2")
    client.connect()
    with pytest.raises(CannotBeginAnewError):
        client.receive(text(ready(received_bytes=0)))


def test_the_buffer_holds_half_a_minute():
    client = streaming()
    assert client.room_bytes == DEFAULT_KEPT_S * SPEC.format.bytes_per_s
    client.send_audio(bytes(1000))
    assert client.room_bytes == DEFAULT_KEPT_S * SPEC.format.bytes_per_s - 1000


def test_a_full_buffer_drops_the_oldest():
    client = streaming(max_kept_bytes=4)
    for _ in range(5):
        client.send_audio(b"\1\1")
    assert client.room_bytes == 0
    first, *audio = client.take_outgoing()
    assert parsed(first) == Discarded(samples=3)
    assert audio == [b"\1\1"] * 2


def test_an_end_of_the_stream_is_the_end():
    client = streaming()
    client.stop()
    client.take_outgoing()
    client.receive(text(SUMMARY))
    assert client.state is ClientState.FINISHED
    assert not client.closed(1000)
    assert not client.refused(503)
    with pytest.raises(RuntimeError, match="make a new client"):
        client.connect()


def test_a_server_that_ends_the_stream_leaves_the_rest_for_a_new_one():
    client = streaming()
    client.send_audio(b"\1\1" * 6000)
    client.mark("early")
    client.send_audio(b"\2\2" * 6000)
    client.stop()
    client.take_outgoing()
    ended = msgspec.structs.replace(SUMMARY, reason="server_stopped", received_samples=8000)
    client.receive(text(ended))
    assert client.take_outgoing() == []
    stopping = error_message(ProtocolError(ErrorCode.SHUTTING_DOWN, "stopping"))
    client.receive(text(stopping))
    assert client.closed(1001)
    start = parsed(client.connect())
    assert isinstance(start, Start)
    assert start.resume is None
    client.receive(text(ready()))
    assert client._stream.start_sample == 8000
    audio, stop = client.take_outgoing()
    assert audio == b"\2\2" * 4000
    assert isinstance(parsed(stop), Stop)


def test_a_server_that_ends_the_stream_at_its_end_is_the_end():
    client = streaming()
    client.send_audio(b"\1\1" * 100)
    client.stop()
    client.take_outgoing()
    ended = msgspec.structs.replace(SUMMARY, reason="server_stopped", received_samples=100)
    client.receive(text(ended))
    assert client.state is ClientState.FINISHED


def test_an_error_says_whether_to_come_back():
    client = streaming()
    full = error_message(ProtocolError(ErrorCode.SERVER_FULL, "full", retry_after_s=5.0))
    assert client.receive(text(full)) == [full]
    assert client.closed(4503)
    assert client.retry_after_s() == 5.0
    client.connect()
    assert client.retry_after_s() is None
    wrong = error_message(ProtocolError(ErrorCode.NOT_STARTED, "late"))
    client.receive(text(wrong))
    assert not client.closed(4408)


def test_an_error_that_leaves_the_stream_does_not_count():
    client = streaming()
    client.receive(text(error_message(ProtocolError(ErrorCode.BAD_MESSAGE, "x"))))
    assert client.closed(None)


def test_a_refused_handshake():
    client = NativeClient(SPEC)
    assert client.refused(503)
    assert not client.refused(401)


@pytest.mark.parametrize("what", ["send_audio", "discard", "pause"])
def test_what_makes_no_sense_in_a_pause_is_a_mistake(what: str):
    client = streaming()
    client.pause()
    calls = {
        "send_audio": lambda: client.send_audio(b"\0\0"),
        "discard": lambda: client.discard(1),
        "pause": client.pause,
    }
    with pytest.raises(RuntimeError, match=r"call resume\(\) first"):
        calls[what]()


def test_resume_without_a_pause_is_a_mistake():
    with pytest.raises(RuntimeError, match="is not paused"):
        streaming().resume(0)


def test_nothing_is_said_after_stop():
    client = streaming()
    client.stop()
    with pytest.raises(RuntimeError, match=r"stop\(\) was called already"):
        client.flush()


def test_what_a_server_would_refuse_is_not_said():
    client = streaming()
    with pytest.raises(ProtocolError, match="got 257 characters for name of 'mark'"):
        client.mark("x" * 257)
    with pytest.raises(ProtocolError, match="got -1 for samples of 'discarded'"):
        client.discard(-1)
    client.pause()
    with pytest.raises(ProtocolError, match="got -1 for paused_samples of 'resume'"):
        client.resume(-1)
    assert [parsed(message) for message in client.take_outgoing()] == [Pause()]
