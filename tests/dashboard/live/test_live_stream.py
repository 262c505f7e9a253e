"""One stream over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import msgspec
import pytest

from dashboard.live.tiles import LiveResults, LiveSnapshot
from stream_server.wire.results import Measures, in_envelope
from tests.support.dashboard_lab import Page, serve_dashboard
from tests.support.feeds import FakeHistory
from tests.support.results import (
    make_closed,
    make_gap,
    make_measures,
    make_opened,
    make_point,
    make_points,
    make_summary,
)
from tests.support.virtual_time import current_loop, virtual_time


async def seqs(page: Page, last: int) -> list[int]:
    """Return the numbers of the results that come, up to the last one."""
    found: list[int] = []
    while last not in found:
        found += [result["seq"] for result in (await page.read())["results"]]
    return found


async def test_a_page_gets_what_is_stored_then_what_comes(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), *make_points([0.9] * 3))
        page = await lab.open("?stream=s1")
        snapshot = await page.read()
        assert snapshot["type"] == "snapshot"
        assert snapshot["stream"]["name"] == "a call"
        assert [one["seq"] for one in snapshot["results"]] == [0, 1, 2, 3]
        assert snapshot["status"]["lag_ms"] == 500.0
        lab.publish(make_point(1.5, seq=4))
        message = await page.read()
        assert message["type"] == "results"
        assert [one["seq"] for one in message["results"]] == [4]


async def test_a_page_has_the_last_measures_at_once_and_hears_of_names(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        measures = [
            in_envelope(Measures, make_measures(at_s=5.0 * seq), stream_id="s1", seq=seq)
            for seq in (1, 2, 3)
        ]
        lab.publish(make_opened(), *measures, make_point(seq=4))
        page = await lab.open("?stream=s1")
        snapshot = await page.read()
        assert [one["seq"] for one in snapshot["results"]] == [0, 3, 4]
        body = {"speaker": "speaker 1", "name": "Ms Li"}
        await lab.ask("PUT", "/streams/s1/speakers/0", 204, json=body)
        lab.publish(make_point(0.5, seq=5))
        assert (await page.read())["speakers"] == {"0": {"speaker 1": "Ms Li"}}
        # One that was away meanwhile hears of it when it comes back.
        again = await lab.open("?stream=s1&after_seq=4")
        assert (await again.read())["speakers"] == {"0": {"speaker 1": "Ms Li"}}
        lab.publish(make_point(1.0, seq=6))
        assert (await page.read())["speakers"] is (await again.read())["speakers"] is None


async def test_messages_are_of_the_types_that_are_documented(tmp_path: Path):
    decode = msgspec.json.Decoder(LiveSnapshot | LiveResults).decode
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), make_gap(seq=1))
        page = await lab.open("?stream=s1")
        assert isinstance(decode(await page.socket.receive_str()), LiveSnapshot)
        lab.publish(make_point(1.5, seq=4))
        assert isinstance(decode(await page.socket.receive_str()), LiveResults)


async def test_a_page_that_comes_back_gets_what_it_missed(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        points = list(make_points([0.9] * 9))
        lab.publish(make_opened(), *points[:6])
        page = await lab.open("?stream=s1&after_seq=3")
        message = await page.read()
        assert message["type"] == "results"
        assert [one["seq"] for one in message["results"]] == [4, 5, 6]
        lab.publish(*points[6:])
        assert await seqs(page, 9) == [7, 8, 9]


async def test_a_page_nobody_looked_at_catches_up_without_a_hole(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), make_point())
        page = await lab.open("?stream=s1")
        assert await seqs(page, 1) == [0, 1]
        await page.look(False)
        while any(one.name == "dashboard" for one in lab.bus.subscriptions):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        lab.publish(*make_points([0.5] * 5, first_seq=2))
        await page.look(True)
        assert await seqs(page, 6) == [2, 3, 4, 5, 6]


async def test_results_lost_on_the_way_are_had_from_the_store(tmp_path: Path):
    """More comes at once than waits for a page: nothing is missing all the same."""
    async with serve_dashboard(database=tmp_path / "x.db", mailbox_size=16) as lab:
        lab.publish(make_opened())
        page = await lab.open("?stream=s1")
        assert await seqs(page, 0) == [0]
        lab.publish(*make_points([0.5] * 300))
        assert await seqs(page, 300) == list(range(1, 301))


async def test_an_ended_stream_is_shown_and_the_feed_ends(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), make_point(), make_summary(seq=2), make_closed(seq=3))
        page = await lab.open("?stream=s1")
        assert await seqs(page, 3) == [0, 1, 2, 3]
        assert await page.close_code() == 1000


async def test_the_end_of_a_stream_ends_the_feed(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened())
        page = await lab.open("?stream=s1")
        await seqs(page, 0)
        lab.publish(make_point(), make_summary(seq=2), make_closed(seq=3))
        assert await seqs(page, 3) == [1, 2, 3]
        assert await page.close_code() == 1000


async def test_without_a_store_a_live_stream_is_shown_from_now_on():
    async with serve_dashboard() as lab:
        lab.publish(make_opened(), *make_points([0.9] * 3))
        page = await lab.open("?stream=s1")
        snapshot = await page.read()
        assert snapshot["type"] == "snapshot"
        assert [one["seq"] for one in snapshot["results"]] == [0, 3]
        lab.publish(make_point(1.5, seq=4))
        assert await seqs(page, 4) == [4]


@pytest.mark.parametrize("query", ["?stream=s9", "?stream=s9&after_seq=3"])
async def test_an_unknown_stream_is_refused(query: str):
    async with serve_dashboard() as lab:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await lab.open(query)
        assert caught.value.status == 404


async def test_a_wrong_query_is_refused():
    async with serve_dashboard() as lab:
        for query in ("?stream=s1&after_seq=x", "?zzz=1", "?after_seq=-2"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await lab.open(query)
            assert caught.value.status == 400


@virtual_time
async def test_results_come_in_batches_four_times_a_second_at_most():
    async with serve_dashboard(history=FakeHistory([make_opened()])) as lab:
        lab.publish(make_opened())
        page = await lab.open("?stream=s1")
        await page.read()

        async def publish() -> None:
            for point in make_points([0.1] * 100):
                lab.publish(point)
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish())
        times, found = [], []
        while 100 not in found:
            found += [one["seq"] for one in (await page.read())["results"]]
            times.append(current_loop().time())
        await publishing
        assert found == list(range(1, 101))
        assert len(times) <= 4 * 2 + 2, "100 results in 2 s"
