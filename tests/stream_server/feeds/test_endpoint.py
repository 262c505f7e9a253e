"""``/feed`` over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import WSMsgType, web

from stream_server.access import AccessConfig, ListenConfig
from stream_server.feeds import endpoint
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot, decode_feed_message
from stream_server.wire.results import Point, Result
from tests.support.feeds import FakeHistory, FeedServer, serve_feed
from tests.support.results import make_closed, make_opened, make_point, make_points
from tests.support.virtual_time import virtual_time

TOKEN = "crm-0123456789abcdef"
SSE = {"Accept": "text/event-stream"}


class WebSocketReader:
    """A subscriber over WebSocket."""

    def __init__(self, connection: Any) -> None:
        self.socket = connection

    async def read(self) -> FeedMessage:
        message = await self.socket.receive()
        assert message.type is WSMsgType.TEXT, message
        return decode_feed_message(message.data)

    async def close_code(self) -> int:
        message = await self.socket.receive()
        assert message.type is WSMsgType.CLOSE, message
        return int(message.data)


class EventReader:
    """A subscriber by server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def block(self) -> list[str]:
        """Return the lines up to the next empty one; none at the end."""
        lines: list[str] = []
        while line := (await self.response.content.readline()).decode().rstrip("\n"):
            lines.append(line)
        return lines

    async def read(self) -> FeedMessage:
        while True:
            fields = dict(line.split(": ", 1) for line in await self.block())
            if "data" in fields:
                self.last_id = fields.get("id", "")
                return decode_feed_message(fields["data"])


async def read_all(reader: WebSocketReader | EventReader, count: int) -> list[FeedMessage]:
    return [await reader.read() for _ in range(count)]


@pytest.fixture(params=["websocket", "sse"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def subscribe(server: FeedServer, kind: str, query: str = "", **options: Any) -> Any:
    """Subscribe and read the snapshot, so that what is published from here on is live."""
    if kind == "websocket":
        connection = await server.client.ws_connect(f"/feed{query}", **options)
        reader: WebSocketReader | EventReader = WebSocketReader(connection)
    else:
        reader = EventReader(await server.client.get(f"/feed{query}", **options))
        assert reader.response.status == 200
        assert reader.response.headers["Content-Type"] == "text/event-stream"
        # A proxy such as nginx otherwise holds events back until it has a buffer full of them.
        assert reader.response.headers["X-Accel-Buffering"] == "no"
        assert reader.response.headers["Cache-Control"] == "no-cache"
        assert await reader.block() == [": connected", "retry: 2000"]
    assert isinstance(await reader.read(), Snapshot)
    return reader


async def test_results_come_as_they_are_published(kind: str):
    async with serve_feed() as server:
        reader = await subscribe(server, kind)
        results: list[Result] = [make_opened(), make_point(seq=1), make_closed(seq=2)]
        server.publish(*results)
        assert await read_all(reader, 3) == results


async def test_the_snapshot_tells_of_live_streams(kind: str):
    async with serve_feed() as server:
        server.publish(make_opened(), make_point(seq=1), make_opened("s2"))
        if kind == "websocket":
            connection = await server.client.ws_connect("/feed?stream=s1")
            snapshot = await WebSocketReader(connection).read()
        else:
            snapshot = await EventReader(await server.client.get("/feed?stream=s1")).read()
        assert snapshot == Snapshot(results=(make_opened(), make_point(seq=1)))


async def test_the_feed_of_a_stream_ends_with_it(kind: str):
    async with serve_feed() as server:
        server.publish(make_opened())
        reader = await subscribe(server, kind, "?stream=s1")
        server.publish(make_closed(seq=1))
        assert await reader.read() == make_closed(seq=1)
        if isinstance(reader, WebSocketReader):
            assert await reader.close_code() == 1000
        else:
            assert await reader.block() == []
            assert reader.response.content.at_eof()


async def test_the_feed_ends_when_the_server_does(kind: str):
    async with serve_feed() as server:
        reader = await subscribe(server, kind)
        server.publish(make_opened())
        server.bus.close()
        assert await reader.read() == make_opened()
        if isinstance(reader, WebSocketReader):
            assert await reader.close_code() == 1001
        else:
            assert await reader.block() == []


async def test_an_event_is_named_by_stream_and_seq():
    async with serve_feed() as server:
        reader = await subscribe(server, "sse")
        server.publish(make_opened(), make_point(seq=41))
        await read_all(reader, 2)
        assert reader.last_id == "s1:41"


async def test_an_event_source_comes_back_and_goes_on():
    stored: list[Result] = [make_opened(), *make_points([0.1] * 4)]
    async with serve_feed(FakeHistory(stored)) as server:
        server.publish(*stored)
        headers = SSE | {"Last-Event-ID": "s1:2"}
        reader = await subscribe(server, "sse", "?stream=s1", headers=headers)
        server.publish(make_point(2.0, seq=5))
        assert await read_all(reader, 3) == [*stored[3:], make_point(2.0, seq=5)]


async def test_an_event_source_is_told_to_stay_away_after_the_end():
    stored: list[Result] = [make_opened(), make_point(seq=1), make_closed(seq=2)]
    async with serve_feed(FakeHistory(stored)) as server:
        headers = SSE | {"Last-Event-ID": "s1:2"}
        answer = await server.client.get("/feed?stream=s1", headers=headers)
        assert answer.status == 204
        reader = await subscribe(server, "sse", "?stream=s1&from_s=0")
        assert await read_all(reader, 3) == stored


async def test_stored_results_then_live_ones(kind: str):
    stored: list[Result] = [make_opened(), *make_points([0.1] * 10)]
    async with serve_feed(FakeHistory(stored)) as server:
        server.publish(*stored)
        reader = await subscribe(server, kind, "?stream=s1&from_s=4.0&types=point")
        server.publish(make_point(5.0, seq=11))
        messages = await read_all(reader, 3)
        assert [message.seq for message in messages if isinstance(message, Point)] == [9, 10, 11]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?types=points", 400, "bad_query"),
        ("?stream=s9", 404, "unknown_stream"),
        ("?stream=s1&from_s=1", 400, "bad_query"),
    ],
)
async def test_what_cannot_be_is_refused(kind: str, query: str, status: int, code: str):
    async with serve_feed() as server:
        if kind == "websocket":
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await server.client.ws_connect(f"/feed{query}")
            assert caught.value.status == status
            return
        answer = await server.client.get(f"/feed{query}")
        assert answer.status == status
        assert (await answer.json())["code"] == code


