"""Which runtime executes a network on this machine, and how it is opened.

Graphs converted and calibrated for OpenVINO and ONNX Runtime are kept on disk, so that a model is
prepared once.
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
from ser_engine.core.runtimes import Runtime
from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.models.model import Network
from ser_engine.types import ModelInfo

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


_TORCH = ("torch", "torch-compile")

# Raised when the graphs' inputs, outputs or arithmetic change, so that old files are left.
_FORMAT = 1

_log = logging.getLogger(__name__)


class GraphCache:
    """Folders of graphs under ``<models_dir>/graphs``, one a model and kind.

    Args:
        models_dir: the folder of all models.
        info: the model the graphs are made from; its hash and labels are part of the key.
    """

    def __init__(self, models_dir: Path, info: ModelInfo) -> None:
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


def choose_runtime(config: EngineConfig, device: str, network: Network) -> RuntimeName:
    """Return the runtime the settings name, or for ``auto`` the one to take.

    On CUDA that is PyTorch; on a CPU OpenVINO where it is installed. int8 is tried where there is
    speech to calibrate it with and the processor has instructions for it.
    """
    name = config.model.runtime
    converts = network.graphs() is not None
    executes = name in _TORCH or (name != "funasr" and converts)
    # With model.name auto another model may stand in for the one the runtime was meant for.
    if name != "auto" and (executes or config.model.name != "auto"):
        return name
    if device != "cpu" or importlib.util.find_spec("openvino") is None:
        return "torch"
    if network.is_small or not converts:
        return "torch"
    calibrated = config.model.calibration_dir and importlib.util.find_spec("nncf") is not None
    return "openvino-int8" if calibrated and has_int8_instructions() else "openvino"


def open_runtime(
    network: Network, info: ModelInfo, device: str, threads: int, config: EngineConfig
) -> Runtime:
    """Return the runtime of a network.

    Raises:
        RuntimeUnavailableError: a package is missing, or device or network do not go with it.
        ConfigError: ``openvino-int8`` has no speech to be calibrated with.
    """
    name = choose_runtime(config, device, network)
    if name in _TORCH:
        precision = _precision(config.model.precision, device)
        return TorchRuntime(network, device, precision, compiled=name == "torch-compile")
    if name == "funasr":
        raise RuntimeUnavailableError(
            f"got model.runtime funasr with {info.name}, expected another: FunASR does not know"
            " this model"
        )
    if device != "cpu":
        raise RuntimeUnavailableError(
            f"got model.runtime {name} with model.device {device}, expected device cpu: only the"
            " torch runtimes use a GPU"
        )
    graphs = GraphCache(Path(config.model.models_dir).expanduser(), info)
    if name in ("onnx", "onnx-int8"):
        return _open_onnx(name, network, graphs, threads)
    return _open_openvino(name, network, graphs, threads, config)


def _open_onnx(name: RuntimeName, network: Network, graphs: GraphCache, threads: int) -> Runtime:
    from ser_engine.core.runtimes import onnx_runtime as onnx

    if name == "onnx":
        folder = graphs.folder("onnx-fp32", lambda target: onnx.export_stages(network, target))
        return onnx.OnnxRuntime(folder, network.feature_dim, threads, "fp32")
    seven_bits = not has_int8_instructions()
    folder = graphs.folder(
        f"onnx-int{7 if seven_bits else 8}",
        lambda target: onnx.export_int8_stages(network, target, seven_bits=seven_bits),
    )
    return onnx.OnnxRuntime(folder, network.feature_dim, threads, "int8")


def _open_openvino(
    name: RuntimeName, network: Network, graphs: GraphCache, threads: int, config: EngineConfig
) -> Runtime:
    from ser_engine.core.runtimes import openvino_runtime as openvino

    if name == "openvino":
        folder = graphs.folder(
            "openvino-fp32", lambda target: openvino.save(*openvino.convert(network), target)
        )
        return openvino.OpenvinoRuntime(folder, network.feature_dim, threads, "fp32")
    speech_dir = Path(config.model.calibration_dir).expanduser()
    window_samples = config.timeline.window_samples
    folder = graphs.folder(
        f"openvino-int8-checked-{window_samples}",
        lambda target: openvino.save_calibrated(network, speech_dir, window_samples, target),
    )
    if (deviation := openvino.deviation_of(folder)) > openvino.MAX_DEVIATION:
        is_ours = config.model.runtime == "auto"
        _log.warning(
            "int8 moves posteriors by up to %.3f on your speech, more than %g: %s",
            deviation,
            openvino.MAX_DEVIATION,
            "executed in fp32" if is_ours else "model.runtime openvino is exact",
        )
        if is_ours:
            return _open_openvino("openvino", network, graphs, threads, config)
    return openvino.OpenvinoRuntime(folder, network.feature_dim, threads, "int8")


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
