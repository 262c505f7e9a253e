"""Lag of a fleet before there is one: a simulation with measured times, held against measurements.

::

    python -m benchmarks.scale_model --json benchmarks/results/scale_model.json
    python -m benchmarks.scale_model --calls 10000 --gateways 145 --engines 230 --way-ms 1

    stream, each step ─▶ gateway (a queue) ─▶ the way ─▶ engine (a queue, batches) ─▶ the way

First the engine of this machine is timed: how long a pass takes by its number of windows, with its
own spread. Then some streams are scored for real, and simulated with those times: the two lags side
by side say how far the simulation is to be believed. Then come the fleets. A lag is the time from
when a window falls due until its result is there; what detection of speech, pooling and look-ahead
add is the same for every fleet and not in it.

A stream waits for its result before it sends the next window, as in the server: windows that fall
due meanwhile are skipped, and the next one covers their audio.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from benchmarks.report import Report, argument_parser, percentile
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.types import Window
from stream_server.engines.opening import open_engine

STEP_S = 0.5
WINDOW_SAMPLES, STEP_SAMPLES = 64_000, 8_000
_WARM_UP_S = 2.0


class PassTimes:
    """How long a pass takes, by its number of windows."""

    def __init__(self, measured: Mapping[int, Sequence[float]]) -> None:
        self._sizes = np.array(sorted(measured), float)
        self._medians = np.array([np.median(measured[size]) for size in sorted(measured)])
        # The spread around the median is that of all sizes together.
        self._spread = [
            took_s / self.median(size) for size, times in measured.items() for took_s in times
        ]
        self._known: dict[int, float] = {}

    def draw(self, size: int, random: Random) -> float:
        """Return the seconds of one pass."""
        if size not in self._known:
            self._known[size] = self.median(size)
        return self._known[size] * random.choice(self._spread)

    def median(self, size: int) -> float:
        """Return the median seconds; between the sizes that were measured on a line."""
        if size > self._sizes[-1]:
            return float(self._medians[-1] * size / self._sizes[-1])
        return float(np.interp(size, self._sizes, self._medians))


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated.

    Attributes:
        calls: streams of one channel each.
        gateways: processes; a stream stays with one.
        engines: a stream stays with one.
        gateway_s: that a gateway is busy for a window.
        way_s: between gateway and engine, in one direction.
        max_batch: windows of a pass.
        max_wait_s: that a window waits for others, see ``batching.max_wait_ms``.
    """

    calls: int
    gateways: int
    engines: int
    gateway_s: float = 0.0
    way_s: float = 0.0
    max_batch: int = 16
    max_wait_s: float = 0.005


@dataclass(slots=True)
class Found:
    """What came of it.

    Attributes:
        lags_s: of every window that was scored.
        due: windows that fell due.
        skipped: of these, those that a later one covered.
    """

    lags_s: list[float] = field(default_factory=list)
    due: int = 0
    skipped: int = 0


@dataclass(slots=True)
class _Engine:
    """Windows that wait: number of the stream, when it fell due, when it came; and what runs."""

    waiting: deque[tuple[int, float, float]] = field(default_factory=deque)
    is_busy: bool = False


def simulate(fleet: Fleet, passes: PassTimes, seconds: float, seed: int = 0) -> Found:
    """Return the lags of a fleet."""
    random = Random(seed)
    found = Found()
    phases = [random.uniform(0, STEP_S) for _ in range(fleet.calls)]
    has_window = [False] * fleet.calls
    gateway_free_s = [0.0] * fleet.gateways
    engines = [_Engine() for _ in range(fleet.engines)]
    # (time, order, kind, number, what); the order keeps equal times apart.
    events: list[tuple[float, int, str, int, list[tuple[int, float]]]] = []
    order = 0

    def at(when_s: float, kind: str, number: int, what: list[tuple[int, float]]) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when_s, order, kind, number, what))

    def look(number: int, now_s: float) -> None:
        """Begin a pass, if there is one to begin."""
        engine = engines[number]
        if engine.is_busy or not engine.waiting:
            return
        begins_s = engine.waiting[0][2] + fleet.max_wait_s
        if len(engine.waiting) < fleet.max_batch and now_s < begins_s:
            at(begins_s, "look", number, [])
            return
        size = min(len(engine.waiting), fleet.max_batch)
        batch = [engine.waiting.popleft()[:2] for _ in range(size)]
        engine.is_busy = True
        at(now_s + passes.draw(size, random), "done", number, batch)

    for stream, phase in enumerate(phases):
        at(phase, "due", stream, [])
    while events:
        now_s, _, kind, number, what = heapq.heappop(events)
        if kind == "due":
            if now_s + STEP_S < seconds:
                at(now_s + STEP_S, "due", number, [])
            found.due += 1
            if has_window[number]:
                found.skipped += 1
                continue
            has_window[number] = True
            gateway = number % fleet.gateways
            sent_s = max(now_s, gateway_free_s[gateway]) + fleet.gateway_s
            gateway_free_s[gateway] = sent_s
            at(sent_s + fleet.way_s, "sent", number, [(number, now_s)])
        elif kind == "sent":
            waiting = engines[number % fleet.engines].waiting
            waiting.extend((stream, due_s, now_s) for stream, due_s in what)
            look(number % fleet.engines, now_s)
        elif kind == "done":
            for stream, due_s in what:
                has_window[stream] = False
                if due_s >= _WARM_UP_S:
                    found.lags_s.append(now_s + fleet.way_s - due_s)
            engines[number].is_busy = False
            look(number, now_s)
        else:
            look(number, now_s)
    return found