async def test_subscribers_beyond_the_limit_are_refused(kind: str):
    async with serve_feed(max_subscribers=1) as server:
        reader = await subscribe(server, kind)
        refused = await server.client.get("/feed")
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "5"
        assert (await refused.json())["code"] == "too_many_subscribers"
        await close(reader)
        await server.until_gone()
        await close(await subscribe(server, kind))


async def test_subscribers_are_counted(kind: str):
    async with serve_feed() as server:
        reader = await subscribe(server, kind)
        assert server.num_subscribers(kind) == 1
        await close(reader)
        await server.until_gone()
        assert server.num_subscribers(kind) == 0


async def close(reader: WebSocketReader | EventReader) -> None:
    if isinstance(reader, WebSocketReader):
        await reader.socket.close()
    else:
        reader.response.close()


async def test_a_token_is_needed_where_the_server_says_so(kind: str):
    access = AccessConfig(tokens={"crm": TOKEN})
    async with serve_feed(listen=ListenConfig(host="0.0.0.0"), access=access) as server:
        assert (await server.client.get("/feed")).status == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        await close(await subscribe(server, kind, headers=headers))


async def test_a_page_of_another_site_is_refused():
    async with serve_feed() as server:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await server.client.ws_connect("/feed", origin="https://evil.example")
        assert caught.value.status == 403


async def test_what_a_subscriber_says_is_ignored():
    async with serve_feed() as server:
        reader = await subscribe(server, "websocket")
        await reader.socket.send_str("hello")
        await reader.socket.send_bytes(b"\x00" * 100)
        server.publish(make_opened())
        assert await reader.read() == make_opened()


async def test_a_subscriber_that_does_not_read_harms_nobody(kind: str):
    """Megabytes go to one that reads and to one that does not; the latter loses its own only."""
    async with serve_feed(mailbox_size=64) as server:
        with stuck_socket(server, kind):
            reader = await subscribe(server, "websocket")
            points = list(make_points([0.1] * 20_000))
            for start in range(0, len(points), 32):
                batch = points[start : start + 32]
                server.publish(*batch)
                assert await read_all(reader, len(batch)) == batch
            dropped = [one.dropped for one in server.bus.subscriptions]
            assert sorted(dropped)[:-1] == [0, 0], "only the stuck one loses something"
            assert max(dropped) > 1000
            assert max(one.pending for one in server.bus.subscriptions if one.name == kind) == 64


@contextlib.contextmanager
def stuck_socket(server: FeedServer, kind: str) -> Iterator[None]:
    """A subscriber with little room that never reads."""
    request = "GET /feed HTTP/1.1\r\nHost: localhost\r\n"
    if kind == "websocket":
        request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        request += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", server.client.port))
        stuck.sendall(f"{request}\r\n".encode())
        yield


@virtual_time
async def test_a_connection_never_falls_silent_for_long():
    async with serve_feed() as server:
        reader = await subscribe(server, "sse")
        start_s = asyncio.get_running_loop().time()
        assert await reader.block() == [": keepalive"]
        assert asyncio.get_running_loop().time() - start_s == pytest.approx(endpoint.KEEPALIVE_S)
        server.publish(make_opened())
        assert await reader.read() == make_opened()


@virtual_time
async def test_a_subscriber_that_takes_nothing_is_closed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
):
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with serve_feed() as server:
        reader = await subscribe(server, "websocket")
        monkeypatch.setattr(web.WebSocketResponse, "send_str", never)
        server.publish(make_opened())
        assert await reader.close_code() == 4408


@virtual_time
async def test_a_subscriber_that_does_not_even_take_the_first_event_is_closed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
):
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with serve_feed() as server, aiohttp.ClientSession() as session:
        monkeypatch.setattr(web.StreamResponse, "write", never)
        async with session.get(server.url(), headers=SSE) as response:
            async with asyncio.timeout(2 * endpoint.SEND_TIMEOUT_S):
                with pytest.raises(aiohttp.ClientError):
                    await response.content.readany()
        await server.until_gone()


def test_an_event_is_one_line_of_data():
    event = endpoint.encode_event(make_opened(name="two\nlines"))
    lines = event.decode().split("\n")
    assert len(lines) == 4
    assert lines[0] == "id: s1:0"
    assert lines[1].startswith("data: {")
    assert lines[2:] == ["", ""]
    assert endpoint.encode_event(Dropped(results=3)) == b'data: {"type":"dropped","results":3}\n\n'


def test_types_say_what_a_message_is():
    with pytest.raises(msgspec.ValidationError):
        decode_feed_message('{"type":"nonsense"}')
