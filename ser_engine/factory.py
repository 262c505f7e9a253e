"""From settings to an engine: find the model, choose a runtime, put them together."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import torch

from ser_engine.config import EngineConfig, RuntimeName
from ser_engine.cpu import has_int8_instructions, usable_cores
from ser_engine.engine import Engine, EngineCore
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.features import FeatureExtractor
from ser_engine.frames import num_frames
from ser_engine.models.checkpoint import Checkpoint
from ser_engine.models.compact.shipped import build_compact
from ser_engine.models.compact.sizes import CompactSizes
from ser_engine.models.emotion2vec import Emotion2vec, build
from ser_engine.models.find import find_model
from ser_engine.models.hub import ProgressCallback
from ser_engine.normalisation import FirstLayer, first_layer
from ser_engine.runtimes.base import Runtime
from ser_engine.runtimes.graph_cache import GraphCache
from ser_engine.runtimes.torch_runtime import TorchRuntime

__all__ = ["build_engine", "choose_runtime", "engine_from_checkpoint"]

_REFRESH_FRAMES = 5
"""Smallest number of frames the local stage is run with: pauses are refreshed in such pieces."""

_log = logging.getLogger(__name__)


def build_engine(config: EngineConfig, *, progress: ProgressCallback | None = None) -> Engine:
    """Find the model the settings name and return an engine for it, not yet warmed up.

    Raises:
        CheckpointError, HubUnavailableError: there is no such model, or it cannot be had.
        RuntimeUnavailableError: the runtime or the device asked for is not there.
        ConfigError: ``openvino-int8`` has no speech to be calibrated with.
    """
    return engine_from_checkpoint(find_model(config.model, progress=progress), config)


def engine_from_checkpoint(checkpoint: Checkpoint, config: EngineConfig) -> Engine:
    """Return an engine for a checkpoint in memory. Raises as :func:`build_engine`."""
    device = _device(config.model.device)
    threads = config.model.threads or usable_cores()
    if checkpoint.info.notice:
        _log.info("%s", checkpoint.info.notice)
    sizes = checkpoint.sizes
    is_compact = isinstance(sizes, CompactSizes)
    runtime_name = _compact_runtime_name(config) if is_compact else choose_runtime(config, device)
    if runtime_name == "funasr":
        from ser_engine.runtimes.funasr_engine import FunasrEngine

        return FunasrEngine(checkpoint.info, device, threads)
    if device == "cpu":
        torch.set_num_threads(threads)
    layer: FirstLayer | None = None
    runtime: Runtime
    if isinstance(sizes, CompactSizes):
        compact = build_compact(sizes, checkpoint.tensors)
        runtime = TorchRuntime(compact, device, compiled=runtime_name == "torch-compile")
    else:
        model = build(sizes, checkpoint.tensors)
        runtime = _runtime(runtime_name, checkpoint, model, device, threads, config)
        layer = first_layer(model).to(runtime.device)
    timeline = config.timeline
    steps = range(timeline.step_samples, timeline.window_samples, timeline.step_samples)
    window_lengths = [
        *(num_frames(length) for length in steps),
        num_frames(timeline.window_samples),
    ]
    extractor = FeatureExtractor(
        runtime,
        layer,
        sizes,
        tolerance=config.model.feature_tolerance if config.model.features == "cached" else None,
        buckets=[_REFRESH_FRAMES, timeline.step_samples // 320, *window_lengths],
        max_bytes=config.model.feature_cache_mb << 20,
    )
    return EngineCore(
        checkpoint.info,
        runtime,
        extractor,
        hop_samples=timeline.hop_samples,
        warm_up_frames=[length for length in window_lengths if length],
        max_batch_size=config.batching.max_batch_size,
    )


def choose_runtime(config: EngineConfig, device: str) -> RuntimeName:
    """Return the runtime the settings name, or for ``auto`` the fastest there is.

    On CUDA that is PyTorch; on a CPU OpenVINO where it is installed. int8 is taken where there is
    speech to calibrate it with and the processor has instructions for it.
    """
    name = config.model.runtime
    if name != "auto":
        return name
    if device != "cpu" or importlib.util.find_spec("openvino") is None:
        return "torch"
    calibrated = config.model.calibration_dir and importlib.util.find_spec("nncf") is not None
    return "openvino-int8" if calibrated and has_int8_instructions() else "openvino"


def _compact_runtime_name(config: EngineConfig) -> RuntimeName:
    """Return the runtime of the compact model: PyTorch, in fp32 on any device."""
    name = config.model.runtime
    if name in ("auto", "torch"):
        return "torch"
    if name == "torch-compile":
        return name
    raise RuntimeUnavailableError(
        f"got model.runtime {name} for the built-in compact model, expected auto, torch or"
        " torch-compile: the other runtimes execute emotion2vec networks only"
    )


def _runtime(
    name: RuntimeName,
    checkpoint: Checkpoint,
    model: Emotion2vec,
    device: str,
    threads: int,
    config: EngineConfig,
) -> Runtime:
    if name in ("torch", "torch-compile"):
        precision = _precision(config.model.precision, device)
        return TorchRuntime(model, device, precision, compiled=name == "torch-compile")
    if device != "cpu":
        raise RuntimeUnavailableError(
            f"got model.runtime {name} with model.device {device}, expected device cpu: only the"
            " torch runtimes use a GPU"
        )
    graphs = GraphCache(Path(config.model.models_dir).expanduser(), checkpoint)
    embed_dim = checkpoint.sizes.embed_dim
    if name == "onnx":
        from ser_engine.models.onnx_export import export_stages
        from ser_engine.runtimes.onnx_runtime import OnnxRuntime

        folder = graphs.folder("onnx", lambda target: export_stages(model, target))
        return OnnxRuntime(folder, embed_dim, threads)
    from ser_engine.runtimes import openvino_runtime

    if name == "openvino-int8":
        from ser_engine.runtimes.openvino_int8 import calibrate

        speech_dir = Path(config.model.calibration_dir).expanduser()
        window_samples = config.timeline.window_samples
        folder = graphs.folder(
            f"openvino-int8-{window_samples}",
            lambda target: openvino_runtime.save(
                *calibrate(model, speech_dir, window_samples), target
            ),
        )
        return openvino_runtime.OpenvinoRuntime(folder, embed_dim, threads, "int8")
    folder = graphs.folder(
        "openvino-fp32",
        lambda target: openvino_runtime.save(*openvino_runtime.convert(model), target),
    )
    return openvino_runtime.OpenvinoRuntime(folder, embed_dim, threads, "fp32")


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name != "cpu" and not name.startswith("cuda"):
        raise RuntimeUnavailableError(
            f"got model.device {name!r}, expected auto, cpu, cuda or cuda:N"
        )
    if name.startswith("cuda") and not available:
        raise RuntimeUnavailableError(
            f"got model.device {name}, but PyTorch finds no CUDA device; set model.device to cpu,"
            " or install a driver and the CUDA build of torch"
        )
    return name


def _precision(name: str, device: str) -> str:
    if device == "cpu":
        return "fp32"
    if name == "auto":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return name
