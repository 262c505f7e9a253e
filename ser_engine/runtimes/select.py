"""Which runtime executes a model on this machine, and how it is opened."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from ser_engine.config import EngineConfig, RuntimeName
from ser_engine.cpu import has_int8_instructions
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.models.checkpoint import Checkpoint
from ser_engine.models.compact.network import Compact
from ser_engine.models.emotion2vec import Emotion2vec
from ser_engine.runtimes.base import Runtime
from ser_engine.runtimes.graph_cache import GraphCache
from ser_engine.runtimes.torch_runtime import TorchRuntime

__all__ = ["choose_device", "choose_runtime", "open_compact", "open_runtime"]


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


def open_compact(model: Compact, device: str, config: EngineConfig) -> Runtime:
    """Return the runtime of the compact model: PyTorch, in fp32 on any device.

    Raises:
        RuntimeUnavailableError: the settings name one that does not execute it.
    """
    name = config.model.runtime
    if name not in ("auto", "torch", "torch-compile"):
        raise RuntimeUnavailableError(
            f"got model.runtime {name} for the built-in compact model, expected auto, torch or"
            " torch-compile: the other runtimes execute emotion2vec networks only"
        )
    return TorchRuntime(model, device, compiled=name == "torch-compile")


def open_runtime(
    checkpoint: Checkpoint, model: Emotion2vec, device: str, threads: int, config: EngineConfig
) -> Runtime:
    """Return the runtime of an emotion2vec network; ``funasr`` is none, it has its own engine.

    Raises:
        RuntimeUnavailableError: a package is missing, or the device does not go with it.
        ConfigError: ``openvino-int8`` has no speech to be calibrated with.
    """
    name = choose_runtime(config, device)
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
    if name in ("onnx", "onnx-int8"):
        return _onnx_runtime(name, model, graphs, embed_dim, threads)
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


def _onnx_runtime(
    name: RuntimeName, model: Emotion2vec, graphs: GraphCache, embed_dim: int, threads: int
) -> Runtime:
    from ser_engine.models.onnx_export import export_int8_stages, export_stages
    from ser_engine.runtimes.onnx_runtime import OnnxRuntime

    if name == "onnx":
        folder = graphs.folder("onnx-fp32", lambda target: export_stages(model, target))
        return OnnxRuntime(folder, embed_dim, threads, "fp32")
    seven_bits = not has_int8_instructions()
    folder = graphs.folder(
        f"onnx-int{7 if seven_bits else 8}",
        lambda target: export_int8_stages(model, target, seven_bits=seven_bits),
    )
    return OnnxRuntime(folder, embed_dim, threads, "int8")


def choose_device(name: str) -> str:
    """Return the device ``model.device`` stands for.

    Raises:
        RuntimeUnavailableError: it is not there.
    """
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
