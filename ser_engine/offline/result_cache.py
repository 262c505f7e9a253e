"""Results that were had before: of the same content, model and settings.

What is kept is the analysis and nothing of where it came from: not the audio, not the file's name.
What somebody felt is sensitive all the same, so the folder is its owner's, and entries expire.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ser_engine.config import OfflineConfig
from ser_engine.events import FrameDetail, Gap, Point, Segment
from ser_engine.labels import Label, LabelSet
from ser_engine.offline.analysis import ChannelAnalysis, FileAnalysis, SpeakerResult
from ser_engine.offline.bounded_folder import BoundedFolder
from ser_engine.offline.listener import QualityWarning
from ser_engine.offline.options import AnalysisOptions
from ser_engine.offline.plain_data import DamagedDataError, pack, unpack
from ser_engine.offline.results import FrameResult, StreamResult, UtteranceResult
from ser_engine.offline.segment_scores import UtteranceSegment
from ser_engine.speakers.diariser import Turn
from ser_engine.types import ModelInfo

__all__ = ["ResultCache", "pack_analysis", "unpack_analysis"]

_CLASSES: dict[str, type[Any]] = {
    each.__name__: each
    for each in (
        *(FileAnalysis, ChannelAnalysis, SpeakerResult, Turn, UtteranceSegment, QualityWarning),
        *(UtteranceResult, FrameResult, StreamResult, Point, Segment, Gap, FrameDetail),
        *(AnalysisOptions, ModelInfo, LabelSet, Label),
    )
}
_DAY_S = 86_400.0


def pack_analysis(analysis: FileAnalysis) -> bytes:
    """Return an analysis as bytes."""
    return pack(analysis)


def unpack_analysis(data: bytes) -> FileAnalysis:
    """Return the analysis that :func:`pack_analysis` made the bytes of, exactly.

    Raises:
        DamagedDataError: they are cut off, altered, or of another version of this program.
    """
    analysis = unpack(data, _CLASSES)
    if not isinstance(analysis, FileAnalysis):
        raise DamagedDataError(f"got a {type(analysis).__name__}, expected an analysis")
    return analysis


class ResultCache:
    """Keeps analyses by their key (:mod:`ser_engine.offline.cache_key`).

    Several processes and threads may share a folder. Calls read and write files: a shell with an
    event loop makes them in a thread.

    Args:
        config: folder, size and age.
        clock: seconds since 1970.
    """

    def __init__(self, config: OfflineConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._folder: BoundedFolder | None = None
        if config.cache_mb:
            self._folder = BoundedFolder(
                Path(config.cache_dir).expanduser(),
                config.cache_mb << 20,
                config.cache_days * _DAY_S,
                clock=clock,
            )

    def get(self, key: str, name: str) -> FileAnalysis | None:
        """Return the analysis with that key, or None.

        Args:
            key: of content, model and settings.
            name: of the file that is asked about; content knows no name.
        """
        if self._folder is None or (data := self._folder.get(key)) is None:
            return None
        try:
            return replace(unpack_analysis(data), name=name)
        except DamagedDataError:
            self._folder.remove(key)
            return None

    def put(self, key: str, analysis: FileAnalysis) -> bool:
        """Keep an analysis; return whether it is kept: it may be too large, or the disk full."""
        if self._folder is None or analysis.num_bytes > self._folder.max_bytes:
            return False
        return self._folder.put(key, pack_analysis(replace(analysis, name="")))

    def clear(self) -> None:
        """Forget every analysis."""
        if self._folder is not None:
            self._folder.clear()
