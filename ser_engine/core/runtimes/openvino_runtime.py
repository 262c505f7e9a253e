"""OpenVINO on a CPU, fp32 or int8.

OpenVINO plans memory and fuses the element-wise work around each matrix product, which is where
eager PyTorch loses its time on a CPU. Converted models are kept on disk, so that a later start
only compiles them.

The local stage is compiled for each length it is asked for: known shapes make its convolutions a
quarter faster, and its weights are small. The context stage is compiled once for any length: its
weights are the bulk of the model and each compilation packs them anew.

int8 is post-training quantisation by NNCF: weights per channel, activations by the ranges they
take on real speech. Only the context stage is quantised. It is where the time goes once local
features are kept, and emotion2vec's extractor, whose inputs span tens of decibels, loses most.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.jit._trace import TracerWarning

from ser_engine.errors import AudioError, ConfigError, RuntimeUnavailableError, how_to_install
from ser_engine.files.audio import read_audio
from ser_engine.models.model import FrameOutputs, Network
from ser_engine.models.normalisation import normalisation_of
from ser_engine.types import FloatArray

_EXAMPLE_SAMPLES = 8080
_EXAMPLE_FRAMES = 25


class OpenvinoRuntime:
    """The network in OpenVINO.

    Args:
        folder: holds ``local.xml`` and ``context.xml``, see :func:`save`.
        feature_dim: numbers a frame is described by between the stages.
        threads: CPU threads.
        precision: ``fp32`` or ``int8``, for the name only: the files decide.
    """

    def __init__(self, folder: Path, feature_dim: int, threads: int, precision: str) -> None:
        openvino = import_openvino()
        self.name = f"openvino {precision} cpu"
        self.device = torch.device("cpu")
        self._feature_dim = feature_dim
        self._core = openvino.Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # bf16 where the CPU has it would leave the bounds the engine promises.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._local_model = self._core.read_model(folder / "local.xml")
        self._local_requests: dict[int, Any] = {}
        context = self._core.compile_model(folder / "context.xml", "CPU", self._settings)
        self._context_request = context.create_infer_request()

    def local(self, samples: Tensor) -> Tensor:
        """See :meth:`Runtime.local`."""
        request = self._local_request(samples.shape[1])
        rows = [self._run(request, row[None])[0] for row in samples]
        return torch.cat(rows)

    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        """See :meth:`Runtime.context`. A batch brings a CPU nothing, so rows run one by one."""
        results = []
        for row in rows:
            embeddings, logits = self._run(self._context_request, row[None])
            results.append(FrameOutputs(embeddings[0], logits[0]))
        return results

    def warm_up(self, num_frames: Sequence[int], max_batch_size: int) -> None:
        """See :meth:`Runtime.warm_up`."""
        for frames in sorted(set(num_frames)):
            self.context([torch.zeros(frames, self._feature_dim)])

    def _local_request(self, num_samples: int) -> Any:
        if num_samples not in self._local_requests:
            self._local_model.reshape([1, num_samples])
            compiled = self._core.compile_model(self._local_model, "CPU", self._settings)
            self._local_requests[num_samples] = compiled.create_infer_request()
        return self._local_requests[num_samples]

    @staticmethod
    def _run(request: Any, batch: Tensor) -> list[Tensor]:
        outputs = request.infer([batch.contiguous().numpy()], share_inputs=True)
        return [torch.from_numpy(np.array(outputs[i])) for i in range(len(outputs))]


def convert(network: Network) -> tuple[Any, Any]:
    """Return the local and the context stage as OpenVINO models of dynamic shape.

    Raises:
        RuntimeUnavailableError: OpenVINO is not installed, or the network cannot be converted.
    """
    openvino = import_openvino()
    graphs = network.graphs()
    if graphs is None:
        raise RuntimeUnavailableError(
            f"{type(network).__name__} cannot be converted, only the torch runtimes execute it"
        )
    dim = network.feature_dim
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO reads PyTorch by torch.jit, which warns of its age.
        warnings.simplefilter("ignore", DeprecationWarning)
        # What the trace takes for constant, sizes of the network, is constant.
        warnings.filterwarnings("ignore", category=TracerWarning)
        local = openvino.convert_model(graphs.local, example_input=torch.zeros(1, _EXAMPLE_SAMPLES))
        context = openvino.convert_model(
            graphs.context, example_input=torch.zeros(1, _EXAMPLE_FRAMES, dim)
        )
    local.reshape([1, -1])
    context.reshape([1, -1, dim])
    return local, context


def save(local: Any, context: Any, folder: Path) -> None:
    """Write both stages into ``folder`` in full precision."""
    openvino = import_openvino()
    for name, model in (("local", local), ("context", context)):
        openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)


def import_openvino() -> Any:
    """Return the ``openvino`` package.

    Raises:
        RuntimeUnavailableError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"the openvino runtime needs the package openvino; {how_to_install('openvino')}"
        ) from error
    return openvino


