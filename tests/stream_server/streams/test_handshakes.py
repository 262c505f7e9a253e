"""Connections to the port for audio that send no handshake, and floods of pings."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from websockets.exceptions import ConnectionClosed

from stream_server.streams import handshakes
from stream_server.streams.handshakes import Descriptors
from stream_server.wire.errors import ErrorCode
from tests.support.live_lab import live_lab, receive, receive_all, send, start
from tests.support.virtual_time import virtual_time


async def test_silent_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handshakes, "MAX_HANDSHAKES", 2)
    async with asyncio.timeout(60), live_lab() as lab:
        silent = [await asyncio.open_connection("127.0.0.1", lab.gateway.port) for _ in range(2)]
        silent[1][1].write(b"GET / HT")
        async with lab.connect() as socket:
            # The oldest has given way.
            assert await silent[0][0].read() == b""
            await socket.send(start())
            await receive(socket)
            # A stream takes no place of those that wait.
            silent.append(await asyncio.open_connection("127.0.0.1", lab.gateway.port))
            async with lab.connect() as other:
                await other.send(start())
                await receive(other)
                assert await silent[1][0].read() == b""
        for _, writer in silent:
            writer.close()
    assert lab.refused == [ErrorCode.NOT_STARTED.value] * 2


async def test_a_connection_that_takes_the_descriptors_of_files_is_closed():
    async with asyncio.timeout(60), live_lab() as lab, lab.connect() as socket:
        lab.gateway._handshakes._descriptors = Descriptors(16)
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.gateway.port)
        assert await reader.read() == b""
        writer.close()
        # Who is in stays.
        await socket.send(start())
        await receive(socket)


@virtual_time
async def test_a_silent_connection_is_closed():
    async with live_lab(start_timeout_s=5) as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.gateway.port)
        began_s = asyncio.get_running_loop().time()
        await reader.read()
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(5, abs=0.1)
        writer.close()


@virtual_time
async def test_pings_are_not_counted_as_messages_and_are_no_sign_of_life():
    async with live_lab(max_messages_per_s=1, idle_timeout_s=30) as lab, lab.connect() as socket:
        await socket.send(start())
        await receive(socket)
        reader = asyncio.create_task(receive_all(socket))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(40):
                await (await socket.ping())
                await asyncio.sleep(1)
        seen, code = await reader
        assert (seen[-1].code, code) == ("idle", 4408)


@virtual_time
async def test_a_flood_of_pings_ends_the_connection():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await receive(socket)
        await socket.send(bytes(3200))
        for _ in range(201):
            await socket.ping()
        seen, code = await receive_all(socket)
        error = next(m for m in seen if getattr(m, "code", "") == "too_many_messages")
        assert "20 pings a second" in error.message
        assert code == 4429


@virtual_time
async def test_a_client_that_goes_on_with_its_flood_is_cut_off():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await receive(socket)
        for _ in range(1000):
            await socket.ping()
        _, code = await receive_all(socket)
        assert code in (1006, 4429)
        await asyncio.sleep(1)
        assert len(lab.registry) in (0, 1)
        async with lab.connect() as other:
            await other.send(start())
            await receive(other)
            await send(other, type="stop")
