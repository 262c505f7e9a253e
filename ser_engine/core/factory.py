"""From settings to an engine: find the model, open its runtime, put them together."""

from __future__ import annotations

import logging

import torch

from ser_engine.config import EngineConfig
from ser_engine.core.engine import Engine, EngineCore
from ser_engine.core.features import FeatureExtractor
from ser_engine.core.normalisation import FirstLayer, first_layer
from ser_engine.core.runtimes.base import Runtime
from ser_engine.core.runtimes.select import (
    choose_device,
    choose_runtime,
    open_compact,
    open_runtime,
    usable_cores,
)
from ser_engine.errors import ConfigError
from ser_engine.frames import HOP_SAMPLES, num_frames
from ser_engine.models.compact.network import CompactSizes
from ser_engine.models.compact.shipped import CompactCheckpoint, build_compact
from ser_engine.models.emotion2vec.checkpoint import Checkpoint, Emotion2vecSizes
from ser_engine.models.emotion2vec.network import build
from ser_engine.models.find import find_model
from ser_engine.models.hub import ProgressCallback
from ser_engine.types import ModelInfo

_BUCKETS_IN_STEPS = (1, 1.5, 2, 3, 4, 6)
"""Lengths the local stage is run with, in steps: the new audio, and more and more to refresh."""

_log = logging.getLogger(__name__)


def build_engine(config: EngineConfig, *, progress: ProgressCallback | None = None) -> Engine:
    """Find the model the settings name and return an engine for it, not yet warmed up.

    Raises:
        CheckpointError, HubUnavailableError: there is no such model, or it cannot be had.
        RuntimeUnavailableError: the runtime or the device asked for is not there.
        ConfigError: settings contradict each other, or there is no speech to calibrate with.
    """
    return engine_from_checkpoint(find_model(config.model, progress=progress), config)


def engine_from_checkpoint(
    checkpoint: Checkpoint | CompactCheckpoint, config: EngineConfig
) -> Engine:
    """Return an engine for a checkpoint in memory. Raises as :func:`build_engine`."""
    device = choose_device(config.model.device)
    # Sharing the built-in model's short operations among threads costs more than it saves, many
    # times more where the cores have other work too.
    is_compact = isinstance(checkpoint, CompactCheckpoint)
    threads = config.model.threads or (1 if is_compact else usable_cores())
    if device == "cpu":
        torch.set_num_threads(threads)
    if checkpoint.info.notice:
        _log.info("%s", checkpoint.info.notice)
    if isinstance(checkpoint, CompactCheckpoint):
        compact = build_compact(checkpoint.sizes, checkpoint.tensors)
        runtime = open_compact(compact, device, config)
        return _engine(checkpoint.info, runtime, None, checkpoint.sizes, config)
    if choose_runtime(config, device) == "funasr":
        return _reference(checkpoint.info, device, threads, config)
    model = build(checkpoint.sizes, checkpoint.tensors)
    # Read before the runtime takes the weights: on CUDA it changes their precision.
    layer = first_layer(model)
    runtime = open_runtime(checkpoint, model, device, threads, config)
    layer = layer.to(runtime.device)
    return _engine(checkpoint.info, runtime, layer, checkpoint.sizes, config)


def _engine(
    info: ModelInfo,
    runtime: Runtime,
    layer: FirstLayer | None,
    sizes: Emotion2vecSizes | CompactSizes,
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
        runtime,
        layer,
        sizes,
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
        hop_samples=timeline.hop_samples,
        warm_up_frames=[length for length in lengths if length],
        max_batch_size=config.batching.max_batch_size,
    )


def _reference(info: ModelInfo, device: str, threads: int, config: EngineConfig) -> Engine:
    if config.timeline.frame_hop_ms != 20:
        raise ConfigError(
            f"got timeline.frame_hop_ms {config.timeline.frame_hop_ms} with model.runtime funasr,"
            " expected 20: the reference has no second pass"
        )
    from ser_engine.core.runtimes.funasr_engine import FunasrEngine

    return FunasrEngine(info, device, threads)
