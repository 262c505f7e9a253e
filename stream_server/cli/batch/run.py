"""Many recordings into one folder of results; stopped at any time, it goes on where it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ser_engine.errors import SerEngineError
from ser_engine.offline.analysis import FileAnalysis
from ser_engine.offline.cache_key import file_sha256
from ser_engine.offline.fingerprint import Fingerprint
from ser_engine.offline.job import AnalysisJob
from ser_engine.offline.table_files import table_of_rows, write_csv, write_parquet
from stream_server.cli.batch.manifest import Entry, Manifest
from stream_server.cli.batch.outputs import Format, remove_outputs, rows_of, write_outputs
from stream_server.cli.batch.places import PlacedFile
from stream_server.cli.file_analyser import Answer, FileAnalyser, Wanted

__all__ = ["Batch", "Report", "Tally", "write_tables"]


class Report(Protocol):
    """Is told how a batch goes on."""

    def done(self, audio_s: float) -> None:
        """A file was analysed."""
        ...

    def skipped(self) -> None:
        """A file has its results already."""
        ...

    def failed(self, path: Path, reason: str) -> None:
        """A file could not be analysed."""
        ...

    def moved(self, job: AnalysisJob) -> None:
        """A file is being analysed."""
        ...


@dataclass(slots=True)
class Tally:
    """What became of the files of a run."""

    analysed: int = 0
    kept: int = 0
    skipped: int = 0
    failed: int = 0
    audio_s: float = 0.0

    @property
    def ended(self) -> int:
        """Files that nothing is left to do about."""
        return self.analysed + self.skipped + self.failed


class Batch:
    """One run.

    Args:
        folder: of the results; it must be there.
        manifest: of that folder.
        analyser: does the work.
        model: sha256 of its model.
        formats: what is written of each file.
        scores: whether JSON tells of every class.
        report: is told of each file.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        analyser: FileAnalyser,
        model: str,
        formats: Sequence[Format],
        *,
        scores: bool,
        report: Report,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._analyser = analyser
        self._model = model
        self._formats = formats
        # Other files are written of the same result, so they are another thing to have done.
        self._asked = (*formats, *(("scores",) if scores else ()))
        self._scores = scores
        self._report = report
        self.tally = Tally()

    def run(self, files: Sequence[PlacedFile]) -> None:
        """Analyse the files that have no results yet.

        Raises:
            ConfigError: what is asked for cannot be had.
            EngineDeadError: nothing is scored any more.
            OSError: the folder cannot be written.
        """
        self._analyser.run(self._wanted(files), self._take, on_progress=self._report.moved)

    def _wanted(self, files: Sequence[PlacedFile]) -> Iterator[Wanted]:
        for file in files:
            path = file.found.path
            known = self._manifest.get(file.source)
            fingerprint = Fingerprint.of(path)
            sha256 = ""
            if fingerprint is not None:
                try:
                    is_same = known is not None and known.fingerprint == fingerprint
                    sha256 = known.sha256 if known and is_same else file_sha256(path)
                except SerEngineError as error:
                    self._fail(file, str(error).removeprefix(f"{path}: "))
                    continue
            if known is not None and sha256 and self._is_done(known, sha256):
                self.tally.skipped += 1
                self._report.skipped()
                continue
            yield Wanted(path, file.place, fingerprint, sha256, about=file)

    def _is_done(self, known: Entry, sha256: str) -> bool:
        return (
            not known.error
            and known.key == self._analyser.key(sha256)
            and set(self._asked) <= set(known.formats)
            and all((self._folder / name).is_file() for name in known.outputs)
        )

    def _take(self, answer: Answer) -> None:
        file: PlacedFile = answer.wanted.about
        if not isinstance(answer.outcome, FileAnalysis):
            self._fail(file, str(answer.outcome))
        elif Fingerprint.of(file.found.path) != answer.wanted.fingerprint:
            self._fail(file, "it was changed while it was read; analyse it again")
        else:
            self._write(file, answer.wanted, answer.outcome)
            self.tally.analysed += 1
            self.tally.kept += answer.is_kept
            self.tally.audio_s += answer.outcome.duration_s
            self._report.done(answer.outcome.duration_s)

    def _write(self, file: PlacedFile, wanted: Wanted, analysis: FileAnalysis) -> None:
        former = self._manifest.get(file.source)
        outputs = write_outputs(
            self._folder, file.place, analysis, self._formats, scores=self._scores
        )
        entry = Entry(
            source=file.source,
            place=file.place,
            fingerprint=wanted.fingerprint,
            sha256=wanted.sha256,
            key=self._analyser.key(wanted.sha256),
            formats=self._asked,
            outputs=outputs,
            rows=rows_of(analysis),
            model=self._model,
        )
        self._manifest.add(entry)
        if former is not None:
            remove_outputs(self._folder, [each for each in former.outputs if each not in outputs])

    def _fail(self, file: PlacedFile, reason: str) -> None:
        self.tally.failed += 1
        entry = Entry(source=file.source, place=file.place, error=reason)
        if self._manifest.get(file.source) != entry:
            self._manifest.add(entry)
        self._report.failed(file.found.path, reason)


def write_tables(folder: Path, formats: Sequence[Format]) -> tuple[str, ...]:
    """Write the tables over all files of a folder, other runs' too; return their names.

    ``results.csv`` or ``results.parquet``, and ``errors.csv`` where there are any.

    Raises:
        OSError: one cannot be written.
    """
    manifest = Manifest(folder)
    written: list[str] = []
    table = table_of_rows([row for entry in manifest for row in entry.rows])
    if table and "csv" in formats:
        write_csv(folder / "results.csv", table)
        written.append("results.csv")
    if table and "parquet" in formats:
        write_parquet(folder / "results.parquet", table)
        written.append("results.parquet")
    errors = [{"file": entry.source, "error": entry.error} for entry in manifest if entry.error]
    if errors:
        write_csv(folder / "errors.csv", table_of_rows(errors))
        written.append("errors.csv")
    else:
        with contextlib.suppress(OSError):
            os.unlink(folder / "errors.csv")
    return tuple(written)