# -- measurements ----------------------------------------------------------------------------------

_AUDIO = np.random.default_rng(0).normal(0, 0.1, 4_000_000).astype(np.float32)


def _window(stream: int, number: int) -> Window:
    start = (stream * 7 + number) * STEP_SAMPLES % (len(_AUDIO) - WINDOW_SAMPLES)
    return Window(_AUDIO[start : start + WINDOW_SAMPLES], number * STEP_SAMPLES, f"s{stream}")


async def measure(streams: int, seconds: float, model: str) -> tuple[Found, dict[int, list[float]]]:
    """Return the lags of real streams on this machine's engine, and the times of its passes."""
    passes: dict[int, list[float]] = {}
    engine = open_engine(
        EngineConfig(model=ModelConfig(name=model, offline=True)),
        beside_another=False,
        on_step=lambda size, took_s, waits: passes.setdefault(size, []).append(took_s),
    )
    await engine.start()
    found = Found()
    began_s = time.monotonic()

    async def one(stream: int, phase_s: float) -> None:
        number = 0
        while (due_s := phase_s + number * STEP_S) < seconds:
            await asyncio.sleep(began_s + due_s - time.monotonic())
            await engine.score(_window(stream, number))
            now_s = time.monotonic() - began_s
            if due_s >= _WARM_UP_S:
                found.lags_s.append(now_s - due_s)
            skipped = max(0, int((now_s - phase_s) / STEP_S) - number)
            found.due += 1 + skipped
            found.skipped += skipped
            number += 1 + skipped

    phases = np.random.default_rng(1).uniform(0, STEP_S, streams)
    await asyncio.gather(*(one(each, float(phase)) for each, phase in enumerate(phases)))
    await engine.aclose()
    return found, passes


def _row(what: str, calls: int, found: Found) -> dict[str, object]:
    lags_ms = [1000 * each for each in found.lags_s]
    percents = {f"p{each}_ms": round(percentile(lags_ms, each), 1) for each in (50, 95, 99)}
    return {
        "what": what,
        "calls": calls,
        **percents,
        "skipped_percent": round(100 * found.skipped / max(1, found.due), 2),
    }


def main() -> None:
    """Run it."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--streams", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--calls", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--gateways", type=int, default=0, help="[default: 70 calls each]")
    parser.add_argument("--engines", type=int, default=0, help="[default: 70 %% full]")
    parser.add_argument("--gateway-ms", type=float, default=5.0, help="of a window")
    parser.add_argument("--way-ms", type=float, default=1.0, help="in one direction")
    options = parser.parse_args()
    seconds = 8.0 if options.quick else options.seconds
    report = Report({name: value for name, value in vars(options).items() if name != "json"})
    passes: dict[int, list[float]] = {}
    measured: list[tuple[int, Found]] = []
    for streams in options.streams:
        found, times = asyncio.run(measure(streams, seconds, options.model))
        measured.append((streams, found))
        for size, took_s in times.items():
            passes.setdefault(size, []).extend(took_s)
    times_of = PassTimes(passes)
    report.summary["pass_ms_1"] = round(1000 * times_of.median(1), 1)
    report.summary["pass_ms_16"] = round(1000 * times_of.median(16), 1)
    for streams, found in measured:
        simulated = simulate(Fleet(streams, 1, 1), times_of, seconds)
        for what, each in (("measured", found), ("simulated", simulated)):
            report.add(**_row(what, streams, each))
        for percent in (50, 95):
            ratio = percentile(simulated.lags_s, percent) / percentile(found.lags_s, percent)
            report.summary[f"simulated_over_measured_p{percent}_{streams}"] = round(ratio, 2)
    for calls in options.calls:
        # Of passes with half a batch, which is about what comes together at 70 %.
        window_s = times_of.median(8) / 8
        fleet = Fleet(
            calls,
            options.gateways or -(-calls // 70),
            options.engines or int(np.ceil(calls / STEP_S * window_s / 0.7)),
            options.gateway_ms / 1000,
            options.way_ms / 1000,
        )
        found = simulate(fleet, times_of, 10.0)
        report.add(**_row("fleet", calls, found), gateways=fleet.gateways, engines=fleet.engines)
        for percent in (50, 95, 99):
            lag_ms = round(1000 * percentile(found.lags_s, percent), 1)
            report.summary[f"lag_ms_p{percent}_{calls}"] = lag_ms
    report.finish(options.json)


if __name__ == "__main__":
    main()
