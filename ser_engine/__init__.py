"""Turns windows of audio into emotion posteriors. Knows nothing of the other packages.

::

    import ser_engine

    (result,) = ser_engine.analyze("recording.wav")
    print(result.emotion, result.confidence)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ser_engine.offline import Granularity, Result

__all__ = ["analyze"]


def analyze(
    path: Path | str, granularity: Granularity = "utterance", *, model: str = "auto"
) -> list[Result]:
    """Analyse a recording; return one result for each of its channels.

    The model is loaded anew by every call. For many recordings build an engine once, with
    :func:`ser_engine.factory.build_engine`, and call :func:`ser_engine.offline.analyze_file`.

    Args:
        path: a file that :mod:`ser_engine.audio_files` reads.
        granularity: ``utterance``, ``frame`` or ``stream``.
        model: a model's folder or name; ``auto``: the best one on disk.

    Raises:
        AudioError: the file cannot be read, or is shorter than 25 ms.
        CheckpointError, HubUnavailableError: there is no such model.
    """
    from ser_engine.config import EngineConfig, ModelConfig
    from ser_engine.factory import build_engine
    from ser_engine.offline import analyze_file

    config = EngineConfig(model=ModelConfig(name=model))
    return analyze_file(build_engine(config), path, granularity, config)
