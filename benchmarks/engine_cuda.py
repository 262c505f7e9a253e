"""How many windows a second a GPU scores, and how many live streams that carries.

Needs torch, numpy and PyYAML only. Weights are random; audio is a stand-in. Three measurements:

- the card's matrix rate, by one large product in the precision of the run;
- windows a second against batch size, with the share of that rate the arithmetic amounts to;
- live streams: windows of N streams fall due evenly over each 0.5 s step and are scored in
  batches of what is due, as the server does; the latency of each from due to scored.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.random_checkpoint import write_random_checkpoint
from benchmarks.report import Report, median, percentile
from benchmarks.speech import stand_in_speech
from ser_engine.core.engine import EngineCore
from ser_engine.core.features import FeatureExtractor
from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.frames import num_frames
from ser_engine.models.emotion2vec import Emotion2vecSizes, build
from ser_engine.models.emotion2vec.folder import load_folder
from ser_engine.types import Window, WindowResult

WINDOW, STEP = 64_000, 8_000
STEP_S = STEP / 16_000
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LIVE_SECONDS = 5.0


def run(options: argparse.Namespace) -> None:
    """Run all measurements on ``options.device``."""
    device = torch.device(options.device)
    precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    report = Report({"device": str(device), "precision": precision, "quick": options.quick})
    if device.type == "cuda":
        report.machine["accelerator"] = torch.cuda.get_device_name(device)
    rate = _matrix_rate(device, precision, 1024 if device.type == "cpu" else 8192)
    report.summary["matrix_rate_tflops"] = rate / 1e12
    report.add(measured="matrix product", tflops=rate / 1e12)
    names = ["base"] if options.quick else options.sizes
    batches = BATCHES[:: 4 if options.quick else 1]
    for name in names:
        measure(report, name, device, precision, rate, batches)
    report.finish(options.json)


def measure(
    report: Report,
    name: str,
    device: torch.device,
    precision: str,
    rate: float,
    batches: tuple[int, ...],
) -> None:
    """Measure one network: windows a second, then live streams."""
    engine, sizes = _engine(name, device, precision, max(batches))
    engine.warm_up()
    flop = flop_per_window(sizes, WINDOW)
    best = 0.0
    for batch in batches:
        windows = [Window(stand_in_speech(WINDOW / 16_000, seed)) for seed in range(batch)]
        seconds = _median_s(lambda windows=windows: engine.step(windows), device)  # type: ignore[misc]
        rate_hz = batch / seconds
        best = max(best, rate_hz)
        report.add(
            size=name,
            batch=batch,
            step_ms=seconds * 1000,
            windows_per_s=rate_hz,
            share_of_matrix_rate=rate_hz * flop / rate,
        )
    report.summary[f"{name}_windows_per_s"] = best
    report.summary[f"{name}_share_of_matrix_rate"] = best * flop / rate
    for streams in _ladder(round(best * STEP_S)):
        latencies = live_latencies(engine, streams, max(batches), LIVE_SECONDS)
        p50, p95, p99 = (percentile(latencies, percent) * 1000 for percent in (50, 95, 99))
        report.add(size=name, streams=streams, p50_ms=p50, p95_ms=p95, p99_ms=p99)
        if p95 > STEP_S * 1000:
            break
        report.summary[f"{name}_live_streams"] = streams
        report.summary[f"{name}_live_p50_ms"] = p50
        report.summary[f"{name}_live_p95_ms"] = p95
        report.summary[f"{name}_live_p99_ms"] = p99


def live_latencies(
    engine: EngineCore,
    streams: int,
    max_batch_size: int,
    duration_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the seconds from due to scored of every window of ``streams`` live streams.

    Windows fall due evenly over each step. Whatever is due is scored in one batch of at most
    ``max_batch_size``, oldest first; what falls due meanwhile waits for the next.
    """
    audio = stand_in_speech(WINDOW / 16_000)
    due = [number * STEP_S / streams for number in range(round(streams * duration_s / STEP_S))]
    latencies: list[float] = []
    begin = clock()
    while len(latencies) < len(due):
        now = clock() - begin
        ready = [at for at in due[len(latencies) : len(latencies) + max_batch_size] if at <= now]
        if not ready:
            continue
        results = engine.step([Window(audio)] * len(ready))
        assert all(isinstance(result, WindowResult) for result in results), results[0]
        done = clock() - begin
        latencies += [done - at for at in ready]
    return latencies


def flop_per_window(sizes: Emotion2vecSizes, num_samples: int) -> float:
    """Return the floating-point operations of one window, a multiplication and an addition each."""
    total, length, channels = 0.0, num_samples, 1
    for out, kernel, stride in sizes.conv_layers:
        length = (length - kernel) // stride + 1
        total += 2 * length * out * channels * kernel
        channels = out
    dim, frames = sizes.embed_dim, length
    total += 2 * frames * channels * dim
    kernel = sizes.pos_conv_kernel
    total += sizes.pos_conv_depth * 2 * frames * dim * (dim // sizes.pos_conv_groups) * kernel
    tokens = frames + sizes.num_extra_tokens
    block = 2 * tokens * dim * dim * (4 + 2 * sizes.mlp_ratio) + 4 * tokens * tokens * dim
    return total + (sizes.prenet_depth + sizes.depth) * block


def _engine(
    name: str, device: torch.device, precision: str, max_batch_size: int
) -> tuple[EngineCore, Emotion2vecSizes]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = load_folder(write_random_checkpoint(Path(folder) / name, name))
        model = build(checkpoint.sizes, checkpoint.tensors)
    layer = model.first_layer()
    assert layer is not None
    runtime = TorchRuntime(model, str(device), precision)
    frames = num_frames(WINDOW)
    extractor = FeatureExtractor(
        runtime=runtime,
        layer=layer.to(runtime.device),
        feature_dim=model.feature_dim,
        tolerance=None,
        buckets=(frames,),
        max_bytes=1 << 30,
    )
    engine = EngineCore(
        checkpoint.info,
        runtime,
        extractor,
        warm_up_frames=(frames,),
        max_batch_size=max_batch_size,
    )
    return engine, checkpoint.sizes


def _matrix_rate(device: torch.device, precision: str, side: int) -> float:
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _median_s(lambda: left @ right, device)


def _median_s(work: Callable[[], object], device: torch.device, rounds: int = 15) -> float:
    seconds: list[float] = []
    for number in range(rounds + 3):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= 3:
            seconds.append(time.perf_counter() - begin)
    return median(seconds)


def _ladder(limit: int) -> list[int]:
    """Return stream counts from a tenth of the limit to a little beyond it."""
    shares = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
    return sorted({max(1, round(limit * share)) for share in shares})
