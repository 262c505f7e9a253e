"""How fast files are analysed, and how much memory a long one takes, beside FunASR.

Every measurement is a process of its own that loads the model, warms up, and then analyses files
for utterance results: our analysis with the built-in model and with emotion2vec base, and
``funasr.AutoModel.generate`` with the same base. They take turns, with as many threads, of which
the built-in model makes processes, as the command line does; the time they take to start counts.
The figures are medians over the rounds. Peak memory is the process's own high-water mark, the
libraries and the model included.

    python -m benchmarks.files              a quarter of an hour
    python -m benchmarks.files --quick      short files, one round

FunASR scores a file in one pass; its attention takes memory with the square of the length. Files
are therefore pieces of 30 s where speed is compared; how far it gets with longer ones is looked at
by itself, with a bound on its memory.

The weights of base are random: speed and memory do not depend on what a network has learned.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Report, argument_parser, median
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray

_PIECE_S = 30
_MEMORY_LENGTHS_S = {"1min": 60, "10min": 600, "3h": 10_800}
_FUNASR_LENGTHS_S = (60, 200, 600)
_FUNASR_MEMORY_GIB = 12
"""More than this FunASR does not get, so that a machine with little more does not swap."""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark, or one measurement of it."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=3, help="times each contestant runs")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    parser.add_argument("--measure", nargs="+", metavar="ARGUMENT", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        contestant, model, threads, *files = options.measure
        print(json.dumps(_measure(contestant, model, int(threads), files)))
        return
    _compare(options)


# -- the parent -----------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> None:
    from benchmarks.random_checkpoint import write_random_checkpoint
    from benchmarks.speech import shared_speech_dir
    from ser_engine.core.runtimes.select import usable_cores

    threads = options.threads or usable_cores()
    rounds = 1 if options.quick else options.rounds
    minutes = {"compact": 60 if options.quick else 240, "base": 1 if options.quick else 5}
    report = Report(
        {
            "threads": threads,
            "rounds": rounds,
            "piece_s": _PIECE_S,
            "minutes": minutes,
            "speech": "recorded" if shared_speech_dir() else "stand-in",
            "granularity": "utterance",
            "funasr_memory_gib": _FUNASR_MEMORY_GIB,
        }
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = write_random_checkpoint(folder / "emotion2vec_plus_base", "base")
        run = _Runner(
            report, {"compact": "compact", "base": str(base), "funasr": str(base)}, threads
        )
        _speed(run, report, folder, rounds, minutes)
        lengths = dict(list(_MEMORY_LENGTHS_S.items())[: 2 if options.quick else None])
        for name, seconds in lengths.items():
            path = _write_recording(folder / f"{name}.wav", seconds)
            found = run("compact", [path], what=f"memory {name}")
            report.summary[f"peak_memory_mb_{name}"] = found["peak_memory_mb"]
            path.unlink()
        _how_far_funasr_gets(run, folder, _FUNASR_LENGTHS_S[: 1 if options.quick else None])
    report.finish(options.json)


class _Runner:
    """Runs measurements in processes of their own."""

    def __init__(self, report: Report, models: dict[str, str], threads: int) -> None:
        self._report, self._models, self._threads = report, models, threads

    def __call__(self, contestant: str, files: Sequence[Path], what: str) -> dict[str, Any]:
        """Return what a contestant took; with ``failed`` where it did not get to the end."""
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.files", "--measure"]
        command += [contestant, self._models[contestant], str(self._threads), *map(str, files)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = finished.stdout.strip().splitlines()
        if finished.returncode == 0 and lines:
            found: dict[str, Any] = json.loads(lines[-1])
        else:
            said = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
            found = {"failed": said[-1][:200]}
        self._report.add(what=what, contestant=contestant, **found)
        return found


def _speed(
    run: _Runner, report: Report, folder: Path, rounds: int, minutes: dict[str, int]
) -> None:
    pieces = _write_pieces(folder / "pieces", minutes["compact"] * 60 // _PIECE_S)
    of_base = pieces[: minutes["base"] * 60 // _PIECE_S]
    files = {"compact": pieces, "base": of_base, "funasr": of_base}
    rates: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(rounds):
        for contestant, chosen in files.items():
            found = run(contestant, chosen, what="speed")
            if "failed" not in found:
                rates[contestant].append(found["audio_s"] / found["wall_s"])
    middle = {name: median(values) for name, values in rates.items() if values}
    for name in ("compact", "base"):
        report.summary[f"{name}_audio_hours_per_hour"] = middle[name]
    if "funasr" in middle:
        report.summary["funasr_audio_hours_per_hour"] = middle["funasr"]
        report.summary["base_ratio_to_funasr"] = middle["base"] / middle["funasr"]


def _how_far_funasr_gets(run: _Runner, folder: Path, lengths_s: Sequence[int]) -> None:
    """Give both one file, longer and longer, until FunASR fails."""
    for seconds in lengths_s:
        path = _write_recording(folder / f"{seconds}.wav", seconds)
        failed = "failed" in run("funasr", [path], what=f"one file of {seconds} s")
        run("base", [path], what=f"one file of {seconds} s")
        path.unlink()
        if failed:
            return


def _write_pieces(folder: Path, count: int) -> list[Path]:
    import soundfile

    folder.mkdir()
    paths = [folder / f"{number:04}.wav" for number in range(count)]
    speech = _speech(_PIECE_S * min(count, 20))
    for number, path in enumerate(paths):
        start = number * _PIECE_S * SAMPLE_RATE_HZ % len(speech)
        piece = speech[start : start + _PIECE_S * SAMPLE_RATE_HZ]
        soundfile.write(path, piece, SAMPLE_RATE_HZ)
    return paths


def _write_recording(path: Path, seconds: int) -> Path:
    """Write a recording block by block: hours of it take no memory here either."""
    import soundfile

    speech = _speech(min(seconds, 300))
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1) as file:
        for start_s in range(0, seconds, 300):
            file.write(speech[: min(300, seconds - start_s) * SAMPLE_RATE_HZ])
    return path


def _speech(seconds: int) -> FloatArray:
    """Return speech of several speakers with pauses between them, as in conversation."""
    from benchmarks.speech import CORPORA, corpus_stream, shared_speech_dir, stand_in_speech

    folder = shared_speech_dir()
    if folder is None:
        return stand_in_speech(seconds)
    pause = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    parts: list[FloatArray] = []
    number = 0
    while sum(map(len, parts)) < seconds * SAMPLE_RATE_HZ:
        parts += [corpus_stream(folder, CORPORA[number % len(CORPORA)], 14, seed=number), pause]
        number += 1
    return np.concatenate(parts)[: seconds * SAMPLE_RATE_HZ]


# -- one measurement ------------------------------------------------------------------------------


def _measure(contestant: str, model: str, threads: int, files: Sequence[str]) -> dict[str, Any]:
    analyse = _funasr(model, threads) if contestant == "funasr" else _ours(model, threads)
    loaded_mb = _peak_memory_mb()
    begin = time.perf_counter()
    audio_s = analyse(files)
    wall_s = time.perf_counter() - begin
    return {
        "files": len(files),
        "audio_s": round(audio_s, 1),
        "wall_s": wall_s,
        "peak_memory_mb": _peak_memory_mb(),
        "loaded_memory_mb": loaded_mb,
    }


def _ours(model: str, threads: int) -> Callable[[Sequence[str]], float]:
    from ser_engine.config import EngineConfig, ModelConfig
    from ser_engine.core.factory import build_engine
    from ser_engine.files import AnalysisOptions, FileAnalysis
    from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
    from ser_engine.files.processes import ProcessesAnalyser
    from ser_engine.types import Window

    # What is prepared for a random model must not be found by somebody who looks for a real one.
    models_dir = str(Path(model).parent / "prepared")
    config = EngineConfig(
        model=ModelConfig(name=model, models_dir=models_dir, offline=True, threads=threads)
    )
    engine = build_engine(config)
    # As much as FunASR gets; a live server's warm-up would prepare windows that files have not.
    engine.step([Window(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32))])

    def analyse(files: Sequence[str]) -> float:
        durations_s: list[float] = []

        def take(answer: Answer) -> None:
            assert isinstance(answer.outcome, FileAnalysis), answer.outcome
            durations_s.append(answer.outcome.duration_s)

        options, wanted = AnalysisOptions(), [Wanted(Path(path), path) for path in files]
        if model == "compact" and len(files) > 1:
            of_each = replace(config, model=replace(config.model, threads=1))
            ProcessesAnalyser(
                num_processes=threads,
                open_engine=build_engine,
                info=engine.info,
                config=of_each,
                options=options,
                use_cache=False,
            ).run(wanted, take)
        else:
            FileAnalyser(engine, config, options, use_cache=False).run(wanted, take)
        return sum(durations_s)

    return analyse


def _funasr(model: str, threads: int) -> Callable[[Sequence[str]], float]:
    from funasr import AutoModel

    engine = AutoModel(
        model=model,
        device="cpu",
        ncpu=threads,
        disable_update=True,
        disable_pbar=True,
        disable_log=True,
    )
    engine.generate(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32), granularity="utterance")

    def analyse(files: Sequence[str]) -> float:
        import soundfile

        limit = _FUNASR_MEMORY_GIB << 30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for path in files:
            engine.generate(path, granularity="utterance", extract_embedding=True)
        return float(sum(soundfile.info(path).duration for path in files))

    return analyse


def _peak_memory_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike ru_maxrss, which a process inherits from the one that started it.
        (peak_kb,) = (
            line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")
        )
        return round(int(peak_kb) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, others in KiB.
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


if __name__ == "__main__":
    main()
