"""One model that tells voices apart for the whole process, made when somebody first asks for it.

What diarisation needs of a model that tells voices apart.

FunASR's CAM++ as the model that tells voices apart.

Source: Wang et al. 2023, CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking, arXiv 2303.00332.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import CheckpointError, RuntimeUnavailableError
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


PUBLISHED_NAME = "cam++"
"""The name FunASR fetches the published model by."""

_CONFIG_FILE, _HUB_FILE = "config.yaml", "configuration.json"
_INSTALL = "pip install 'emotion-monitor[speakers]'"


def _missing_files(folder: Path) -> list[str]:
    """Return what FunASR would do without: weights that are not there it leaves random."""
    names = [_CONFIG_FILE, _HUB_FILE]
    try:
        entry = json.loads((folder / _HUB_FILE).read_bytes())
        names.append(str(entry["file_path_metas"]["init_param"]))
    except (OSError, ValueError, KeyError, TypeError):
        names.append("the name of its weights")
    return [name for name in names if not (folder / name).is_file()]


class CamPlusPlus:
    """See :class:`~ser_engine.speakers.campplus.SpeakerEmbedder`.

    Args:
        source: the model's folder, or :data:`PUBLISHED_NAME`, which FunASR fetches.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads.
        offline: ask no hub.

    Raises:
        RuntimeUnavailableError: FunASR is not installed.
        CheckpointError: the folder holds no such model, or no hub has it.
    """

    name = PUBLISHED_NAME

    def __init__(
        self, source: str, *, device: str = "cpu", threads: int = 1, offline: bool = False
    ) -> None:
        folder = Path(source).expanduser()
        is_folder = folder.is_dir()
        if is_folder and (missing := _missing_files(folder)):
            raise CheckpointError(
                f"got the folder {folder} without {' and '.join(missing)}, expected one of FunASR's"
                " cam++: config.yaml, configuration.json and the weights that names"
            )
        if not is_folder and (source != PUBLISHED_NAME or offline):
            raise CheckpointError(
                f"got the speaker model '{source}', expected a folder of FunASR's cam++"
                + (", for no hub is asked" if offline else f", or '{PUBLISHED_NAME}'")
            )
        try:
            import kaldi_native_fbank  # noqa: F401
            from funasr import AutoModel
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"telling speakers apart needs FunASR and its features; install them by {_INSTALL}"
            ) from error
        try:
            self._model: Any = AutoModel(
                model=str(folder) if is_folder else PUBLISHED_NAME,
                device=device,
                ncpu=threads,
                disable_update=True,
                disable_pbar=True,
                disable_log=True,
            )
        except Exception as error:  # FunASR raises whatever its parts raise.
            raise CheckpointError(
                f"got no speaker model from '{source}': {type(error).__name__}: {error}; copy the"
                " folder of cam++ here and name it in the setting ser_engine.speakers.model"
            ) from error

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        """Return a vector of length 1 for each piece."""
        return [self._embed(piece) for piece in pieces]

    def _embed(self, piece: FloatArray) -> FloatArray:
        (answer,) = self._model.generate(piece)
        vector = answer["spk_embedding"].detach().cpu().numpy().reshape(-1).astype(np.float32)
        length = float(np.linalg.norm(vector))
        normal: FloatArray = vector / length if length else vector
        return normal


_lock = threading.Lock()
_kept: dict[tuple[str, bool], SpeakerEmbedder] = {}


class _OneAtATime:
    """An embedder that several threads may use."""

    def __init__(self, embedder: SpeakerEmbedder) -> None:
        self.name = embedder.name
        self._embedder = embedder
        self._lock = threading.Lock()

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        with self._lock:
            return self._embedder.embed(pieces)


def embedder_for(config: EngineConfig) -> SpeakerEmbedder:
    """Return the model that the settings name.

    Raises:
        RuntimeUnavailableError: its package is not installed.
        CheckpointError: there is no such model.
    """
    key = (config.speakers.model, config.model.offline)
    with _lock:
        if key not in _kept:
            from ser_engine.speakers.campplus import CamPlusPlus

            source, is_offline = key
            _kept.clear()
            _kept[key] = _OneAtATime(CamPlusPlus(source, offline=is_offline))
        return _kept[key]
