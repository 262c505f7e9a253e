"""One model that tells voices apart for the whole process, made when somebody first asks for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ser_engine.config import EngineConfig
from ser_engine.speakers.embedder import SpeakerEmbedder
from ser_engine.types import FloatArray

__all__ = ["embedder_for"]

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
