"""Connections that ask for nothing, over real sockets; the time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from stream_server.access import Access, AccessConfig, ListenConfig
from stream_server.http import make_app
from stream_server.http.connections import (
    BODY_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    BoundedSite,
    HttpConnections,
)
from stream_server.metrics import Metrics
from stream_server.streams.handshakes import Descriptors

ENOUGH = Descriptors(1 << 20)
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


@dataclass
class Lab:
    now_s: float = 0.0
    refused: list[str] = field(default_factory=list)
    port: int = 0
    taken: int = 0

    def __post_init__(self) -> None:
        self.changed = asyncio.Condition()
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    async def until_taken(self, num_bytes: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.taken >= num_bytes)


@asynccontextmanager
async def serving(
    max_connections: int = 100, descriptors: Descriptors = ENOUGH
) -> AsyncIterator[tuple[Lab, HttpConnections]]:
    lab = Lab()
    connections = HttpConnections(
        max_connections, descriptors, lab.refused.append, now_s=lambda: lab.now_s
    )
    app = make_app(
        access=Access(AccessConfig(), ListenConfig()),
        metrics=Metrics(),
        readiness=list,
        connections=connections,
    )

    async def take(request: web.Request) -> web.Response:
        async for data in request.content.iter_any():
            async with lab.changed:
                lab.taken += len(data)
                lab.changed.notify_all()
        return web.Response(text="taken")

    async def feed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"hello")
        async with lab.changed:
            await lab.changed.wait_for(lambda: lab.taken < 0)
        await response.write(b"goodbye")
        return response

    app.router.add_post("/take", take)
    app.router.add_get("/feed", feed)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await BoundedSite(runner, "127.0.0.1", 0, connections).start()
    lab.port = runner.addresses[0][1]
    try:
        async with asyncio.timeout(60):
            yield lab, connections
    finally:
        for writer in lab.writers:
            writer.close()
        await runner.cleanup()


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(
        int(head.lower().split(b"content-length: ")[1].split()[0])
    )


async def is_cut_off(lab: Lab) -> bool:
    """Whether a new connection is closed without an answer."""
    reader, _ = await lab.connect(GET)
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-2]])
async def test_a_request_that_does_not_come_is_not_waited_for(sent: bytes):
    async with serving() as (lab, connections):
        reader, _ = await lab.connect(sent)
        # What another one is answered says that the first one was accepted.
        other, _ = await lab.connect(GET)
        await answer(other)
        lab.now_s = HEAD_TIMEOUT_S
        connections.sweep()
        assert len(connections) == 2
        lab.now_s += 1
        connections.sweep()
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert lab.refused == ["timeout"]
        # The other one is kept for its next request.
        assert len(connections) == 1


async def test_the_next_request_of_a_connection_may_not_trickle():
    async with serving() as (lab, connections):
        reader, writer = await lab.connect(GET)
        await answer(reader)
        lab.now_s = 60
        connections.sweep()
        writer.write(GET)
        assert b"200 OK" in await answer(reader)
        writer.write(GET[:20])
        # A second connection's answer says that the server has read those bytes.
        other, _ = await lab.connect(GET)
        await answer(other)
        lab.now_s += HEAD_TIMEOUT_S + 1
        connections.sweep()
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_a_body_may_take_long_but_not_stand_still():
    async with serving() as (lab, connections):
        reader, writer = await lab.connect(POST)
        for number in range(1, 5):
            writer.write(bytes(100_000))
            await lab.until_taken(number * 100_000)
            lab.now_s += BODY_TIMEOUT_S
            connections.sweep()
        assert lab.refused == []
        lab.now_s += 1
        connections.sweep()
        assert await reader.read() == b""
        assert lab.refused == ["timeout"]


async def test_a_body_that_trickles_is_not_waited_for():
    async with serving() as (lab, connections):
        reader, writer = await lab.connect(POST)
        for number in range(1, 5):
            writer.write(bytes(10))
            await lab.until_taken(number * 10)
            lab.now_s += 10
            connections.sweep()
        assert await reader.read() == b""


async def test_what_is_answered_for_long_is_left_alone():
    async with serving() as (lab, connections):
        reader, _ = await lab.connect(b"GET /feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"hello")
        lab.now_s = 1e6
        connections.sweep()
        async with lab.changed:
            lab.taken = -1
            lab.changed.notify_all()
        await reader.readuntil(b"goodbye")


async def test_where_there_is_no_room_the_connection_idle_longest_gives_way():
    async with serving(max_connections=2) as (lab, connections):
        first, _ = await lab.connect(GET)
        await answer(first)
        lab.now_s = 1
        busy, writer = await lab.connect(POST + bytes(10))
        await lab.until_taken(10)
        lab.now_s = 2
        third, _ = await lab.connect(GET)
        await answer(third)
        assert await first.read() == b""
        assert len(connections) == 2
        await lab.connect(POST + bytes(10))
        await lab.until_taken(20)
        assert await third.read() == b""
        # Now all of them are busy.
        assert await is_cut_off(lab)
        assert lab.refused == ["too_many_connections"] * 3
        writer.write(bytes(999_990))
        assert b"taken" in await answer(busy)


async def test_descriptors_are_kept_for_calls():
    async with serving(descriptors=Descriptors(16)) as (lab, _):
        assert await is_cut_off(lab)
        assert lab.refused == ["too_many_connections"]
