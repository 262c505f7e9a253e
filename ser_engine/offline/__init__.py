"""Analysis of recordings.

Three granularities: ``utterance`` (one result for the whole), ``frame`` (one every 20 ms, or 10)
and ``stream`` (points, segments and gaps, exactly as a live stream of the recording gives them).
Recordings of any length take bounded memory, the result aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ser_engine.config import EngineConfig
from ser_engine.errors import AudioError, WindowError
from ser_engine.offline.analyzers import Analyzer, Engine, Granularity, make_analyzer
from ser_engine.offline.results import FrameResult, Result, StreamResult, UtteranceResult
from ser_engine.types import FloatArray

__all__ = [
    "Engine",
    "FrameResult",
    "Granularity",
    "Result",
    "StreamResult",
    "UtteranceResult",
    "analyze_channel",
    "analyze_file",
]


def analyze_channel(
    engine: Engine,
    audio: npt.NDArray[np.floating] | Iterable[npt.NDArray[np.floating]],
    granularity: Granularity = "utterance",
    config: EngineConfig | None = None,
    *,
    embeddings: bool = False,
    details: bool = False,
) -> Result:
    """Analyse one channel.

    Args:
        engine: scores the windows.
        audio: floating point samples ``(samples,)``, mono 16 kHz, full scale ±1; or blocks of
            them.
        granularity: what to give results of.
        config: lengths, smoothing, detector; None: the defaults.
        embeddings: keep those of every frame (``frame`` only; ``utterance`` always has its own).
        details: give points their frames (``stream`` only).

    Raises:
        AudioError: the audio is no such array, is shorter than 25 ms, or holds NaN or infinity.
        WindowError: the engine could not score it (``stream`` names such spans in gaps instead).
    """
    analyzer = make_analyzer(
        engine, granularity, config or EngineConfig(), embeddings=embeddings, details=details
    )
    for block in [audio] if isinstance(audio, np.ndarray) else audio:
        analyzer.push(_checked(block))
    return analyzer.finish()


def analyze_file(
    engine: Engine,
    path: Path | str,
    granularity: Granularity = "utterance",
    config: EngineConfig | None = None,
    *,
    embeddings: bool = False,
    details: bool = False,
) -> list[Result]:
    """Analyse a file: one result for each of its channels, which are never mixed.

    The other arguments are those of :func:`analyze_channel`.

    Raises:
        AudioError: the file cannot be read, see :class:`ser_engine.audio_files.AudioFile`, or is
            shorter than 25 ms.
        WindowError: the engine could not score it.
    """
    from ser_engine.audio_files import AudioFile

    settings = config or EngineConfig()
    with AudioFile(path, as_streamed=granularity == "stream") as file:
        analyzers: list[Analyzer] = [
            make_analyzer(engine, granularity, settings, embeddings=embeddings, details=details)
            for _ in range(file.channels)
        ]
        for block in file.blocks():
            for analyzer, samples in zip(analyzers, block, strict=True):
                with _named(path):
                    analyzer.push(samples)
    with _named(path):
        return [analyzer.finish() for analyzer in analyzers]


def _checked(samples: npt.NDArray[np.floating]) -> FloatArray:
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"got {samples.dtype} samples of shape {samples.shape}, expected floating point"
            " (samples,), mono, full scale ±1"
        )
    with np.errstate(over="ignore"):
        converted = samples.astype(np.float32, copy=False)
    if not np.isfinite(converted).all():
        raise AudioError("got NaN or infinite samples, expected finite ones")
    return converted


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    """Put the file's name in front of what is said of its audio."""
    try:
        yield
    except (AudioError, WindowError) as error:
        raise type(error)(f"{path}: {error}") from error
