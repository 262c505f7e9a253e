"""Servers with real NATS, PostgreSQL and Ray, killed in parts, in the middle of two calls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import pytest

from emotion_monitor.local_cluster import DASHBOARD, LocalCluster
from mic_client import ArraySource, StreamClient, StreamOptions, load_sample_call
from stream_server.config import StoreConfig
from stream_server.store import Store
from stream_server.wire.messages import ChannelSpec, Ready
from stream_server.wire.results import Alert, Gap, Point, Result, StreamClosed, StreamOpened
from tests.stream_server.streams.timelines import tiles
from tests.support.waiting import until

_PATIENCE_S = 120.0
_CALL_S = 12.0
# All labels together always hold, whatever the model says of a voice.
_RULE = (
    "stream_server.alerts.rules=[{name: talk, threshold: 0.05, clear_threshold: 0,"
    " labels: [angry, disgusted, fearful, happy, neutral, sad, surprised], hold_s: 0}]"
)


class Caller:
    """A client that plays the sample call to one gateway, and comes back when that was away."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self.messages: list[Any] = []

    @property
    def stream_ids(self) -> list[str]:
        return [one.stream_id for one in self.messages if isinstance(one, Ready)]

    @property
    def points(self) -> int:
        return sum(isinstance(one, Point) for one in self.messages)

    async def run(self) -> None:
        samples, rate_hz = load_sample_call()
        options = StreamOptions(channels=(ChannelSpec(role="caller"),), name=self._name)
        source = ArraySource(samples[: round(_CALL_S * rate_hz), 1:2], rate_hz)
        async with StreamClient(source, self._url, options) as client:
            async for message in client:
                self.messages.append(message)


# Some twenty processes start, beside the other tests.
@pytest.mark.timeout(600)
@pytest.mark.needs("nats", "nats-server", "postgresql", "ray")
async def test_a_replica_nats_and_a_gateway_are_killed_during_two_calls():
    with LocalCluster(assignments=[_RULE], on_ray=True) as cluster:
        assert cluster.ray is not None
        ray = cluster.ray
        await until(lambda: len(ray.replicas()) == 2)
        one = Caller(cluster.ingest_url("gateway-a"), "one")
        two = Caller(cluster.ingest_url("gateway-b"), "two")
        closed: set[str] = set()
        watching = asyncio.create_task(watch(cluster, closed))
        calling = asyncio.gather(one.run(), two.run())
        await until(lambda: one.points > 2 and two.points > 2)
        assert await names_on_the_wall(cluster) == ["one", "two"]

        cluster.kill_replica()
        await more_points(one, two)

        cluster.nats.kill()
        await more_points(one, two)
        await asyncio.to_thread(cluster.nats.start)

        cluster.kill("gateway-b")
        cluster.start("gateway-b")
        await calling

        (first,) = one.stream_ids
        before, after = two.stream_ids
        # The dashboard has seen each begin and end, whatever was away meanwhile.
        await until(lambda: closed >= {first, before, after})
        watching.cancel()
        stored = await history(cluster, first, before, after)
        # Every frame of the streams that ended by themselves is in a segment or named in a gap.
        for stream_id in (first, after):
            end_sample = tiles(stored[stream_id])[-1][1]
            ends = [each for each in stored[stream_id] if isinstance(each, StreamClosed)]
            assert [each.reason for each in ends] == ["stopped"]
            if stream_id == first:
                assert end_sample == _CALL_S * 16_000
        # The one that was killed is whole as far as it was written, and its client's audio goes on.
        tiles(stored[before])
        (opened,) = [each for each in stored[after] if isinstance(each, StreamOpened)]
        assert opened.continues == before
        errors = [each for each in stored[first] if isinstance(each, Gap)]
        assert "error" not in {each.reason for each in errors}
        # No alert is lost: JetStream has all that were raised, whoever was away.
        raised = {
            each.alert_id
            for results in stored.values()
            for each in results
            if isinstance(each, Alert)
        }
        assert len(raised) == 3
        assert raised == await kept_alerts(cluster, len(raised))


async def more_points(*callers: Caller) -> None:
    seen = [each.points for each in callers]
    await until(
        lambda: all(each.points > before for each, before in zip(callers, seen, strict=True))
    )


async def names_on_the_wall(cluster: LocalCluster) -> list[str]:
    """Return the names of the streams that a page of the dashboard begins with."""
    url = f"{cluster.http_url(DASHBOARD)}/api/v1/live"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as page:
        snapshot = json.loads((await page.receive()).data)
        return sorted(tile["name"] for tile in snapshot["tiles"])


async def watch(cluster: LocalCluster, closed: set[str]) -> None:
    """Note the streams whose end a feed of the dashboard tells."""
    url = f"{cluster.http_url(DASHBOARD)}/feed?types=stream_closed"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as feed:
        async for message in feed:
            told = json.loads(message.data)
            if told["type"] == "stream_closed":
                closed.add(told["stream_id"])


async def history(cluster: LocalCluster, *stream_ids: str) -> dict[str, list[Result]]:
    store = await Store.open(StoreConfig(url=cluster.store_url), owner="test")
    try:
        found: dict[str, list[Result]] = {}
        async with asyncio.timeout(_PATIENCE_S):
            for stream_id in stream_ids:
                # Written half a second after it was published.
                while not any(isinstance(each, StreamClosed) for each in found.get(stream_id, [])):
                    stored = await store.results(stream_id, limit=10_000)
                    found[stream_id] = [] if stored is None else list(stored.results)
                    await asyncio.sleep(0.05)
        return found
    finally:
        await store.close()


async def kept_alerts(cluster: LocalCluster, number: int) -> set[str]:
    """Return the alerts that a subscriber gets who was away all the time."""
    import nats
    from nats.js.api import DeliverPolicy

    connection = await nats.connect(cluster.nats.url)
    try:
        consumer = await connection.jetstream().subscribe(
            "emotion-monitor.kept.alert.*", deliver_policy=DeliverPolicy.ALL
        )
        found: set[str] = set()
        while len(found) < number:
            message = await consumer.next_msg(timeout=_PATIENCE_S)
            found.add(msgspec.json.decode(message.data, type=Alert).alert_id)
        return found
    finally:
        await connection.close()
