"""``emotion-monitor analyze … --out``: many recordings, one folder of results."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from emotion_monitor.batch import (
    Batch,
    Format,
    Manifest,
    PlacedFile,
    Tally,
    place_all,
    write_tables,
)
from emotion_monitor.commands.options import note, printable, writing
from ser_engine.config import EngineConfig
from ser_engine.core.factory import build_engine
from ser_engine.core.runtimes.select import choose_device, usable_cores
from ser_engine.files import AnalysisOptions, Engine
from ser_engine.files.analyser import FileAnalyser
from ser_engine.files.job import AnalysisJob
from ser_engine.files.processes import ProcessesAnalyser
from ser_engine.files.search import find_recordings
from ser_engine.models.registry import model_named
from ser_engine.types import ModelInfo


class ProgressReport:
    """A bar on a terminal's standard error, and a line for each file that fails.

    Files count in part while they are analysed, so that long ones move the bar, too.
    """

    def __init__(self, num_files: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.fields[files]}/{task.total:.0f} files"),
            TextColumn("{task.fields[audio]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=num_files, files=0, audio="", speed="")
        self._begun_s = time.monotonic()
        self._ended = 0
        self._audio_s = 0.0
        self._running: dict[AnalysisJob, float] = {}

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the last picture."""
        self._progress.stop()

    def done(self, audio_s: float) -> None:
        """A file was analysed."""
        self._ended += 1
        self._audio_s += audio_s
        self._draw()

    def skipped(self) -> None:
        """A file has its results already."""
        self._ended += 1
        self._draw()

    def failed(self, path: Path, reason: str) -> None:
        """A file could not be analysed."""
        self._ended += 1
        line = printable(f"emotion-monitor: {path}: {reason}")
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._draw()

    def moved(self, job: AnalysisJob) -> None:
        """A file is being analysed."""
        self._running[job] = job.progress
        self._draw()

    def _draw(self) -> None:
        if self._progress.disable:
            return
        self._running = {job: share for job, share in self._running.items() if not job.is_done}
        elapsed_s = time.monotonic() - self._begun_s
        speed = f"{self._audio_s / elapsed_s:.0f}× real time" if self._audio_s else ""
        self._progress.update(
            self._task,
            completed=self._ended + sum(self._running.values()),
            files=self._ended,
            audio=f"{hours(self._audio_s)} of audio",
            speed=speed,
        )


def hours(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


_INTERRUPTED = 130
_MANY_BYTES = 256 << 20
"""Two hours of samples of 16 bits at 16 kHz: the start of processes takes seconds."""
_MOST_PROCESSES = 8
"""Each has 0.4 GB."""


def analyze_batch(
    open_engine: Callable[[], Engine],
    config: EngineConfig,
    options: AnalysisOptions,
    names: Sequence[Path],
    out: Path,
    formats: Sequence[Format],
    *,
    recursive: bool,
    use_cache: bool,
    processes: int | None,
) -> bool:
    """Analyse recordings into a folder; return whether all could be analysed.

    ``processes``: how many; None: see :func:`processes_for`.

    Raises:
        typer.Exit: it was interrupted, or the folder cannot be written.
    """
    unreadable: list[str] = []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(out)
        found = find_recordings(
            names,
            recursive=recursive,
            raw=options.raw is not None,
            leave_out=out,
            on_unreadable=lambda path, reason: unreadable.append(f"{path}: {reason}"),
        )
        files = place_all(found, manifest)
        for line in unreadable:
            note(line)
        if not files:
            note(f"{', '.join(map(str, names))}: there are no recordings")
            return False
        # A small network's engine takes one for itself.
        cores = usable_cores()
        engine = open_engine()
        if processes is None:
            processes = processes_for(engine.info, config, files, cores)
        threads = config.model.threads or max(1, cores // processes)
        shared = replace(config, model=replace(config.model, threads=threads))
        with ProgressReport(len(files)) as report:
            batch = Batch(
                folder=out,
                manifest=manifest,
                analyser=FileAnalyser(engine, config, options, use_cache=use_cache)
                if processes == 1
                else ProcessesAnalyser(
                    num_processes=processes,
                    open_engine=build_engine,
                    info=engine.info,
                    config=shared,
                    options=options,
                    use_cache=use_cache,
                ),
                model=engine.info.sha256,
                formats=formats,
                report=report,
            )
            is_interrupted = False
            try:
                batch.run(files)
            except KeyboardInterrupt:
                is_interrupted = True
            finally:
                tables = write_tables(out, formats)
    _say(batch.tally, out, tables)
    if is_interrupted:
        left = len(files) - batch.tally.ended
        note(f"stopped with {left} files left; the same command again goes on with them")
        sys.exit(_INTERRUPTED)
    return not batch.tally.failed and not unreadable


def processes_for(
    info: ModelInfo, config: EngineConfig, files: Sequence[PlacedFile], cores: int
) -> int:
    """Return in how many processes to analyse files if nobody says.

    One a core for the built-in models, whose networks leave cores idle and take little memory, if
    there is so much to do that the start of the processes does not matter.
    """
    model = model_named(info.name)
    is_built_in = model is not None and model.published is None
    if not is_built_in or choose_device(config.model.device) != "cpu":
        return 1
    num_bytes = 0
    for file in files:
        # One that is not there is said later.
        with contextlib.suppress(OSError):
            num_bytes += file.found.path.stat().st_size
    if num_bytes < _MANY_BYTES:
        return 1
    return min(cores, len(files), _MOST_PROCESSES)


def _say(tally: Tally, out: Path, tables: Sequence[str]) -> None:
    parts = [f"{tally.analysed} analysed ({hours(tally.audio_s)} of audio)"]
    if tally.kept:
        parts.append(f"{tally.kept} of them known from before")
    if tally.skipped:
        parts.append(f"{tally.skipped} had results already")
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    note(f"{', '.join(parts)}; {out}: {', '.join(('index.jsonl', *tables))}")
