"""``python -m benchmarks.accuracy --model NAME``: how often a model is right, and how fast.

For any model the engine can load, on speakers and recordings that nothing was trained on:

``clips`` whole validation clips, the model free to answer any of its classes (calm counts as
neutral, bored is left out). ``uar_<corpus>``: unweighted average recall; ``_mulaw8k``,
``_noise_10db``, ``_reverb``, ``_music_10db``, ``_car_5db``: the same clips so rendered, and
``cost_...`` what that takes away; ``worst_speaker_<corpus>``; ``men_women_apart``: difference of
the recalls of women and men, each the mean of the corpora; ``angry_uar_mulaw8k`` and
``angry_auc_...``: angry against all else over the telephone; ``ece_<corpus>``: expected calibration
error.

``unseen`` a corpus in a language that nothing was trained on (EMOVO): recall, anger recall,
emotions called neutral. ``uar4_<corpus>_left_out``: four classes on a corpus left out of training;
for built-in models the figures of networks trained for this (``training/left_out.json``).

``natural`` natural recordings as streams, as recorded and over the telephone: share of points shown
as neutral, as an emotion, and abstained on; label changes a minute; alerts an hour of the default
rule. ``sounds`` tones, ringing, hold music as streams: what is shown as an emotion.

``alerts`` 40 s of acted anger a speaker: how many raise the default rule. ``changes`` streams that
go from angry to neutral and back at a known time: delay of the new label, changes missed, EDER.

``time`` median processor time of a 4 s window on one thread.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy_clips import calibration_rows, clip_rows, unseen_row
from benchmarks.accuracy_streams import (
    anger_alert_row,
    natural_recordings,
    natural_row,
    sounds_row,
    transition_rows,
)
from benchmarks.report import Report, argument_parser
from ser_engine.config import BatchingConfig, EngineConfig, ModelConfig
from ser_engine.core.factory import build_engine
from ser_engine.types import Core, Window
from training.clips import CORPORA, Clip, data_dir, read_clips
from training.corpora import read_more_clips
from training.left_out import LEFT_OUT_FILE

PARTS = ("clips", "unseen", "natural", "sounds", "alerts", "changes", "time")
_SECOND = 16_000
_QUICK_CLIPS = 24
_TRANSITIONS, _QUICK_TRANSITIONS = 15, 3


def parser() -> Any:
    """Return the command line."""
    made = argument_parser(__doc__ or "")
    made.add_argument("--model", default="compact", help="as model.name of config.yaml")
    made.add_argument("--runtime", default="auto", help="as model.runtime of config.yaml")
    made.add_argument("--models-dir", default=ModelConfig().models_dir, help="as model.models_dir")
    made.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--thin", type=int, default=1, help="render every n-th clip only")
    made.add_argument("--abstain-below", type=float, help="instead of the model's own threshold")
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
    abstain_below = given.abstain_below
    if abstain_below is None:
        abstain_below = getattr(engine.info, "abstain_below", 0.0)
    settings = {"model": given.model, "runtime": engine.runtime_name, "quick": given.quick}
    settings |= {"sha256": engine.info.sha256, "licence": engine.info.licence}
    settings |= {"parts": given.parts, "thin": given.thin, "abstain_below": abstain_below}
    report = Report(settings)
    measure(engine, config, given.data, given.parts, abstain_below, report, given)
    report.summary = dict(sorted(report.summary.items()))
    report.finish(given.json)


def measure(
    engine: Core,
    config: EngineConfig,
    data: Path,
    parts: Sequence[str],
    abstain_below: float,
    report: Report,
    given: Any,
) -> None:
    """Measure some parts; figures and rows go into the report."""
    summary, rows = report.summary, report.rows
    clips = [
        c for corpus in CORPORA for c in _of_corpus(read_clips(data, "val"), corpus, given.quick)
    ]
    if "clips" in parts:
        print(f"{len(clips)} clips", flush=True)
        found, plain = clip_rows(engine, clips, data, summary, thin=given.thin)
        rows += found + calibration_rows(plain, summary)
    if "unseen" in parts:
        unseen = read_more_clips(data, ["emovo"], ["unseen"])
        unseen = unseen[:: max(1, len(unseen) // _QUICK_CLIPS)] if given.quick else unseen
        if unseen:
            rows.append(unseen_row(engine, unseen, summary))
        left_out = json.loads(LEFT_OUT_FILE.read_text(encoding="utf-8"))
        of_model = left_out.get(engine.info.name)
        if of_model:
            rows.append({"name": "left_out", "of": "networks trained for this", **of_model})
            summary |= {f"uar4_{corpus}_left_out": of_model["uar4"][corpus] for corpus in CORPORA}
    if "natural" in parts:
        rows += natural_row(engine, natural_recordings(data), config, abstain_below, summary)
    if "sounds" in parts:
        rows.append(sounds_row(engine, config, abstain_below, summary))
    if "alerts" in parts:
        rows.append(anger_alert_row(engine, clips, config, summary))
    if "changes" in parts:
        count = _QUICK_TRANSITIONS if given.quick else _TRANSITIONS
        rows += transition_rows(engine, clips, count, config, summary)
    if "time" in parts:
        summary["window_4s_ms_1core"] = _window_ms(engine, 20 if given.quick else 100)


def _of_corpus(clips: Sequence[Clip], corpus: str, quick: bool) -> list[Clip]:
    found = [clip for clip in clips if clip.corpus == corpus]
    return found[:: max(1, len(found) // _QUICK_CLIPS)] if quick else found


def _window_ms(engine: Core, count: int) -> float:
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
