"""Compare our runtimes with FunASR, window by window, in one run.

FunASR scores each window from its samples. So do our ``exact`` rows; our ``cached`` rows keep the
local features that successive windows share. Everything runs on the same windows of real speech,
in turn, with as many threads; the figures are medians and their ratios.

    python -m benchmarks.engine                    both sizes, one stream and eight
    python -m benchmarks.engine --quick            base, one stream, under a minute
    python -m benchmarks.engine --device cuda      windows per second on a GPU; needs torch, numpy
                                                   and PyYAML only

Weights are random: speed and agreement do not depend on what a network has learned, posteriors'
sensitivity may.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import Report, alternate, argument_parser, median
from ser_engine.config import FeatureMode, RuntimeName

if TYPE_CHECKING:
    from ser_engine.types import Core


WINDOW, STEP = 64_000, 8_000


@dataclass(frozen=True, slots=True)
class Contestant:
    """A runtime in a mode: ``kind`` is the group of the summary it competes in."""

    kind: str
    runtime: RuntimeName
    features: FeatureMode


CONTESTANTS = (
    Contestant("exact_fp32", "torch", "exact"),
    Contestant("cached_fp32", "torch", "cached"),
    Contestant("exact_fp32", "torch-compile", "exact"),
    Contestant("exact_fp32", "onnx", "exact"),
    Contestant("cached_fp32", "onnx", "cached"),
    Contestant("exact_fp32", "openvino", "exact"),
    Contestant("cached_fp32", "openvino", "cached"),
    Contestant("cached_int8", "openvino-int8", "cached"),
    Contestant("cached_int8", "onnx-int8", "cached"),
)
QUICK = ("openvino",)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sizes", nargs="+", choices=["base", "large"], default=["base", "large"])
    parser.add_argument("--rounds", type=int, default=15, help="steps timed for one stream")
    parser.add_argument(
        "--runtimes", nargs="+", default=sorted({each.runtime for each in CONTESTANTS})
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    options = parser.parse_args(arguments)
    if options.device != "cpu":
        from benchmarks import engine_cuda

        engine_cuda.run(options)
        return
    _run_cpu(options)


def _run_cpu(options: argparse.Namespace) -> None:
    from benchmarks.random_checkpoint import write_random_checkpoint

    sizes = ["base"] if options.quick else options.sizes
    rounds = 4 if options.quick else options.rounds
    runtimes = QUICK if options.quick else options.runtimes
    report = Report(
        {"window_s": WINDOW / 16_000, "step_s": STEP / 16_000, "rounds": rounds, "sizes": sizes}
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_random_checkpoint(Path(folder) / f"emotion2vec_plus_{size}", size)
            contestants = [c for c in CONTESTANTS if c.runtime in runtimes]
            lane = _Lane(report, size, checkpoint, contestants, options.threads)
            lane.run(num_streams=1, rounds=rounds)
            if not options.quick:
                lane.run(num_streams=8, rounds=max(3, rounds // 3))
    report.finish(options.json)


class _Lane:
    """All contestants with one network."""

    def __init__(
        self,
        report: Report,
        size: str,
        folder: Path,
        contestants: list[Contestant],
        threads: int,
    ) -> None:
        from benchmarks.speech import shared_speech_dir
        from ser_engine.core.runtimes.select import usable_cores

        self._report, self._size = report, size
        self._threads = threads or usable_cores()
        self._speech = shared_speech_dir()
        report.settings.update(
            threads=self._threads, speech="recorded" if self._speech else "stand-in"
        )
        # FunASR first: it sets the number of threads of the whole process.
        self._funasr = _funasr(folder, self._threads)
        self._engines = {
            contestant: engine
            for contestant in contestants
            if (engine := self._engine(contestant, folder)) is not None
        }

    def run(self, num_streams: int, rounds: int) -> None:
        """Time every contestant on ``num_streams`` streams for ``rounds`` steps."""
        from ser_engine.types import Window, WindowResult

        streams = [self._stream(number, rounds) for number in range(num_streams)]
        posteriors: dict[str, list[np.ndarray]] = {}

        def windows(number: int, owner: str) -> list[Window]:
            start = number * STEP
            return [
                Window(stream[start : start + WINDOW], start, f"{owner} {index}")
                for index, stream in enumerate(streams)
            ]

        def runner(name: str, engine: Core) -> Callable[[int], None]:
            def run(number: int) -> None:
                results = engine.step(windows(number, name))
                scores = []
                for result in results:
                    assert isinstance(result, WindowResult), result
                    scores.append(_softmax(result.logits.mean(axis=0)))
                posteriors.setdefault(name, []).append(np.stack(scores))

            return run

        def funasr(number: int) -> None:
            answers = [
                self._funasr.generate(window.samples, granularity="utterance")[0]["scores"]
                for window in windows(number, "funasr")
            ]
            posteriors.setdefault("funasr", []).append(np.array(answers))

        names = {f"{c.runtime} {c.features}": c for c in self._engines}
        running: dict[str, Callable[[int], object]] = {"funasr": funasr}
        running.update(
            {name: runner(name, self._engines[contestant]) for name, contestant in names.items()}
        )
        # The first step of a stream computes its whole window; what is timed are the steps after.
        seconds = {name: each[1:] for name, each in alternate(running, rounds + 1).items()}
        reference = median(seconds["funasr"])
        expected = np.array(posteriors["funasr"])
        row = {"size": self._size, "streams": num_streams}
        self._report.add(**row, runtime="funasr", median_s=reference, ratio=1.0)
        for name, contestant in names.items():
            taken = median(seconds[name])
            difference = float(np.abs(np.array(posteriors[name]) - expected).max())
            self._report.add(
                **row,
                runtime=name,
                median_s=taken,
                ratio=reference / taken,
                posterior_max_diff=difference,
            )
            self._summarise(contestant.kind, num_streams, reference / taken, difference)

    def _summarise(self, kind: str, num_streams: int, ratio: float, difference: float) -> None:
        """Enter the best runtime of a kind."""
        summary = self._report.summary
        suffix = "_8streams" if num_streams > 1 else ""
        key = f"{self._size}_{kind}_ratio{suffix}"
        if ratio <= summary.get(key, 0):
            return
        summary[key] = ratio
        if not suffix:
            summary[f"{self._size}_{kind}_posterior_max_diff"] = difference

    def _stream(self, number: int, rounds: int) -> np.ndarray:
        from benchmarks.speech import CORPORA, corpus_stream, stand_in_speech

        duration_s = (WINDOW + (rounds + 1) * STEP) / 16_000
        if self._speech is None:
            return stand_in_speech(duration_s, number)
        return corpus_stream(self._speech, CORPORA[number % len(CORPORA)], duration_s, number)

    def _engine(self, contestant: Contestant, folder: Path) -> Core | None:
        from ser_engine.config import EngineConfig, ModelConfig
        from ser_engine.core.factory import build_engine
        from ser_engine.errors import ConfigError, RuntimeUnavailableError

        print(f"preparing {self._size} {contestant.runtime} {contestant.features}", file=sys.stderr)
        try:
            model = ModelConfig(
                name=str(folder),
                models_dir=str(folder.parent),
                runtime=contestant.runtime,
                device="cpu",
                features=contestant.features,
                threads=self._threads,
                calibration_dir=str(self._speech or ""),
            )
            engine = build_engine(EngineConfig(model=model))
        except (ConfigError, RuntimeUnavailableError) as error:
            print(f"left out: {error}", file=sys.stderr)
            return None
        engine.warm_up()
        return engine


def _funasr(folder: Path, threads: int) -> Any:
    from funasr import AutoModel

    return AutoModel(
        model=str(folder),
        device="cpu",
        ncpu=threads,
        disable_update=True,
        disable_pbar=True,
        disable_log=True,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    scaled = np.exp(logits - logits.max())
    return np.asarray(scaled / scaled.sum())


if __name__ == "__main__":
    main()
