"""Making jobs and running them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ser_engine.config import EngineConfig, VadConfig
from ser_engine.files import AnalysisJob, AnalysisOptions, ArraySource, FileAnalysis, Result
from ser_engine.files.source import AudioSource
from ser_engine.types import FloatArray
from tests.support.fake_engine import FakeEngine, square

RATE = 16_000


HEARS_NOISE = EngineConfig(vad=VadConfig(detector="webrtc"))
"""With a detector that takes noise for speech."""


class Blocks:
    """A source with blocks of its own, any number of channels."""

    def __init__(self, blocks: Sequence[FloatArray], rate_hz: int = RATE) -> None:
        self.channels = len(blocks[0])
        self.rate_hz = rate_hz
        self.header_s = sum(block.shape[1] for block in blocks) / RATE
        self._blocks = blocks

    def blocks(self) -> Iterator[FloatArray]:
        yield from self._blocks


def make_job(
    audio: FloatArray | AudioSource,
    options: AnalysisOptions | None = None,
    config: EngineConfig | None = None,
    name: str = "a.wav",
) -> AnalysisJob:
    source = ArraySource(audio) if isinstance(audio, np.ndarray) else audio
    info = FakeEngine().info
    return AnalysisJob(
        file=source,
        name=name,
        info=info,
        config=config or HEARS_NOISE,
        options=options or AnalysisOptions(),
    )


def work(job: AnalysisJob, engine: FakeEngine | None = None, at_once: int = 4) -> FileAnalysis:
    """Answer everything, the latest windows first."""
    engine = engine or FakeEngine()
    while not job.is_done:
        for pending in reversed(job.take_windows(at_once)):
            job.answer(pending, engine.run(pending.window))
    return job.finish()


def plain(result: Result) -> dict[str, Any]:
    """Return a result as values that can be compared, floats as they are published."""
    return {
        each.name: value.astype(np.float64).round(6).tolist()
        if isinstance(value := getattr(result, each.name), np.ndarray)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for each in dataclasses.fields(result)
    }


def voiced(seconds: float, level: float = 0.1) -> FloatArray:
    """What a LevelDetector takes for speech, and the fake engine for one emotion."""
    return square(round(seconds * RATE), level)


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)
