"""One granularity measured in a process of its own, so that its peak of memory is its own.

``python -m emotion_monitor.compare.child``: a :class:`Request` comes on standard input, pickled;
analyses go to files in its folder, figures to standard output as JSON.
"""

from __future__ import annotations

import json
import pickle
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_monitor.compare import SEEN_DIFFERENCE, difference, labels_of
from mic_client.audio_file import load_sample_call
from ser_engine.config import EngineConfig
from ser_engine.errors import SerEngineError
from ser_engine.files import (
    AnalysisOptions,
    Engine,
    FileAnalysis,
    Result,
    analyze,
)
from ser_engine.files.cache import pack_analysis
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray

CHANGES_MS = (20, 40, 80, 160, 320, 640, 1280, 2560, 5120)


_DURATION_S = 8
_CUSTOMER = 1
_CALM_S = ((3.2, 5.8), (6.2, 8.6), (35.3, 37.7), (39.6, 41.2))
# Phrases of the sample call's customer, as ``scripts/make_sample_call.py`` arranges them.
_ANGRY_S = ((18.4, 21.4), (21.7, 24.5), (24.8, 27.4))


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be measured.

    Attributes:
        options: the granularity.
        repeats: how often each is analysed after the first time, at least 1.
        folder: where the analyses go: ``0``, ``1`` and so on.
    """

    config: EngineConfig
    options: AnalysisOptions
    files: tuple[str, ...]
    repeats: int
    folder: str


def peak_bytes() -> int:
    """Return the most memory this process ever had at a time (resident set).

    Linux counts it from the start of the program (``VmHWM``); ``ru_maxrss`` would begin with what
    the parent had. Elsewhere it is ``ru_maxrss``.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10


def main() -> None:
    """Measure; an error is ``{"error": …}``."""
    request: Request = pickle.load(sys.stdin.buffer)
    try:
        document = _measure(request)
    except SerEngineError as error:
        document = {"error": str(error)}
    print(json.dumps(document))


def _measure(request: Request) -> dict[str, Any]:
    from ser_engine.core.factory import build_engine

    engine = build_engine(request.config)
    loaded_bytes = peak_bytes()
    files = [
        _measure_file(request, engine, Path(name), Path(request.folder, str(number)))
        for number, name in enumerate(request.files)
    ]
    peak = peak_bytes()
    return {
        "files": files,
        "loaded_bytes": loaded_bytes,
        "peak_bytes": peak,
        "smallest_change_ms": smallest_change_ms(
            lambda samples: _analyse(request, engine, samples).channels[0].result
        ),
    }


def _measure_file(request: Request, engine: Engine, path: Path, kept: Path) -> dict[str, Any]:
    begun_s = time.perf_counter()
    first = _analyse(request, engine, path)
    first_s = time.perf_counter() - begun_s
    kept.write_bytes(pack_analysis(first))
    times_s: list[float] = []
    differences: list[float] = []
    same: list[float] = []
    for _ in range(request.repeats):
        begun_s = time.perf_counter()
        again = _analyse(request, engine, path)
        times_s.append(time.perf_counter() - begun_s)
        for one, other in zip(first.channels, again.channels, strict=True):
            differences.append(difference(one.result, other.result))
            same.append(float((labels_of(one.result) == labels_of(other.result)).mean()))
    return {
        "first_ms": first_s * 1000,
        "steady_ms": statistics.median(times_s) * 1000,
        "max_difference": max(differences),
        "label_agreement": min(same),
    }


def _analyse(request: Request, engine: Engine, source: Path | FloatArray) -> FileAnalysis:
    options = request.options
    return analyze(
        source,
        options.granularity,
        engine=engine,
        config=request.config,
        embeddings=options.embeddings,
        frame_hop_ms=options.frame_hop_ms,
    )


def changed_speech(change_ms: int) -> FloatArray:
    """Return calm speech, ``(samples,)``, with so much angry speech in its middle."""
    calm, angry = _speech(_CALM_S), _speech(_ANGRY_S)
    length = change_ms * SAMPLE_RATE_HZ // 1000
    start = (len(calm) - length) // 2
    calm[start : start + length] = angry[start : start + length]
    return calm


def _speech(phrases_s: tuple[tuple[float, float], ...]) -> FloatArray:
    """Return phrases of the sample call's customer without the pauses between, ``(samples,)``."""
    call, rate_hz = load_sample_call()
    assert rate_hz == SAMPLE_RATE_HZ
    parts = [
        call[round(start * rate_hz) : round(end * rate_hz), _CUSTOMER] for start, end in phrases_s
    ]
    return np.concatenate(parts)[: _DURATION_S * rate_hz]


def smallest_change_ms(analyse: Callable[[FloatArray], Result]) -> int | None:
    """Return the shortest change of :data:`CHANGES_MS` that is seen; None: none of them."""
    calm = analyse(changed_speech(0))
    for change_ms in CHANGES_MS:
        if difference(calm, analyse(changed_speech(change_ms))) > SEEN_DIFFERENCE:
            return change_ms
    return None


if __name__ == "__main__":
    main()
