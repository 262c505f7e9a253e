"""How a batch shows how far it is."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ser_engine.offline.job import AnalysisJob
from stream_server.cli.engine import printable

__all__ = ["ProgressReport", "hours"]


class ProgressReport:
    """A bar on a terminal's standard error, and a line for each file that fails.

    Files count in part while they are analysed, so that long ones move the bar, too.

    Args:
        num_files: of the run.
        console: where to.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
