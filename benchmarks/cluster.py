"""What several servers cost and survive: engines elsewhere, kills, alerts.

::

    python -m benchmarks.cluster --json benchmarks/results/cluster.json

All processes share this machine, so the figures say what the way to an engine costs and how long
something is away, not how much a fleet carries; docs/explanation/scaling.md goes on from them. The
engine is the built-in model, which takes little, so that the way weighs more. Where the extra ray
is installed all of it is done again with replicas of Ray Serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from benchmarks.report import Report, argument_parser
from emotion_monitor.local_cluster import DASHBOARD, LocalCluster, has_ray, what_is_missing
from mic_client import ArraySource, StreamClient, StreamOptions, load_sample_call
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.types import Window
from stream_server.config import StoreConfig
from stream_server.engines import Engine
from stream_server.engines.opening import open_engine
from stream_server.engines.ray_pool import ServeApplications, ray_address
from stream_server.engines.remote import RemoteEngine
from stream_server.store import Store
from stream_server.wire.messages import ChannelSpec, Ready
from stream_server.wire.results import Alert, Gap, Point, Segment

WINDOW_SAMPLES, STEP_SAMPLES = 64_000, 8_000
_RULE = (
    "stream_server.alerts.rules=[{name: talk, threshold: 0.05, clear_threshold: 0,"
    " labels: [angry, disgusted, fearful, happy, neutral, sad, surprised], hold_s: 0}]"
)
_PATIENCE_S = 300.0
_STREAMS_TO_SCALE = 48


_LOCAL = EngineConfig(model=ModelConfig(name="compact", offline=True))


async def near_ms(windows: int) -> float:
    """Return the time a window takes without any way to it."""
    engine = open_engine(_LOCAL, beside_another=False, on_step=None)
    await engine.start()
    try:
        return float(np.median(await _times_ms(engine, windows)))
    finally:
        await engine.aclose()


async def far_ms(address: str, windows: int) -> tuple[list[float], float, float]:
    """Return times of windows of one stream, how many a second of many streams are scored, bytes.

    The last are those of audio that were sent, a window.
    """
    config = replace(_LOCAL, model=ModelConfig(name=address))
    engine = open_engine(config, beside_another=False, on_step=None)
    await engine.start()
    times_ms = await _times_ms(engine, windows)
    streams = 32
    rounds = max(1, windows // streams)
    began_s = time.monotonic()
    for each in range(rounds):
        await asyncio.gather(*(engine.score(_window(f"s{key}", each)) for key in range(streams)))
    took_s = time.monotonic() - began_s
    await engine.aclose()
    # Of several engines nobody adds it up.
    num_bytes = engine.audio_bytes if isinstance(engine, RemoteEngine) else 0
    return times_ms, rounds * streams / took_s, num_bytes / max(1, engine.stats.windows_scored)


def speed(cluster: LocalCluster, windows: int) -> dict[str, Any]:
    """Time windows here, and on their way to one and to two engines."""
    way, engines = ("engine", "engines") if cluster.ray is None else ("ray", "replicas")
    found: dict[str, Any] = {}
    local_ms = asyncio.run(near_ms(windows))
    for number in (1, 2):
        address = cluster.engine_address(number)
        if cluster.ray is not None and number == 1:
            address = cluster.add_replicas("one", 1)
        times_ms, per_s, num_bytes = asyncio.run(far_ms(address, windows))
        if cluster.ray is not None and number == 1:
            cluster.end("one")
        if number == 1:
            found[f"{way}_audio_bytes_per_window"] = round(num_bytes)
            for percent in (50, 95):
                added_ms = float(np.percentile(times_ms, percent)) - local_ms
                found[f"{way}_added_ms_p{percent}"] = round(added_ms, 2)
        found[f"windows_per_s_{number}_{engines}"] = round(per_s, 1)
    return found


async def autoscaling(cluster: LocalCluster) -> dict[str, Any]:
    """Load one replica until Ray Serve has added another; return how long that took, and back."""
    address = await asyncio.to_thread(cluster.add_replicas, "scaled", 1, 2)
    applications = ServeApplications(ray_address(address))
    engine = open_engine(
        replace(_LOCAL, model=ModelConfig(name=address)), beside_another=False, on_step=None
    )
    await engine.start()
    is_enough = asyncio.Event()

    async def stream(key: str) -> None:
        number = 0
        while not is_enough.is_set():
            await engine.score(_window(key, number))
            number += 1

    async def until(number: int) -> float:
        began_s = time.monotonic()
        async with asyncio.timeout(_PATIENCE_S):
            while [each.num_replicas for each in await applications.running()] != [number]:  # noqa: ASYNC110  Nor does Ray tell.
                await asyncio.sleep(0.2)
        return round(time.monotonic() - began_s, 1)

    # A replica takes them in turn, so that each waits for the others.
    streams = asyncio.gather(*(stream(f"s{each}") for each in range(_STREAMS_TO_SCALE)))
    added_s = await until(2)
    is_enough.set()
    await streams
    removed_s = await until(1)
    stats = engine.stats
    await engine.aclose()
    await asyncio.to_thread(cluster.end, "scaled")
    return {
        "ray_replica_added_after_s": added_s,
        "ray_replica_removed_after_s": removed_s,
        "windows_lost_while_scaling": stats.windows - stats.windows_scored + stats.windows_refused,
    }


async def _times_ms(engine: Engine, windows: int) -> list[float]:
    times = []
    for number in range(windows):
        began_s = time.perf_counter()
        await engine.score(_window("one", number))
        times.append((time.perf_counter() - began_s) * 1000)
    # The first ones warm up.
    return times[len(times) // 10 :]


_SPEECH = np.random.default_rng(0).normal(0, 0.1, 4_000_000).astype(np.float32)


def _window(stream_key: str, number: int) -> Window:
    start = number * STEP_SAMPLES % (len(_SPEECH) - WINDOW_SAMPLES)
    return Window(_SPEECH[start : start + WINDOW_SAMPLES], start, stream_key)


class Caller:
    """A call that notes when results come."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._seconds = url, seconds
        self.stream_ids: list[str] = []
        self.points_at_s: list[float] = []

    async def run(self) -> None:
        """Play it; a lost connection is taken up again."""
        samples, rate_hz = load_sample_call()
        options = StreamOptions(channels=(ChannelSpec(role="caller"),), name="a call")
        source = ArraySource(samples[: round(self._seconds * rate_hz), 1:2], rate_hz)
        async with StreamClient(source, self._url, options) as client:
            async for message in client:
                if isinstance(message, Ready):
                    self.stream_ids.append(message.stream_id)
                elif isinstance(message, Point):
                    self.points_at_s.append(time.monotonic())

    async def next_point_s(self) -> float:
        """Return the time until the next point comes."""
        began_s, number = time.monotonic(), len(self.points_at_s)
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.points_at_s) == number:  # noqa: ASYNC110  The reader is another task.
                await asyncio.sleep(0.005)
        return self.points_at_s[-1] - began_s