MAX_DEVIATION = 0.01
"""Largest change of a window's posterior by int8 that ``runtime: auto`` accepts."""

_DEVIATION_FILE = "deviation.txt"

# Windows of speech the ranges are taken from; twice as many moved no posterior by 1e-3.
_WINDOWS = 48
# More of them, which only tell how far int8 is from fp32.
_HELD_OUT = 12

# Windows below this level (-80 dBFS) hold no speech worth calibrating on.
_QUIETEST_RMS = 1e-4

_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})

_log = logging.getLogger(__name__)


def save_calibrated(network: Network, speech_dir: Path, window_samples: int, folder: Path) -> None:
    """Write the local stage in fp32 and the context stage in int8 into ``folder``.

    What int8 does to posteriors is measured at once, and kept beside them: :func:`deviation_of`.

    Args:
        network: in float32.
        speech_dir: folder with recordings of speech, searched to any depth.
        window_samples: length of the windows the network will be used with.
        folder: where to write.

    Raises:
        RuntimeUnavailableError: NNCF is not installed.
        ConfigError: the folder has no speech that can be read.
    """
    try:
        import nncf
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"calibrating openvino-int8 needs the package nncf; {how_to_install('openvino')}"
        ) from error
    features = [
        _features(network, window)
        for window in islice(_windows(speech_dir, window_samples), _WINDOWS + _HELD_OUT)
    ]
    if not features:
        raise ConfigError(
            f"got model.calibration_dir {speech_dir}, in which no recording of at least"
            f" {window_samples / 16000:g} s could be read; expected a folder of speech"
        )
    # Of little speech a fifth; of a single window that one.
    num_held_out = len(features) * _HELD_OUT // (_WINDOWS + _HELD_OUT)
    held_out = features[len(features) - num_held_out :] or features
    features = features[: len(features) - num_held_out]
    _log.info("calibrating int8 on %d windows of speech", len(features))
    local, context = convert(network)
    # Quantisation follows the shape it sees; length and batch become free again afterwards.
    quantised = nncf.quantize(
        context,
        nncf.Dataset(features),
        subset_size=len(features),
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=nncf.IgnoredScope(names=products_with_precise(network, context)),
    )
    save(local, quantised, folder)
    deviation = _deviation(context, quantised, held_out)
    (folder / _DEVIATION_FILE).write_text(f"{deviation:.6f}\n")


def deviation_of(folder: Path) -> float:
    """Return by how much int8 moved a posterior at most, of windows it was not calibrated on."""
    return float((folder / _DEVIATION_FILE).read_text())


def _deviation(exact: Any, quantised: Any, features: Sequence[FloatArray]) -> float:
    core = import_openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = [core.compile_model(model, "CPU", settings) for model in (exact, quantised)]

    def posteriors(model: Any, window: FloatArray) -> Tensor:
        logits = torch.from_numpy(np.array(model([window])[1]))
        return torch.softmax(logits[0].mean(dim=0), dim=-1)

    return max(
        float((posteriors(compiled[0], each) - posteriors(compiled[1], each)).abs().max())
        for each in features
    )


def products_with_precise(network: Network, graph: Any) -> list[str]:
    """Return the names of the products of a graph whose weights :attr:`Network.precise` names."""
    found = []
    for product in graph.get_ops():
        if product.get_type_name() != "MatMul":
            continue
        for place in range(product.get_input_size()):
            source = product.input_value(place).get_node()
            if source.get_type_name() == "Constant" and network.is_precise(source.get_data()):
                found.append(product.get_friendly_name())
    return found


@torch.inference_mode()
def _features(network: Network, window: FloatArray) -> FloatArray:
    samples = torch.from_numpy(window)
    if network.first_layer() is not None:
        samples = normalisation_of(samples).apply(samples)
    features: FloatArray = network.local(samples[None]).numpy()
    return features


def _windows(speech_dir: Path, window_samples: int) -> Iterator[FloatArray]:
    """Yield windows of speech; recordings are joined end to end, each used once."""
    joined = np.zeros(0, dtype=np.float32)
    paths = sorted(path for path in speech_dir.rglob("*") if path.suffix.lower() in _SUFFIXES)
    # A fixed shuffle: recordings of one speaker or one emotion often lie side by side.
    order = np.random.default_rng(0).permutation(len(paths))
    for index in order:
        try:
            channel = read_audio(paths[index])[0]
        except AudioError as error:
            _log.warning("not used for calibration: %s", error)
            continue
        joined = np.concatenate([joined, channel])
        while len(joined) >= window_samples:
            window, joined = joined[:window_samples], joined[window_samples:]
            if np.sqrt(np.mean(window**2)) > _QUIETEST_RMS:
                yield np.ascontiguousarray(window)
