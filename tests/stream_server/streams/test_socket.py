"""What a reader of a client's socket gets, and what is taken without it; in which order."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from stream_server.config import LimitsConfig
from stream_server.platforms.media_stream import MediaStreamDialect
from stream_server.platforms.twilio import TWILIO
from stream_server.streams.intake import LET_IN_TOGETHER, Inlet
from stream_server.streams.socket import ClientSocket, MessageConnection
from stream_server.wire.dialect import AudioData, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.native import NativeDialect
from tests.support.virtual_time import virtual_time

QUERY = {"sample_rate": "8000", "encoding": "mulaw"}
END = ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")


class FakeWebSocket:
    """Receives what :attr:`coming` is given; None: the client closes."""

    close_code = None
    on_message: Any = None
    inlet: Any = None

    def go_on(self) -> None: ...

    def offer_no_more(self) -> None:
        self.on_message = None

    def __init__(self) -> None:
        self.num_unread = 0
        self.coming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def recv(self) -> bytes:
        message = await self.coming.get()
        if message is None:
            raise ConnectionClosedOK(None, None)
        return message


def socket_of(websocket: FakeWebSocket) -> ClientSocket:
    connection = cast(MessageConnection, cast(Any, websocket))
    return ClientSocket(connection, NativeDialect(QUERY), LimitsConfig())


@virtual_time
async def test_a_waiting_reader_gets_the_end():
    async with socket_of(FakeWebSocket()) as socket:
        reading = asyncio.create_task(socket.receive())
        await asyncio.sleep(0)
        socket.request_end(END)
        with pytest.raises(ProtocolError) as caught:
            await reading
        assert caught.value is END and not reading.cancelled()


@virtual_time
async def test_the_end_does_not_take_a_message_from_the_reader_that_has_it():
    websocket = FakeWebSocket()
    async with socket_of(websocket) as socket:
        reading = asyncio.create_task(socket.receive())
        websocket.coming.put_nowait(b"\xff")
        for _ in range(3):
            await asyncio.sleep(0)
        assert websocket.coming.empty()
        socket.request_end(END)
        assert await reading == [AudioData(b"\xff")]
        with pytest.raises(ProtocolError):
            await socket.receive()


@virtual_time
async def test_messages_keep_their_order_and_the_close_comes_last():
    websocket = FakeWebSocket()
    for message in (b"1", b"2", b"3", None):
        websocket.coming.put_nowait(message)
    async with socket_of(websocket) as socket:
        received = [await socket.receive() for _ in range(3)]
        assert received == [[AudioData(b"1")], [AudioData(b"2")], [AudioData(b"3")]]
        # It stays closed for every later reader.
        for _ in range(2):
            with pytest.raises(ConnectionClosed):
                await socket.receive()


@virtual_time
async def test_a_reader_that_is_busy_holds_the_client_back():
    websocket = FakeWebSocket()
    for _ in range(10):
        websocket.coming.put_nowait(b"\xff")
    async with socket_of(websocket) as socket:
        await asyncio.sleep(1)
        # One in the inbox, one in the hand of the task that fills it.
        assert websocket.coming.qsize() == 8
        assert await socket.receive()


@virtual_time
async def test_a_timeout_of_the_reader_loses_nothing():
    websocket = FakeWebSocket()
    async with socket_of(websocket) as socket:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await socket.receive()
        websocket.coming.put_nowait(b"\xff")
        assert await socket.receive() == [AudioData(b"\xff")]


@virtual_time
async def test_no_task_is_left():
    async with socket_of(FakeWebSocket()) as socket:
        assert socket._receiver is not None
    assert socket._receiver.done()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- taken at once ---------------------------------------------------------------------------------


async def waiting(socket: ClientSocket) -> asyncio.Task[Any]:
    reading = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return reading


@virtual_time
async def test_what_the_stream_takes_wakes_no_reader():
    websocket = FakeWebSocket()
    taken: list[Inbound] = []

    def take(requests: list[Inbound]) -> bool:
        taken.extend(requests)
        return True

    async with socket_of(websocket) as socket:
        socket.take(take)
        reading = await waiting(socket)
        assert websocket.on_message(b"1") and websocket.on_message(b"2")
        await asyncio.sleep(1)
        assert taken == [AudioData(b"1"), AudioData(b"2")]
        assert not reading.done()
        reading.cancel()


@virtual_time
async def test_the_reader_gets_what_the_stream_does_not_take_and_the_dialect_sees_it_once():
    websocket = FakeWebSocket()
    async with socket_of(websocket) as socket:
        socket.take(lambda requests: False)
        reading = await waiting(socket)
        # Twice would be an error: the stream is paused then.
        assert websocket.on_message('{"type": "pause"}')
        # The reader has it to deal with: this one has to wait its turn.
        assert websocket.on_message(b"later") is None
        (request,) = await reading
        assert type(request).__name__ == "Pause"
        reading = await waiting(socket)
        assert websocket.on_message(b"audio while paused")
        with pytest.raises(ProtocolError) as caught:
            await reading
        assert caught.value.code is ErrorCode.UNEXPECTED_MESSAGE


@virtual_time
async def test_nothing_is_taken_before_what_came_first_or_after_the_end():
    websocket = FakeWebSocket()
    async with socket_of(websocket) as socket:
        assert not websocket.on_message(b"no stream yet")
        socket.take(lambda requests: True)
        reading = await waiting(socket)
        websocket.num_unread = 1
        assert websocket.on_message(b"another is on its way") is None
        websocket.coming.put_nowait(b"1")
        assert await reading == [AudioData(b"1")] and websocket.num_unread == 0
        reading = await waiting(socket)
        assert websocket.on_message(b"2")
        assert not websocket.on_message(bytes(LimitsConfig().max_message_bytes + 1))
        socket.request_end(END)
        assert not websocket.on_message(b"3")
        with pytest.raises(ProtocolError):
            await reading
    assert websocket.on_message is None


@virtual_time
async def test_what_is_let_in_without_asking_counts_as_messages():
    websocket = FakeWebSocket()
    limits = LimitsConfig(max_messages_per_s=10, max_message_bytes=1024)
    connection = cast(MessageConnection, cast(Any, websocket))
    inlet = Inlet(bytearray(), sample_bytes=1)

    def take(requests: list[Inbound]) -> bool:
        inlet.open(room_bytes=100_000)
        return True

    async with ClientSocket(connection, NativeDialect(QUERY), limits) as socket:
        socket.take(take, inlet)
        reading = await waiting(socket)
        for _ in range(100 // LET_IN_TOGETHER):
            assert websocket.on_message(b"1") and websocket.inlet is inlet
            assert inlet.room_bytes == 1024 + 1 and inlet.messages_left == LET_IN_TOGETHER
            inlet.messages_left = 0
        assert websocket.on_message(b"one too many") and inlet.room_bytes == 0
        with pytest.raises(ProtocolError) as caught:
            await reading
        assert caught.value.code is ErrorCode.TOO_MANY_MESSAGES


@virtual_time
async def test_nothing_is_let_in_for_a_dialect_that_looks_at_each_message():
    websocket = FakeWebSocket()
    connection = cast(MessageConnection, cast(Any, websocket))
    dialect = MediaStreamDialect(TWILIO, roles=("customer", "agent"))
    async with ClientSocket(connection, dialect, LimitsConfig()) as socket:
        socket.take(lambda requests: True, Inlet(bytearray(), sample_bytes=1))
        assert websocket.inlet is None


def opened() -> MessageConnection:
    """Return a connection after its handshake."""

    async def handler(connection: object) -> None: ...

    server = cast(Any, SimpleNamespace(handler=handler, handler_tasks=set()))
    protocol = ServerProtocol(max_size=70_000)
    connection = MessageConnection(protocol, server, ping_interval=None)
    connection.connection_made(Mock())
    connection.data_received(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert connection.request is not None
    protocol.send_response(protocol.accept(connection.request))
    return connection


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.mark.parametrize("seed", range(20))
async def test_however_bytes_come_no_message_is_lost_or_changed_or_out_of_order(seed: int):
    draw = random.Random(seed)
    connection = opened()
    got: list[str | bytes] = []
    sent: list[str | bytes] = []
    stream = b""
    for number in range(60):
        size = draw.choice((0, 1, 40, 125, 126, 640, 66_000 if number == 30 else 700))
        text, data = f"{number} é" + "x" * size, bytes([number]) + draw.randbytes(size)
        match draw.randrange(5):
            case 0:
                stream += frame(Opcode.TEXT, text.encode())
                sent.append(text)
            case 1:
                stream += frame(Opcode.BINARY, data[:3], fin=False) + frame(Opcode.PING, b"now")
                stream += frame(Opcode.CONT, data[3:])
                sent.append(data)
            case _:
                stream += frame(Opcode.BINARY, data)
                sent.append(data)

    def on_message(message: str | bytes) -> bool | None:
        if connection.num_unread or draw.random() < 0.1:
            return draw.choice((None, False))
        got.append(message)
        return True

    connection.on_message = on_message
    while stream:
        cut = draw.choice((1, 2, 3, 5, 9, 100, 654, 1400))
        connection.data_received(stream[:cut])
        stream = stream[cut:]
        while connection.num_unread:
            got.append(await connection.recv())
            connection.num_unread -= 1
        if draw.random() < 0.3:
            connection.go_on()
    if seed % 2:
        connection.connection_lost(None)
    connection.offer_no_more()
    while connection.num_unread:
        got.append(await connection.recv())
        connection.num_unread -= 1
    assert got == sent


async def test_a_backlog_is_taken_at_once_however_it_is_cut():
    connection = opened()
    connection.on_message = Mock(return_value=True)
    audio = b"".join(frame(Opcode.BINARY, bytes([number]) * 640) for number in range(250))
    # As much as the system hands over at once: hardly ever does a message end there.
    for at in range(0, len(audio), 65_536):
        connection.data_received(audio[at : at + 65_536])
    # With one that went to recv() all that follow would.
    assert connection.on_message.call_count == 250 and connection.num_unread == 0


async def test_bytes_that_wait_for_the_reader_keep_the_client_back_and_lose_nothing():
    connection = opened()
    transport = cast(Mock, connection.transport)
    transport.is_closing.return_value = False
    got: list[str | bytes] = []
    is_busy = True

    def on_message(message: str | bytes) -> bool | None:
        if is_busy:
            return None
        got.append(message)
        return True

    connection.on_message = on_message
    sent = [bytes([number]) * 32_000 for number in range(3)]
    for audio in sent[:2]:
        connection.data_received(frame(Opcode.BINARY, audio))
    assert not transport.pause_reading.called
    connection.data_received(frame(Opcode.BINARY, sent[2]))
    transport.pause_reading.assert_called_once()
    connection.go_on()
    assert got == [] and not transport.resume_reading.called
    is_busy = False
    connection.go_on()
    assert got == sent and connection.num_unread == 0
    transport.resume_reading.assert_called_once()


@pytest.mark.parametrize("kind", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
async def test_a_client_that_closes_or_asks_is_heard_though_the_reader_is_busy(kind: Opcode):
    connection = opened()
    connection.on_message = Mock(return_value=None)
    connection.data_received(frame(Opcode.BINARY, b"1" * 640) + frame(Opcode.BINARY, b"2"))
    assert connection.num_unread == 0
    whole = frame(kind, b"\x03\xe8" if kind is Opcode.CLOSE else b"")
    connection.data_received(whole[:3])
    assert connection.num_unread == 0
    connection.data_received(whole[3:])
    assert connection.num_unread == 2
    assert (connection.protocol.state is State.CLOSING) == (kind is Opcode.CLOSE)
    assert await connection.recv() == b"1" * 640 and await connection.recv() == b"2"


async def test_plain_audio_is_let_in_as_far_as_there_is_room():
    connection = opened()
    connection.on_message = Mock(return_value=True)
    connection.inlet = inlet = Inlet(bytearray(), sample_bytes=2)
    inlet.open(room_bytes=9)
    plain = [frame(Opcode.BINARY, data) for data in (b"12", b"34", b"{}", b"567", b"78")]
    connection.data_received(b"".join(plain) + frame(Opcode.BINARY, b"90ab"))
    # Of those that were asked about one may be a control message, one cuts a sample, and with the
    # last one there is something to be done.
    asked = [call.args[0] for call in connection.on_message.call_args_list]
    assert asked == [b"{}", b"567", b"90ab"]
    assert inlet.waiting == b"123478" and inlet.take_count() == 3
    assert inlet.room_bytes == 0
    inlet.open(room_bytes=9)
    # What websockets parses itself may be anything.
    connection.data_received(frame(Opcode.PING, b"") + frame(Opcode.BINARY, b"56"))
    assert inlet.waiting == b"123478" and inlet.room_bytes == 0


@pytest.mark.parametrize(
    ("received", "code"),
    [
        (b"\x82\x05hello", 1002),
        (b"\xc2\x81abcdx", 1002),
        (frame(Opcode.BINARY, bytes(70_001)), 1009),
        (frame(Opcode.BINARY, b"1", fin=False) + frame(Opcode.BINARY, b"2"), 1002),
    ],
    # Masks are random: without names the tests of two processes would have different ones.
    ids=["not masked", "a reserved bit", "too long", "another within"],
)
async def test_what_is_no_message_is_refused_as_ever(received: bytes, code: int):
    connection = opened()
    connection.on_message = lambda message: True
    connection.data_received(frame(Opcode.BINARY, b"good") + received)
    close = connection.protocol.close_sent
    assert close is not None and close.code == code


async def test_text_that_is_no_utf8_is_left_to_who_refuses_it():
    connection = opened()
    connection.on_message = lambda message: True
    connection.data_received(frame(Opcode.TEXT, "é".encode()) + frame(Opcode.TEXT, b"\xff\xff"))
    assert connection.num_unread == 1