async def kills(cluster: LocalCluster, seconds: float) -> dict[str, Any]:
    """Kill parts during two calls; return how long each was felt, and what was lost."""
    one = Caller(cluster.ingest_url("gateway-a"), seconds)
    two = Caller(cluster.ingest_url("gateway-b"), seconds)
    calling = asyncio.gather(one.run(), two.run())
    await asyncio.gather(one.next_point_s(), two.next_point_s())
    found: dict[str, Any] = {}
    if cluster.ray is not None:
        cluster.kill_replica()
        found["recovery_s_replica"] = await _felt_s(one, two)
        await calling
        lost = await _lost(cluster, [*one.stream_ids, *two.stream_ids])
        return {**found, "frames_lost": lost["frames_lost"]}
    cluster.kill("engine-0")
    found["recovery_s_engine"] = await _felt_s(one, two)
    cluster.nats.kill()
    await asyncio.sleep(1)
    began_s = time.monotonic()
    await asyncio.to_thread(cluster.nats.start)
    await _connected(cluster)
    found["recovery_s_nats"] = round(time.monotonic() - began_s, 2)
    cluster.kill("gateway-b")
    cluster.start("gateway-b")
    found["recovery_s_gateway"] = round(await two.next_point_s(), 2)
    await calling
    return {**found, **await _lost(cluster, [*one.stream_ids, *two.stream_ids])}


async def _felt_s(*callers: Caller) -> float:
    return round(max(await asyncio.gather(*(one.next_point_s() for one in callers))), 2)


async def _connected(cluster: LocalCluster) -> None:
    import aiohttp

    async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                answer = await session.get(f"{cluster.http_url(DASHBOARD)}/metrics")
                if "emotion_monitor_bus_connected 1.0" in await answer.text():
                    return
            await asyncio.sleep(0.05)


async def _lost(cluster: LocalCluster, stream_ids: list[str]) -> dict[str, int]:
    """Count 20 ms frames that are neither scored nor named, and alerts that JetStream lacks."""
    store = await Store.open(StoreConfig(url=cluster.store_url), owner="benchmark")
    frames_lost = 0
    raised: set[str] = set()
    try:
        await asyncio.sleep(2)
        for stream_id in stream_ids:
            stored = await store.results(stream_id, limit=100_000)
            results = () if stored is None else stored.results
            spans = sorted(
                (each.start_sample, each.end_sample)
                for each in results
                if isinstance(each, Segment | Gap) and each.final
            )
            end = 0
            for start, next_end in spans:
                frames_lost += abs(start - end) // 320
                end = next_end
            raised |= {each.alert_id for each in results if isinstance(each, Alert)}
    finally:
        await store.close()
    kept = await _kept(cluster)
    return {"frames_lost": frames_lost, "alerts": len(raised), "alerts_lost": len(raised - kept)}


async def _kept(cluster: LocalCluster) -> set[str]:
    import nats
    import nats.errors

    connection = await nats.connect(cluster.nats.url)
    consumer = await connection.jetstream().subscribe("emotion-monitor.kept.alert.*")
    found: set[str] = set()
    with contextlib.suppress(nats.errors.TimeoutError):
        while True:
            message = await consumer.next_msg(timeout=3)
            found.add(msgspec.json.decode(message.data, type=Alert).alert_id)
    await connection.close()
    return found


def main() -> None:
    """Run it."""
    parser = argument_parser(__doc__)
    parser.add_argument("--windows", type=int, default=320)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each call")
    options = parser.parse_args()
    if missing := what_is_missing():
        parser.error("; ".join(missing))
    report = Report({"windows": options.windows, "seconds": options.seconds})
    for on_ray in (False, True) if has_ray() else (False,):
        with LocalCluster(assignments=[_RULE], on_ray=on_ray) as cluster:
            found = speed(cluster, options.windows)
            if on_ray:
                found |= asyncio.run(autoscaling(cluster))
            found |= asyncio.run(kills(cluster, options.seconds))
        frames_lost = report.summary.get("frames_lost", 0) + found["frames_lost"]
        report.summary |= {**found, "frames_lost": frames_lost}
    report.finish(options.json)


if __name__ == "__main__":
    main()
