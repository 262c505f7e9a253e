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
from websockets.server import ServerProtocol

from stream_server.config import LimitsConfig
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
        socket.at_once = take
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
        socket.at_once = lambda requests: False
        reading = await waiting(socket)
        # Twice would be an error: the stream is paused then.
        assert websocket.on_message('{"type": "pause"}')
        # The reader has it to deal with: this one has to wait its turn.
        assert not websocket.on_message(b"later")
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
        socket.at_once = lambda requests: True
        reading = await waiting(socket)
        websocket.num_unread = 1
        assert not websocket.on_message(b"another is on its way")
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

    def on_message(message: str | bytes) -> bool:
        if connection.num_unread or draw.random() < 0.1:
            return False
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
    assert got == sent


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
