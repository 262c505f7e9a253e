"""What a comparison says: the figures of every granularity, and what they say of each recording.

The smallest change of emotion that a granularity shows, measured with made-up speech.

::

    calm    [------------------ 8 s ------------------]
    changed [-----------------][ angry ][-------------]     20, 40, 80, … ms

Both are analysed. The change is seen where any posterior at any time differs by more than a tenth.
"""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emotion_monitor.compare import agreement, labels_of, turns
from emotion_monitor.compare.child import Request
from emotion_monitor.compare.page import chart
from ser_engine.config import EngineConfig
from ser_engine.errors import SerEngineError
from ser_engine.files import AnalysisOptions, FileAnalysis, FrameResult, StreamResult
from ser_engine.files.cache import unpack_analysis

VARIANTS = {
    "utterance": AnalysisOptions("utterance"),
    "frame": AnalysisOptions("frame", embeddings=True),
    "frame, 10 ms": AnalysisOptions("frame", embeddings=True, frame_hop_ms=10),
    "stream": AnalysisOptions("stream"),
}

_MIB = 1 << 20


# Those with labels of their own: every second frame of 10 ms is one of 20 ms.
_COMPARED = ("utterance", "frame", "stream")


def measure(
    files: Sequence[Path],
    config: EngineConfig,
    repeats: int,
    *,
    on_variant: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Return the comparison as a document that JSON can hold.

    After a first analysis each file is analysed ``repeats`` more times. ``on_variant`` is called
    with each granularity before it is measured.

    Raises:
        SerEngineError: a file cannot be analysed, or there is no such model.
    """
    figures: dict[str, dict[str, Any]] = {}
    analyses: dict[str, list[FileAnalysis]] = {}
    for name, options in VARIANTS.items():
        on_variant(name)
        figures[name], analyses[name] = _measure_variant(files, config, options, repeats)
    first = analyses["utterance"][0]
    return {
        "model": {
            "name": first.model.name,
            "licence": first.model.licence,
            "notice": first.model.notice,
            "sha256": first.model.sha256,
        },
        "labels": list(first.model.labels.names),
        "repeats": repeats,
        "audio_s": round(sum(each.duration_s for each in analyses["utterance"]), 3),
        "granularities": [
            {"name": name, **_figures(name, figures[name], analyses[name], config)}
            for name in VARIANTS
        ],
        "files": [
            _file({name: analyses[name][number] for name in VARIANTS})
            for number in range(len(files))
        ],
    }


def _measure_variant(
    files: Sequence[Path], config: EngineConfig, options: AnalysisOptions, repeats: int
) -> tuple[dict[str, Any], list[FileAnalysis]]:
    with tempfile.TemporaryDirectory(prefix="emotion-monitor-") as folder:
        names = tuple(str(path) for path in files)
        request = Request(config, options, names, repeats, folder)
        process = subprocess.run(
            [sys.executable, "-m", "emotion_monitor.compare.child"],
            input=pickle.dumps(request),
            stdout=subprocess.PIPE,
            check=False,
        )
        if process.returncode != 0:
            raise SerEngineError(
                f"the process that measured {options.granularity} ended with status"
                f" {process.returncode}; what it says is above"
            )
        document: dict[str, Any] = json.loads(process.stdout)
        if "error" in document:
            raise SerEngineError(document["error"])
        analyses = [
            unpack_analysis(Path(folder, str(number)).read_bytes()) for number in range(len(files))
        ]
    return document, analyses


def _figures(
    name: str, measured: dict[str, Any], analyses: Sequence[FileAnalysis], config: EngineConfig
) -> dict[str, Any]:
    audio_s = sum(each.duration_s for each in analyses)
    steady_ms = sum(each["steady_ms"] for each in measured["files"])
    arrays = [
        channel.embedding
        for each in analyses
        for channel in each.channels
        if channel.embedding is not None
    ]
    return {
        "first_ms": round(measured["files"][0]["first_ms"], 1),
        "steady_ms": round(measured["files"][0]["steady_ms"], 1),
        "real_time_factor": round(steady_ms / 1000 / audio_s, 5),
        "loaded_mib": round(measured["loaded_bytes"] / _MIB, 1),
        "peak_mib": round(measured["peak_bytes"] / _MIB, 1),
        "max_difference": max(each["max_difference"] for each in measured["files"]),
        "label_agreement": min(each["label_agreement"] for each in measured["files"]),
        "results": sum(_num_results(each) for each in analyses),
        "grid_ms": _grid_ms(name, config),
        "smallest_change_ms": measured["smallest_change_ms"],
        "embedding_values": sum(int(array.size) for array in arrays),
        "embedding_bytes": sum(int(array.nbytes) for array in arrays),
        "embedding_shape": list(arrays[0].shape) if arrays else [],
    }


def _num_results(analysis: FileAnalysis) -> int:
    count = 0
    for channel in analysis.channels:
        match channel.result:
            case FrameResult(logits=logits):
                count += len(logits)
            case StreamResult(points=points):
                count += len(points)
            case _:
                count += 1
    return count


def _grid_ms(name: str, config: EngineConfig) -> int | None:
    """Return the time between results; None: there is one for all."""
    options = VARIANTS[name]
    if options.granularity == "utterance":
        return None
    return options.frame_hop_ms if options.granularity == "frame" else config.timeline.step_ms


def _file(analyses: dict[str, FileAnalysis]) -> dict[str, Any]:
    utterance = analyses["utterance"]
    return {
        "name": utterance.name,
        "duration_s": round(utterance.duration_s, 3),
        "sample_rate": utterance.rate_hz,
        "channels": [_channel(analyses, number) for number in range(len(utterance.channels))],
    }


def _channel(analyses: dict[str, FileAnalysis], number: int) -> dict[str, Any]:
    of_name = {name: analyses[name].channels[number] for name in _COMPARED}
    utterance, document = of_name["utterance"], analyses["utterance"].to_json()
    names = utterance.result.labels
    cells = {name: labels_of(each.result) for name, each in of_name.items()}
    return {
        "channel": number,
        "overall": document["channels"][number]["overall"],
        "warnings": [warning.message for warning in utterance.warnings],
        "agreement": [
            {"one": one, "other": other, "share": _rounded(agreement(cells[one], cells[other]))}
            for one, other in itertools.combinations(_COMPARED, 2)
        ],
        # Those of the stream: its label follows a change only if it lasts.
        "turns": [
            {"at_s": turn.at_s, "from": turn.before, "to": turn.after}
            for turn in turns(cells["stream"], names)
        ],
        "num_turns": {name: len(turns(each, names)) for name, each in cells.items()},
        "chart": chart({name: each.result for name, each in of_name.items()}),
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
