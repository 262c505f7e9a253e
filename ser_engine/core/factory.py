"""From settings to an engine: find the model, open its runtime, put them together, try it out."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
import torch

from ser_engine.config import EngineConfig
from ser_engine.core.engine import EngineCore
from ser_engine.core.features import FeatureExtractor
from ser_engine.core.runtimes import Runtime
from ser_engine.core.runtimes.select import choose_device, open_runtime, usable_cores
from ser_engine.errors import CheckpointError
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, num_frames
from ser_engine.models.hub import ProgressCallback
from ser_engine.models.model import Checkpoint, ModelOnDisk
from ser_engine.models.normalisation import FirstLayer
from ser_engine.models.registry import check_model, find_model
from ser_engine.types import Core, ModelInfo, Window, WindowResult

# Lengths the local stage is run with, in steps: the new audio, and more and more to refresh.
_BUCKETS_IN_STEPS = (1, 1.5, 2, 3, 4, 6)

_log = logging.getLogger(__name__)


def open_engine(config: EngineConfig | None = None) -> Core:
    """Return an engine that is ready to score, called by one thread at a time.

    Raises as :func:`build_engine`.
    """
    engine = build_engine(config if config is not None else EngineConfig())
    engine.warm_up()
    return engine


def build_engine(config: EngineConfig, *, progress: ProgressCallback | None = None) -> Core:
    """Find the model the settings name and return an engine for it, not yet warmed up.

    Raises:
        CheckpointError, HubUnavailableError: there is no such model, or it cannot be had.
        RuntimeUnavailableError: the runtime or the device asked for is not there.
        ConfigError: settings contradict each other, or there is no speech to calibrate with.
    """
    return engine_from_checkpoint(find_model(config.model, progress=progress), config)


def engine_from_checkpoint(checkpoint: Checkpoint, config: EngineConfig) -> Core:
    """Return an engine for a checkpoint in memory. Raises as :func:`build_engine`."""
    info = checkpoint.info
    device = choose_device(config.model.device)
    threads = config.model.threads or usable_cores()
    if info.notice:
        _log.info("%s", info.notice)
    own = checkpoint.open_engine(config.model.runtime, device, threads)
    if own is not None:
        return own
    network = checkpoint.build()
    if config.model.threads == 0 and network.max_threads is not None:
        threads = min(threads, network.max_threads)
    if device == "cpu":
        torch.set_num_threads(threads)
    # Read before the runtime takes the weights: on CUDA it changes their precision.
    layer = network.first_layer()
    runtime = open_runtime(network, info, device, threads, config)
    layer = None if layer is None else layer.to(runtime.device)
    return _engine(info, runtime, layer, network.feature_dim, config)


def _engine(
    info: ModelInfo,
    runtime: Runtime,
    layer: FirstLayer | None,
    feature_dim: int,
    config: EngineConfig,
) -> EngineCore:
    timeline = config.timeline
    steps = range(timeline.step_samples, timeline.window_samples, timeline.step_samples)
    window_frames = num_frames(timeline.window_samples)
    step_frames = timeline.step_samples // HOP_SAMPLES
    buckets = {min(round(step_frames * times), window_frames) for times in _BUCKETS_IN_STEPS}
    features = config.model.features
    cached = features == "cached" or (features == "auto" and runtime.device.type == "cpu")
    extractor = FeatureExtractor(
        runtime=runtime,
        layer=layer,
        feature_dim=feature_dim,
        tolerance=config.model.feature_tolerance if cached else None,
        buckets=sorted(buckets | {window_frames}),
        max_bytes=config.model.feature_cache_mb << 20,
    )
    # A stream's first windows are as long as it is.
    lengths = [*(num_frames(length) for length in steps), window_frames]
    return EngineCore(
        info,
        runtime,
        extractor,
        warm_up_frames=[length for length in lengths if length],
        max_batch_size=config.batching.max_batch_size,
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found of a sound model.

    Attributes:
        sha256: of the weight file as published.
        read_s: time to read it whole.
        ready_s: time until it could score, reading left out.
        score_ms: time for one second of audio.
    """

    sha256: str
    runtime: str
    read_s: float
    ready_s: float
    score_ms: float


def try_out(model: ModelOnDisk, config: EngineConfig) -> Trial:
    """Read a model whole, make an engine of it and score a second of noise.

    Raises:
        CheckpointError: it is damaged.
        SerEngineError: the settings' runtime cannot execute it.
    """
    began_s = time.monotonic()
    checkpoint = check_model(model, config.model)
    read_s = time.monotonic()
    engine = engine_from_checkpoint(checkpoint, config)
    engine.warm_up()
    ready_s = time.monotonic()
    noise = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ)
    window = Window(noise.astype(np.float32))
    engine.step([window])  # The first of a length may cost more than those that follow.
    begin_s = time.monotonic()
    (answer,) = engine.step([window])
    scored_s = time.monotonic()
    if not isinstance(answer, WindowResult):
        raise CheckpointError(f"got no result for a second of noise: {answer}")
    return Trial(
        sha256=checkpoint.info.sha256,
        runtime=engine.runtime_name,
        read_s=read_s - began_s,
        ready_s=ready_s - read_s,
        score_ms=1000 * (scored_s - begin_s),
    )
