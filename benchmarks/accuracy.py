"""``python -m benchmarks.accuracy --model NAME``: how often a model is right, and how fast.

On the validation speakers of ``emotional-speech``, for any model the engine can load:

- ``uar_<corpus>``: unweighted average recall over all the corpus's classes, whole clips, the
  model free to answer any of its classes (calm counts as neutral, bored is left out);
  ``_2s``: of 2 s windows, one a second; ``_mulaw8k``: whole clips through 8 kHz µ-law and back.
- ``telephone_cost_<corpus>``: what the telephone takes away, ``uar`` less ``uar_mulaw8k``; negative
  where the model hears better through it.
- ``uar4_<corpus>_left_out``: four classes (angry, happy, neutral, sad; the strongest of the four)
  on a corpus the model was not trained on. For the built-in model the figures are those of
  networks trained without that corpus (``training/left_out.json``); for a model that never saw
  these corpora they are its own.
- ``eder``, ``label_delay_s``: streams that change from angry to neutral at a known time.
- ``ece``: expected calibration error of whole clips. ``window_4s_ms_1core``: median
  processor time of a 4 s window on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.accuracy_metrics import (
    confusion_matrix,
    expected_calibration_error,
    recalls,
    unweighted_average_recall,
)
from benchmarks.report import Report, argument_parser
from benchmarks.transitions import draw_transitions, play
from ser_engine.config import BatchingConfig, EngineConfig, ModelConfig
from ser_engine.core.engine import Engine
from ser_engine.core.factory import build_engine
from ser_engine.models.compact.shipped import COMPACT_NAME
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray, Window, WindowResult
from training.augment import telephone
from training.clips import CORPORA, Clip, data_dir, read_clip, read_clips
from training.left_out import FOUR, LEFT_OUT_FILE

__all__ = ["main", "parser", "score"]

_SECOND = 16_000
_QUICK_CLIPS = 24
_TRANSITIONS, _QUICK_TRANSITIONS = 60, 4

Logits = npt.NDArray[np.float64]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argument_parser(__doc__ or "")
    made.add_argument("--model", default=COMPACT_NAME, help="as model.name of config.yaml")
    made.add_argument("--runtime", default="auto", help="as model.runtime of config.yaml")
    made.add_argument("--models-dir", default=ModelConfig().models_dir, help="as model.models_dir")
    made.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    given = parser().parse_args(argv)
    torch.set_num_threads(1)
    config = EngineConfig(
        model=ModelConfig(
            name=given.model,
            models_dir=given.models_dir,
            runtime=given.runtime,
            offline=True,
            threads=1,
        ),
        batching=BatchingConfig(max_batch_size=1),
    )
    engine = build_engine(config)
    engine.warm_up()
    summary: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    clips = read_clips(given.data, "val")
    chosen = {corpus: _of_corpus(clips, corpus, given.quick) for corpus in CORPORA}
    all_logits, all_truth = [], []
    for corpus, of_corpus in chosen.items():
        print(f"{corpus}: {len(of_corpus)} clips", flush=True)
        audio = [read_clip(clip) for clip in of_corpus]
        truth = [clip.emotion for clip in of_corpus]
        logits = score(engine, audio)
        all_logits.append(logits)
        all_truth += truth
        for suffix, found, is_ in (
            ("", logits, truth),
            ("_2s", *_windows_of_2_s(engine, audio, truth)),
            ("_mulaw8k", score(engine, [telephone(samples) for samples in audio]), truth),
        ):
            row = _row(f"uar_{corpus}{suffix}", found, is_, engine.info.labels.names)
            summary[row["name"]] = row["uar"]
            rows.append(row)
        heard, phoned = summary[f"uar_{corpus}"], summary[f"uar_{corpus}_mulaw8k"]
        summary[f"telephone_cost_{corpus}"] = heard - phoned
        if engine.info.name != COMPACT_NAME:
            summary[f"uar4_{corpus}_left_out"] = four_class_recall(
                logits, truth, engine.info.labels.names
            )
    if engine.info.name == COMPACT_NAME:
        left_out = json.loads(LEFT_OUT_FILE.read_text(encoding="utf-8"))
        rows.append({"name": "left_out", "of": "networks trained for this", **left_out})
        summary |= {f"uar4_{corpus}_left_out": left_out["uar4"][corpus] for corpus in CORPORA}
    names = engine.info.labels.names
    summary["ece"] = expected_calibration_error(
        softmax(np.concatenate(all_logits)), np.array([names.index(name) for name in all_truth])
    )
    count = _QUICK_TRANSITIONS if given.quick else _TRANSITIONS
    rows += _transitions(engine, clips, count, config, summary)
    summary["window_4s_ms_1core"] = _window_ms(engine, 20 if given.quick else 200)
    settings = {"model": given.model, "runtime": engine.runtime_name, "quick": given.quick}
    settings |= {"sha256": engine.info.sha256, "licence": engine.info.licence}
    report = Report(settings, dict(sorted(summary.items())), rows)
    report.finish(given.json)


def score(engine: Engine, audio: Sequence[FloatArray]) -> Logits:
    """Return the pooled logits (clips, classes) of whole clips, each a window of its own."""
    pooled = []
    for samples in audio:
        (result,) = engine.step([Window(samples)])
        if not isinstance(result, WindowResult):
            raise result
        pooled.append(result.logits.astype(np.float64).mean(axis=0))
    return np.stack(pooled)


def four_class_recall(logits: Logits, truth: Sequence[str], names: Sequence[str]) -> float:
    """Return the unweighted recall of the strongest of the four classes."""
    four = logits[:, [names.index(name) for name in FOUR]]
    pairs = [
        (is_, FOUR[best])
        for is_, best in zip(truth, four.argmax(axis=1), strict=True)
        if is_ in FOUR
    ]
    return unweighted_average_recall([is_ for is_, _ in pairs], [best for _, best in pairs])


def _of_corpus(clips: Sequence[Clip], corpus: str, quick: bool) -> list[Clip]:
    found = [clip for clip in clips if clip.corpus == corpus]
    return found[:: max(1, len(found) // _QUICK_CLIPS)] if quick else found


def _windows_of_2_s(
    engine: Engine, audio: Sequence[FloatArray], truth: Sequence[str]
) -> tuple[Logits, list[str]]:
    """Score windows of 2 s, one a second; a shorter clip is one window."""
    windows, of_window = [], []
    for samples, emotion in zip(audio, truth, strict=True):
        last = max(0, len(samples) - 2 * _SECOND)
        for start in range(0, last + 1, _SECOND):
            windows.append(samples[start : start + 2 * _SECOND])
            of_window.append(emotion)
    return score(engine, windows), of_window


def _row(name: str, logits: Logits, truth: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    answers = [names[best] for best in logits.argmax(axis=1)]
    own = sorted(set(truth))
    of_own = logits[:, [names.index(emotion) for emotion in own]].argmax(axis=1)
    return {
        "name": name,
        "items": len(truth),
        "uar": unweighted_average_recall(truth, answers),
        "uar_among_the_corpus_classes": unweighted_average_recall(
            truth, [own[best] for best in of_own]
        ),
        "recalls": recalls(truth, answers),
        "classes": list(names),
        "confusion": confusion_matrix(truth, answers, names).tolist(),
    }


def _transitions(
    engine: Engine,
    clips: Sequence[Clip],
    count: int,
    config: EngineConfig,
    summary: dict[str, float],
) -> list[dict[str, Any]]:
    results, rows = [], []
    for corpus in CORPORA:
        of_corpus = [clip for clip in clips if clip.corpus == corpus]
        played = [
            play(engine, transition, config)
            for transition in draw_transitions(of_corpus, "angry", "neutral", count // 3 or 1, 1)
        ]
        rows.append(
            {
                "name": f"transitions_{corpus}",
                "streams": len(played),
                "eder": sum(r.wrong for r in played) / max(1, sum(r.total for r in played)),
                "changes_found": sum(r.delay_s is not None for r in played),
            }
        )
        results += played
    summary["eder"] = sum(r.wrong for r in results) / sum(r.total for r in results)
    delays = [result.delay_s for result in results if result.delay_s is not None]
    summary["label_delay_s"] = statistics.median(delays) if delays else float("nan")
    summary["label_changes_found"] = len(delays) / len(results)
    return rows


def _window_ms(engine: Engine, count: int) -> float:
    """Return the median processor time: with one thread, the time on a core of one's own."""
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal(4 * _SECOND) * 0.05).astype(np.float32)
    one: Callable[[], object] = lambda: engine.step([Window(samples)])  # noqa: E731
    for _ in range(5):
        one()
    times = []
    for _ in range(count):
        begun = time.process_time()
        one()
        times.append(time.process_time() - begun)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
