"""How many live streams this machine carries: measured for a minute, then arithmetic.

::

    a process for each model and runtime ──▶ seconds a forward pass of 1, 2, 4, … windows, with the
                       │                    windows of each profile; memory
    one session on speech, no engine     ──▶ seconds of a core a stream and second
                       │
                       ▼
    streams with random phases, one window a step each, through the batcher's policy: the most
    streams whose p95 lag stays under one step

The simulation takes the measured times; that the server needs cores, too, slows a pass down by what
is left of them. It knows nothing of other programs on the machine: run it when that is quiet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion_monitor.config_file import plain
from ser_engine.config import EngineConfig, Profile
from ser_engine.errors import SerEngineError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import Core, FloatArray, Window

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings

RUNTIMES = ("auto", "torch", "openvino", "onnx", "onnx-int8")
"""Those that are tried; ``auto`` tells which of them it takes."""
MOST_STREAMS = 10_000
# Passes of one size that are measured at most, and at least.
_MOST_PASSES, _LEAST_PASSES = 15, 3
_SIMULATED_S = 40.0
_WARM_UP_S = 5.0
# Of a core, for a second of a stream: sockets, event loop, publishing. Measured with 90 to 130
# streams and no model (docs/explanation/performance.md): 7 ms, of which the session 4.
_BESIDE_THE_SESSION_S = 0.003
# Memory of a stream in the server, measured there too.
_SERVER_KB = 730
# Share of a core that the server's event loop may take before its own delays are felt.
_LOOP_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on one runtime with the windows of one profile.

    Attributes:
        model, runtime: their names; the runtime as the engine calls it.
        setting: the runtime's name in the settings.
        profile: ``live`` or ``economy``.
        pass_s: seconds of a forward pass by its number of windows, each of another stream.
        memory_mb: of the process with the model loaded.
        stream_kb: what the engine keeps of a stream more.
    """

    model: str
    runtime: str
    setting: str
    profile: Profile
    pass_s: Mapping[int, float]
    memory_mb: float
    stream_kb: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a model and runtime carry on this machine.

    Attributes:
        streams: live streams at p95 lag ≤ one step.
        lag_p95_ms: with as many.
        limited_by: ``engine``, ``server`` or ``limit``: more were not tried.
        memory_mb: of the server with as many streams.
        settings: what to write in ``config.yaml`` for it, by name.
    """

    measured: Measured
    streams: int
    lag_p95_ms: float
    limited_by: str
    memory_mb: float
    settings: Mapping[str, Any]


# -- arithmetic ------------------------------------------------------------------------------------


def pass_time_s(pass_s: Mapping[int, float], size: int) -> float:
    """Return how long a pass takes, between and beyond the sizes that were measured."""
    sizes = sorted(pass_s)
    if size in pass_s:
        return pass_s[size]
    if len(sizes) == 1:
        return pass_s[sizes[0]] * size / sizes[0]
    if size < sizes[-1]:
        return float(np.interp(size, sizes, [pass_s[each] for each in sizes]))
    # Beyond: as much more a window as between the two largest.
    low, high = sizes[-2], sizes[-1]
    slope = max((pass_s[high] - pass_s[low]) / (high - low), 0.0)
    return pass_s[high] + slope * (size - high)


def lag_p95_s(
    num_streams: int,
    step_s: float,
    pass_s: Mapping[int, float],
    *,
    max_batch: int,
    max_wait_s: float,
) -> float:
    """Return the 95th percentile of the time from a window's last sample to its result.

    Each stream brings a window every ``step_s``, at a moment of its own. ``pass_s``: seconds of a
    forward pass by its number of windows, ``max_batch`` at most; it waits ``max_wait_s`` for more.
    """
    rng = np.random.default_rng(0)
    phases = np.sort(rng.random(num_streams)) * step_s
    num_steps = round(_SIMULATED_S / step_s)
    arrivals = (np.arange(num_steps)[:, None] * step_s + phases).ravel()
    lags: list[float] = []
    at, free_s = 0, 0.0
    while at < len(arrivals):
        first = arrivals[at]
        # As the batcher: at once when full, else max_wait_s after the first one.
        full_s = arrivals[at + max_batch - 1] if at + max_batch <= len(arrivals) else np.inf
        begins_s = max(free_s, min(first + max_wait_s, full_s))
        end = min(int(np.searchsorted(arrivals, begins_s, side="right")), at + max_batch)
        end = max(end, at + 1)
        free_s = begins_s + pass_time_s(pass_s, end - at)
        lags += [free_s - arrived for arrived in arrivals[at:end] if arrived >= _WARM_UP_S]
        at = end
    return float(np.percentile(lags, 95)) if lags else 0.0


def most_streams(
    measured: Measured, config: EngineConfig, server_s: float, cores: int
) -> tuple[int, float, str]:
    """Return the most streams at p95 lag ≤ one step, that lag in s, and what is full then.

    ``server_s``: seconds of a core that a stream costs the server a second, the engine apart.
    """
    step_s = config.timeline.step_ms / 1000
    by_server = int(_LOOP_SHARE / server_s) if server_s else MOST_STREAMS
    most = min(by_server, MOST_STREAMS)

    def lag_s(streams: int) -> float:
        # Server and engine share the cores: what the server takes the engine lacks.
        left = max(cores - streams * server_s, 0.05) / cores
        slowed = {size: seconds / left for size, seconds in measured.pass_s.items()}
        batching = config.batching
        return lag_p95_s(
            streams,
            step_s,
            slowed,
            max_batch=batching.max_batch_size,
            max_wait_s=batching.max_wait_ms / 1000,
        )

    low, high = 0, 1
    while high <= most and lag_s(high) <= step_s:
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lag_s(middle) <= step_s else (low, middle)
    full = "engine" if low < most else "server" if most < MOST_STREAMS else "limit"
    return low, lag_s(low) if low else 0.0, full


# -- measuring -------------------------------------------------------------------------------------


def speech(seconds: float) -> FloatArray:
    """Return the customer of the sample call, over and over: ``(samples,)``, 16 kHz."""
    import soxr

    from mic_client import load_sample_call

    samples, rate_hz = load_sample_call()
    customer = soxr.resample(samples[:, -1], rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    return np.resize(customer, round(seconds * SAMPLE_RATE_HZ))


def profiles_of(config: EngineConfig) -> list[EngineConfig]:
    """Return the settings with each profile: what is set, and economy unless that is the same."""
    timeline = config.timeline
    live = replace(timeline, profile="live") if timeline.profile == "auto" else timeline
    economy = replace(timeline, profile="economy")
    return [replace(config, timeline=each) for each in dict.fromkeys((live, economy))]


def measure_engine(config: EngineConfig, budget_s: float) -> list[Measured]:
    """Measure one engine, in this process, with each profile.

    ``budget_s`` is for all of them, loading apart.

    Raises:
        SerEngineError: model or runtime cannot be had.
    """
    from ser_engine.core.factory import build_engine

    core = build_engine(config)
    core.warm_up()
    memory_mb = _memory_kb() / 1024
    audio = speech(120)
    profiles = profiles_of(config)
    found: list[Measured] = []
    for number, of_profile in enumerate(profiles):
        timeline = of_profile.timeline
        before_kb = _memory_kb()
        pass_s: dict[int, float] = {}
        deadline_s = time.monotonic() + budget_s / len(profiles)
        size, num_seen = 1, 0
        while size <= config.batching.max_batch_size and (
            not pass_s or time.monotonic() < deadline_s
        ):
            num_seen += size
            pass_s[size] = _median_pass_s(
                core, audio, size, timeline.window_samples, timeline.step_samples, deadline_s
            )
            size *= 2
        # The streams of the first profile have left memory behind that the next ones take.
        stream_kb = max(_memory_kb() - before_kb, 0.0) / num_seen
        found.append(
            Measured(
                model=core.info.name,
                runtime=core.runtime_name,
                setting=config.model.runtime,
                profile=timeline.profile,
                pass_s=pass_s,
                memory_mb=round(memory_mb, 1),
                stream_kb=round(max(stream_kb, found[0].stream_kb if number else 0.0), 1),
            )
        )
    return found


def _median_pass_s(
    core: Core, audio: FloatArray, size: int, window: int, step: int, deadline_s: float
) -> float:
    took_s: list[float] = []
    # The first pass of a stream keeps nothing yet: it is not what a stream costs.
    for number in range(_MOST_PASSES + 1):
        windows = []
        for stream in range(size):
            offset = stream * 7_040 % (len(audio) // 2)
            start = offset + number * step
            windows.append(Window(audio[start : start + window], start, f"{size} {stream}"))
        began_s = time.perf_counter()
        core.step(windows)
        if number:
            took_s.append(time.perf_counter() - began_s)
        if len(took_s) >= _LEAST_PASSES and time.monotonic() > deadline_s:
            break
    for stream in range(size):
        core.forget(f"{size} {stream}")
    return float(np.median(took_s))


def measure_server(config: EngineConfig, seconds: float) -> float:
    """Return the seconds of a core that a session takes for a second of a stream, engine apart."""
    from ser_engine.frames import num_frames
    from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
    from ser_engine.types import ModelInfo, WindowResult
    from stream_server.streams.session import Session
    from stream_server.wire.audio_format import AudioFormat
    from stream_server.wire.messages import ChannelSpec
    from stream_server.wire.start import StreamSpec

    labels = LabelSet.from_tokens(EMOTION2VEC_TOKENS)
    session = Session(
        stream_id="capacity",
        spec=StreamSpec(AudioFormat("pcm_s16le", SAMPLE_RATE_HZ, 1), channels=(ChannelSpec(),)),
        model=ModelInfo("none", "", "", "", labels, 1),
        engine_config=config,
        analyse_roles=("speaker",),
    )
    session.opened(0.0)
    data = np.round(speech(seconds) * 32_767).astype("<i2").tobytes()
    began_s = time.process_time()
    for at in range(0, len(data), 640):
        session.receive(data[at : at + 640])
        while session.has_backlog:
            for channel, window in session.advance():
                frames = num_frames(len(window.samples))
                logits = np.zeros((frames, len(labels)), np.float32)
                result = WindowResult(logits, np.zeros((frames, 1), np.float32))
                session.answer(channel, window, result)
            session.take_results()
    return (time.process_time() - began_s) / seconds


def _memory_kb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    return 0.0


# -- the command -----------------------------------------------------------------------------------


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_all(
    settings: Settings, models: Sequence[str], runtimes: Sequence[str], budget_s: float
) -> Iterator[Capacity | str]:
    """Yield what each model on each runtime carries, or why that is not known.

    Each engine's model and runtime in the settings are replaced. ``budget_s`` is for all of them,
    loading apart.
    """
    cores = usable_cores()
    profiles = [
        (each, measure_server(each, seconds=30.0) + _BESIDE_THE_SESSION_S)
        for each in profiles_of(settings.ser_engine)
    ]
    seen: set[tuple[str, str]] = set()
    for model in models:
        for runtime in runtimes:
            share_s = budget_s / (len(models) * len(runtimes))
            try:
                found = _measure_in_child(settings, model, runtime, share_s)
            except SerEngineError as error:
                # Not every model runs on every runtime; one that was asked for is told.
                if runtime == runtimes[0]:
                    yield f"{model}: {error}"
                continue
            # "auto" is one of the others.
            if (found[0].model, found[0].runtime) not in seen:
                seen.add((found[0].model, found[0].runtime))
                for measured, (config, server_s) in zip(found, profiles, strict=True):
                    yield capacity_of(measured, config, server_s, cores)


def capacity_of(measured: Measured, config: EngineConfig, server_s: float, cores: int) -> Capacity:
    """Return what a machine carries; see :func:`most_streams`."""
    streams, lag_s, limited_by = most_streams(measured, config, server_s, cores)
    settings: dict[str, Any] = {
        "ser_engine.model.name": measured.model,
        "ser_engine.model.runtime": measured.setting,
        "ser_engine.timeline.profile": measured.profile,
        "stream_server.limits.max_streams": max(streams, 1),
        "stream_server.processes.workers": cores // 4 if limited_by == "server" else 0,
    }
    return Capacity(
        measured=measured,
        streams=streams,
        lag_p95_ms=round(lag_s * 1000, 1),
        limited_by=limited_by,
        memory_mb=round(measured.memory_mb + streams * (measured.stream_kb + _SERVER_KB) / 1024, 1),
        settings=settings,
    )


def line_of(found: Capacity) -> str:
    """Return what was found, for a terminal."""
    measured = found.measured
    one_ms = 1000 * measured.pass_s[min(measured.pass_s)]
    return (
        f"{measured.model}, {measured.runtime}, {measured.profile}: {found.streams} streams"
        f" (p95 lag {found.lag_p95_ms:.0f} ms; the {found.limited_by} is full then),"
        f" {one_ms:.1f} ms a window, {found.memory_mb:.0f} MB"
    )


def advice_of(found: Sequence[Capacity]) -> str:
    """Return the settings for the one that carries most of each profile, of those found."""
    best: dict[str, Capacity] = {}
    for each in sorted(found, key=lambda each: -each.streams):
        best.setdefault(each.measured.profile, each)
    text = []
    for each in best.values():
        lines = [f"  {name}: {value}" for name, value in each.settings.items()]
        text += ["", f"settings for {each.measured.model}, {each.streams} streams:", *lines]
    return "\n".join(text)


def document_of(found: Sequence[Capacity], config: EngineConfig) -> str:
    """Return everything as a JSON document."""
    return json.dumps(
        {
            "cores": usable_cores(),
            "step_ms": config.timeline.step_ms,
            "window_ms": config.timeline.window_ms,
            "profiles": {
                each.timeline.profile: {
                    "step_ms": each.timeline.step_ms,
                    "window_ms": each.timeline.window_ms,
                }
                for each in profiles_of(config)
            },
            "results": [asdict(each) for each in found],
        },
        indent=1,
    )


def _measure_in_child(
    settings: Settings, model: str, runtime: str, budget_s: float
) -> list[Measured]:
    """Measure one engine in a process of its own, for its memory and its threads.

    Raises:
        SerEngineError: model or runtime cannot be had.
    """
    from stream_server.engines.fetching import child_environment

    wanted = {
        "ser_engine": plain({"ser_engine": settings.ser_engine})["ser_engine"],
        "model": model,
        "runtime": runtime,
        "budget_s": budget_s,
    }
    result = subprocess.run(
        [sys.executable, "-P", "-m", "emotion_monitor.capacity"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        env=child_environment(),
    )
    last = result.stdout.splitlines()[-1:] or ["{}"]
    told = json.loads(last[0])
    if "measured" not in told:
        raise SerEngineError(told.get("failed", f"status {result.returncode}"))
    found = []
    for each in told["measured"]:
        each["pass_s"] = {int(size): seconds for size, seconds in each["pass_s"].items()}
        found.append(Measured(**each))
    return found


def _main() -> None:
    from pydantic import TypeAdapter

    from stream_server.engines.pool import end_process

    wanted = json.loads(sys.stdin.read())
    config = TypeAdapter(EngineConfig).validate_python(wanted["ser_engine"])
    model = replace(config.model, name=wanted["model"], runtime=wanted["runtime"], offline=True)
    told: dict[str, Any]
    try:
        found = measure_engine(replace(config, model=model), wanted["budget_s"])
        told = {"measured": [asdict(each) for each in found]}
    except (SerEngineError, ImportError) as error:
        told = {"failed": str(error)}
    print(json.dumps(told))
    end_process(0)


if __name__ == "__main__":
    _main()
