"""The wall over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Iterator

import aiohttp
import msgspec
import pytest
from aiohttp import web

from dashboard.config import DashboardConfig
from dashboard.live import connection
from dashboard.live.tiles import WallChanges, WallSnapshot
from tests.support.dashboard_lab import DashboardLab, serve_dashboard
from tests.support.results import (
    make_alert,
    make_closed,
    make_opened,
    make_point,
    make_points,
)
from tests.support.virtual_time import current_loop, virtual_time


async def test_a_page_gets_a_snapshot_then_changes():
    async with serve_dashboard() as lab:
        lab.publish(make_opened("s1"), make_point(angry=0.9))
        page = await lab.open()
        snapshot = await page.read()
        assert snapshot["type"] == "snapshot"
        assert [tile["stream_id"] for tile in snapshot["tiles"]] == ["s1"]
        assert snapshot["tiles"][0]["channels"][0]["label"] == "angry"
        lab.publish(make_opened("s2"), make_point(0.5, seq=2))
        changes = await page.read()
        assert changes["type"] == "changes"
        assert [tile["stream_id"] for tile in changes["opened"]] == ["s2"]
        (changed,) = changes["changed"]
        assert changed["channels"][0]["label"] == "neutral"
        assert "trend" not in changed["channels"][0]
        lab.publish(make_closed("s1"))
        assert (await page.read())["removed"] == ["s1"]


async def test_messages_are_of_the_types_that_are_documented():
    decode = msgspec.json.Decoder(WallSnapshot | WallChanges).decode
    async with serve_dashboard() as lab:
        lab.publish(make_opened("s1"), *make_points([0.9] * 30), make_alert(seq=99))
        page = await lab.open()
        assert isinstance(decode(await page.socket.receive_str()), WallSnapshot)
        lab.publish(make_opened("s2"), make_point(20.0, seq=100), make_alert("cleared", seq=101))
        assert isinstance(decode(await page.socket.receive_str()), WallChanges)


async def test_the_trend_comes_when_it_has_changed():
    async with serve_dashboard() as lab:
        lab.publish(make_opened(), make_point(0.0, angry=0.9))
        page = await lab.open()
        assert (await page.read())["tiles"][0]["channels"][0]["trend"] == []
        lab.publish(make_point(5.0, seq=2))
        (changed,) = (await page.read())["changed"]
        assert changed["channels"][0]["trend"] == [[0.0, "angry", 0.9]]
        lab.publish(make_point(5.5, seq=3))
        (changed,) = (await page.read())["changed"]
        assert "trend" not in changed["channels"][0]


async def test_a_stream_that_came_and_went_between_two_messages_is_not_told_of():
    async with serve_dashboard() as lab:
        page = await lab.open()
        await page.read()
        lab.publish(make_opened("s1"), make_closed("s1"), make_opened("s2"))
        changes = await page.read()
        assert [tile["stream_id"] for tile in changes["opened"]] == ["s2"]
        assert changes["removed"] == []


@virtual_time
async def test_a_page_is_told_four_times_a_second_at_most():
    async with serve_dashboard() as lab:
        lab.publish(make_opened())
        page = await lab.open()
        await page.read()
        times, last = [], 0.0
        publishing = asyncio.create_task(publish_points(lab, 200, every_s=0.02))
        while last < 100.0:
            (changed,) = (await page.read())["changed"]
            last = changed["duration_s"]
            times.append(current_loop().time())
        await publishing
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= connection.INTERVAL_S - 1e-9
        assert len(times) <= 4 * 4 + 2, "200 results in 4 s"


async def publish_points(lab: DashboardLab, count: int, *, every_s: float) -> None:
    for point in make_points([0.1] * count):
        lab.publish(point)
        await asyncio.sleep(every_s)


@virtual_time
async def test_a_change_after_a_pause_is_told_at_once():
    async with serve_dashboard() as lab:
        lab.publish(make_opened())
        page = await lab.open()
        await page.read()
        await asyncio.sleep(5)
        lab.publish(make_point())
        await page.read()
        assert current_loop().time() == pytest.approx(5.0)


@virtual_time
async def test_a_quiet_page_hears_that_the_server_is_alive():
    async with serve_dashboard() as lab:
        page = await lab.open()
        await page.read()
        for _ in range(3):
            assert await page.socket.receive_json(timeout=6) == {"type": "alive"}
        assert current_loop().time() == pytest.approx(3 * connection.ALIVE_S, abs=0.5)


@virtual_time
async def test_a_page_nobody_looks_at_is_told_nothing():
    async with serve_dashboard() as lab:
        lab.publish(make_opened())
        page = await lab.open()
        await page.read()
        await page.look(False)
        await asyncio.sleep(1)
        lab.publish(*make_points([0.9] * 4))
        with pytest.raises(TimeoutError):
            await page.socket.receive(timeout=10)
        assert not lab.dashboard.wall._viewers
        await page.look(True)
        snapshot = await page.read()
        assert snapshot["type"] == "snapshot"
        assert snapshot["tiles"][0]["duration_s"] == 2.0
        lab.publish(make_point(2.0, seq=9))
        assert (await page.read())["type"] == "changes"


async def test_what_a_page_says_beyond_that_is_ignored():
    async with serve_dashboard() as lab:
        page = await lab.open()
        await page.read()
        for nonsense in ("", "{", "[]", '{"visible": "yes"}', '{"other": 1}'):
            await page.socket.send_str(nonsense)
        await page.socket.send_bytes(b"\x00")
        lab.publish(make_opened())
        assert (await page.read())["opened"]


async def test_a_page_that_does_not_read_delays_no_other():
    """Megabytes of changes go to one that reads; one that does not is owed a few tiles."""
    streams = [f"s{number}" for number in range(200)]
    async with serve_dashboard() as lab:
        lab.publish(*(make_opened(one, name="x" * 200) for one in streams))
        with stuck_socket(lab):
            page = await lab.open()
            await page.read()
            clock = asyncio.get_running_loop().time
            waits = []
            for step in range(8):
                lab.publish(*(make_point(5.0 * step, angry=0.9, stream_id=one) for one in streams))
                before = clock()
                changed = (await page.read())["changed"]
                waits.append(clock() - before)
                assert len(changed) == 200
            assert max(waits) < 5.0
            assert all(len(one._changed) <= 200 for one in lab.dashboard.wall._viewers)


@contextlib.contextmanager
def stuck_socket(lab: DashboardLab) -> Iterator[None]:
    """A page with little room that never reads."""
    request = (
        "GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", lab.client.port))
        stuck.sendall(request.encode())
        yield


@virtual_time
async def test_a_slow_page_gets_the_latest_state_once(monkeypatch: pytest.MonkeyPatch):
    """While a message is on its way everything that happens becomes one change."""
    taking = asyncio.Event()
    send = web.WebSocketResponse.send_str

    async def slowly(self: web.WebSocketResponse, data: str, *args: object) -> None:
        await taking.wait()
        await send(self, data)

    async with serve_dashboard() as lab:
        lab.publish(make_opened())
        page = await lab.open()
        await page.read()
        monkeypatch.setattr(web.WebSocketResponse, "send_str", slowly)
        for point in make_points([0.9] * 40):
            lab.publish(point)
            await asyncio.sleep(0.5)
        taking.set()
        first, second = await page.read(), await page.read()
        assert [first["changed"][0]["duration_s"], second["changed"][0]["duration_s"]] == [
            0.5,
            20.0,
        ]


@virtual_time
async def test_a_page_that_takes_nothing_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch):
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with serve_dashboard() as lab:
        lab.publish(make_opened())
        page = await lab.open()
        await page.read()
        monkeypatch.setattr(web.WebSocketResponse, "send_str", never)
        lab.publish(make_point())
        assert await page.close_code() == 4408


async def test_pages_beyond_the_limit_are_refused():
    async with serve_dashboard(config=DashboardConfig(max_viewers=1)) as lab:
        page = await lab.open()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await lab.open()
        assert caught.value.status == 503
        await page.socket.close()
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while True:
                try:
                    await lab.open()
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0)
                else:
                    break


async def test_a_plain_request_is_told_what_is_expected():
    async with serve_dashboard() as lab:
        error = await lab.get("/live", 400)
        assert error["code"] == "bad_request"
        assert "WebSocket" in error["message"]


async def test_a_page_of_another_site_is_refused():
    async with serve_dashboard() as lab:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await lab.client.ws_connect("/api/v1/live", origin="https://evil.example")
        assert caught.value.status == 403


async def test_the_end_of_the_server_is_told():
    async with serve_dashboard() as lab:
        page = await lab.open()
        await page.read()
        lab.bus.close()
        assert await page.close_code() == 1001
