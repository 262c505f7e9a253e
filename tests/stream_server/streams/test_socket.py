"""What a reader of a client's socket gets when the next message and the end come close together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from stream_server.config import LimitsConfig
from stream_server.streams.socket import ClientSocket
from stream_server.wire.dialect import AudioData
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.native import NativeDialect
from tests.support.virtual_time import virtual_time

QUERY = {"sample_rate": "8000", "encoding": "mulaw"}
END = ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")


class FakeWebSocket:
    """Receives what :attr:`coming` is given; None: the client closes."""

    close_code = None

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def recv(self) -> bytes:
        message = await self.coming.get()
        if message is None:
            raise ConnectionClosedOK(None, None)
        return message


def socket_of(websocket: FakeWebSocket) -> ClientSocket:
    connection = cast(ServerConnection, cast(Any, websocket))
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
