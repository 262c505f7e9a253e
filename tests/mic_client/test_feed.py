"""The client's side of feeds, against the real endpoint on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mic_client import emotion_feed
from mic_client import feed as feed_module
from mic_client.errors import AccessError, ConnectionFailedError, RefusedError
from mic_client.feed import MAX_STREAMS, EmotionFeed, FeedPosition
from stream_server.access import AccessConfig, ListenConfig
from stream_server.wire.feed_messages import Dropped, Snapshot
from stream_server.wire.results import Result
from tests.requirements import REPOSITORY
from tests.support.feeds import FakeHistory, FeedServer, serve_feed
from tests.support.results import make_closed, make_opened, make_point, make_points

TOKEN = "crm-0123456789abcdef"


async def take(feed: EmotionFeed, count: int) -> list[Result]:
    results = []
    async for result in feed:
        results.append(result)
        if len(results) == count:
            break
    return results


async def publish_when_subscribed(server: FeedServer, *results: Result) -> None:
    while server.num_subscribers("websocket") == 0:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    server.publish(*results)


async def test_results_come_as_they_are_published():
    async with serve_feed() as server:
        server.publish(make_opened(), make_point(seq=1))
        feed = emotion_feed(server.url())
        publishing = asyncio.create_task(
            publish_when_subscribed(server, make_point(0.5, seq=2), make_closed(seq=3))
        )
        assert [result.seq for result in await take(feed, 4)] == [0, 1, 2, 3]
        await publishing


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]"])
async def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, host: str):
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        # Port 1 answers nothing.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with serve_feed() as server:
        server.publish(make_opened())
        url = server.url().replace("127.0.0.1", host)
        assert len(await take(emotion_feed(url, give_up_after_s=0.0), 1)) == 1
        # The name of a server that listens everywhere; this one, which does not, refuses it.
        with pytest.raises(AccessError, match=r"0\.0\.0\.0"):
            await take(emotion_feed(server.url().replace("127.0.0.1", "0.0.0.0")), 1)


async def test_the_feed_of_one_stream_ends_with_it():
    stored: list[Result] = [make_opened(), *make_points([0.1] * 4)]
    async with serve_feed(FakeHistory(stored)) as server:
        server.publish(*stored)
        feed = emotion_feed(server.url(), stream="s1", types=["point"], from_s=1.0)
        publishing = asyncio.create_task(publish_when_subscribed(server, make_closed(seq=5)))
        assert [result.seq async for result in feed] == [3, 4]
        await publishing


async def test_a_lost_connection_is_made_again_and_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(feed_module, "_FIRST_DELAY_S", 0.01)
    history = FakeHistory([make_opened()])
    async with serve_feed(history) as server:
        server.publish(make_opened())
        feed = emotion_feed(server.url())
        seqs = []
        async for result in feed:
            seqs.append(result.seq)
            if result.seq == 0:
                server.publish(make_point(seq=1))
            elif result.seq == 1:
                # The server's side ends, as at a restart; results go on meanwhile.
                (subscription,) = (
                    one for one in server.bus.subscriptions if one.name == "websocket"
                )
                subscription.close()
                points = list(make_points([0.1] * 3, start_s=0.5, first_seq=2))
                history.kept += [make_point(seq=1), *points]
                server.publish(*points)
            elif result.seq == 4:
                server.publish(make_point(2.0, seq=5))
            elif result.seq == 5:
                break
        assert seqs == [0, 1, 2, 3, 4, 5]
        assert feed.missed == 0


async def test_what_is_not_kept_is_counted(monkeypatch: pytest.MonkeyPatch):
    position = FeedPosition()
    assert position.take(Dropped(results=3)) == []
    assert position.missed == 3


async def test_a_token_is_sent():
    access = AccessConfig(tokens={"crm": TOKEN})
    async with serve_feed(listen=ListenConfig(host="0.0.0.0"), access=access) as server:
        server.publish(make_opened())
        assert await take(emotion_feed(server.url(), token=TOKEN), 1) == [make_opened()]
        with pytest.raises(AccessError, match="unknown access token"):
            await take(emotion_feed(server.url(), token="wrong"), 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"stream": "s9"}, "not known"), ({"types": ["points"]}, "the type 'points'")],
)
async def test_what_cannot_be_is_an_error_with_a_remedy(options: dict[str, object], told: str):
    async with serve_feed() as server:
        with pytest.raises(RefusedError, match=told) as caught:
            await take(emotion_feed(server.url(), **options), 1)  # type: ignore[arg-type]
        assert caught.value.remedy


async def test_it_gives_up_where_nobody_answers(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed_module, "_FIRST_DELAY_S", 0.001)
    feed = emotion_feed(f"ws://127.0.0.1:{unused_tcp_port}", give_up_after_s=0.05)
    with pytest.raises(ConnectionFailedError, match="Start the server"):
        await take(feed, 1)


async def test_a_full_server_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed_module, "_FIRST_DELAY_S", 0.001)
    async with serve_feed(max_subscribers=0) as server:
        with pytest.raises(ConnectionFailedError, match=r"subscriber limit \(0\) reached"):
            await take(emotion_feed(server.url(), give_up_after_s=0.05), 1)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://localhost:7860", "ws://localhost:7860/feed"),
        ("https://monitor.example/", "wss://monitor.example/feed"),
        ("ws://localhost:7860/feed", "ws://localhost:7860/feed"),
        ("wss://example.org/monitor/feed", "wss://example.org/monitor/feed"),
    ],
)
def test_the_url_may_be_short(url: str, asked: str):
    assert emotion_feed(url)._connect_url() == asked


@pytest.mark.parametrize("url", ["localhost:7860", "ftp://localhost", "ws://", "http://[bad"])
def test_what_is_no_url_is_refused(url: str):
    with pytest.raises(RefusedError, match="ws://localhost:7860/feed"):
        emotion_feed(url)


@given(st.lists(st.integers(0, 9), max_size=60), st.data())
def test_every_result_once_however_often_it_is_told(order: list[int], data: st.DataObject):
    position = FeedPosition()
    came: list[int] = []
    for seq in order:
        point = make_point(seq=seq)
        message = Snapshot(results=(point,)) if data.draw(st.booleans()) else point
        came += [result.seq for result in position.take(message)]
    assert came == sorted(set(came))
    assert position.after == ([f"s1:{came[-1]}"] if came else [])


def test_streams_that_ended_are_not_asked_for():
    position = FeedPosition()
    position.take(make_point(seq=5))
    position.take(make_closed(seq=6))
    assert position.after == []


def test_the_number_of_streams_is_bounded():
    position = FeedPosition()
    for number in range(MAX_STREAMS + 10):
        position.take(make_point(stream_id=f"s{number}"))
    assert len(position.after) == MAX_STREAMS
    assert position.after[0] == "s10:1"


def test_it_needs_neither_torch_nor_the_server():
    code = (
        "import sys; import mic_client.feed;"
        " print([name for name in ('torch', 'aiohttp', 'sqlalchemy') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert found.stdout.strip() == "[]"
