"""Which runtime executes a model on this machine, and how it is opened.

What this machine's processor offers.

Where converted and calibrated graphs are kept, so that a model is prepared once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

from ser_engine.config import EngineConfig, RuntimeName
from ser_engine.core.runtimes.base import Runtime
from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.models.compact.network import Compact
from ser_engine.models.emotion2vec.checkpoint import Checkpoint
from ser_engine.models.emotion2vec.network import Emotion2vec

_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Return the physical cores this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(torch.get_num_threads(), allowed or 1))


def has_int8_instructions(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the processor multiplies int8 in one instruction (VNNI, AMX, Arm's dot).

    Without it int8 inference is no faster than fp32. False where the system does not tell.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags: set[str] = set()
    for line in text.splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags.update(values.split())
    return bool(flags & _INT8_FLAGS)


_FORMAT = 1
"""Raised when the graphs' inputs, outputs or arithmetic change, so that old files are left."""

_log = logging.getLogger(__name__)


class GraphCache:
    """Folders of graphs under ``<models_dir>/graphs``, one a model and kind.

    Args:
        models_dir: the folder of all models.
        checkpoint: the model the graphs are made from; its hash and labels are part of the key.
    """

    def __init__(self, models_dir: Path, checkpoint: Checkpoint) -> None:
        info = checkpoint.info
        key = hashlib.sha256(f"{_FORMAT} {info.sha256} {info.labels}".encode()).hexdigest()[:16]
        self._root = models_dir / "graphs" / f"{Path(info.name).name}-{key}"

    def folder(self, kind: str, write: Callable[[Path], None]) -> Path:
        """Return the folder of a kind of graph, made by ``write`` where it is not there yet.

        ``write`` fills a folder beside the final place, which is renamed when it is complete: a
        start that is cut short leaves nothing that could be taken for a graph. Where the place
        cannot be written the graphs go to a temporary folder and are made again next time.
        """
        target = self._root / kind
        if target.is_dir():
            return target
        partial = self._root / f".{uuid.uuid4().hex}.partial"
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            _log.warning("prepared graphs cannot be kept in %s: %s", self._root, error)
            partial = Path(tempfile.mkdtemp(prefix="emotion-monitor-"))
            write(partial)
            return partial
        try:
            write(partial)
            os.replace(partial, target)
        except OSError:
            # Another start was faster; its folder is complete.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target


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
    from ser_engine.core.runtimes import openvino_runtime

    if name == "openvino-int8":
        from ser_engine.core.runtimes.openvino_runtime import calibrate

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
    from ser_engine.core.runtimes.onnx_runtime import OnnxRuntime
    from ser_engine.models.emotion2vec.export import export_int8_stages, export_stages

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
