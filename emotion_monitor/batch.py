"""Many recordings into one folder of results; stopped at any time, it goes on where it was.

What is done already stands in ``index.jsonl``, one line a file, appended when its results are on
disk; of several lines about a file the last one counts. A line is written by one call in append
mode, under a lock, so that several runs may share a folder. What is no such line, because a run
was killed or somebody edited the file, is passed over: the file it was about is analysed once
more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal, Protocol, Self, get_args

import msgspec

from ser_engine.errors import SerEngineError
from ser_engine.files.analyser import Analyser, Answer, Wanted
from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.annotations import SUFFIXES, annotation_text, tiers_of_result
from ser_engine.files.cache import Fingerprint, file_sha256
from ser_engine.files.folders import save_embedding
from ser_engine.files.job import AnalysisJob
from ser_engine.files.results import ChannelAnalysis
from ser_engine.files.search import FoundFile
from ser_engine.files.tables import (
    table_of_rows,
    write_csv,
    write_parquet,
)
from ser_engine.files.whole_files import safe_name, whole_file, write_json

MANIFEST_NAME = "index.jsonl"

_MAX_LINE_BYTES = 1 << 20
"""Longer lines are not ours: a file of 32 channels takes some 10 KiB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recording that was dealt with.

    Attributes:
        source: its absolute path.
        place: where its results are, in the folder, without what is appended to the name.
        fingerprint: of the file that was analysed; None with an error.
        sha256: of its content, hex, or "".
        key: of content, model and settings (:mod:`ser_engine.files.cache`), or "".
        formats: what was asked to be written.
        outputs: files that were written, relative to the folder.
        rows: its rows of the table over all files.
        model: sha256 of the model, or "".
        error: why there is no result, or "".
    """

    source: str
    place: str
    fingerprint: Fingerprint | None = None
    sha256: str = ""
    key: str = ""
    formats: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    rows: tuple[dict[str, str | int | float | None], ...] = ()
    model: str = ""
    error: str = ""

    def to_line(self) -> bytes:
        """Return it as a line of the manifest."""
        # ASCII only: a path may hold what is no UTF-8.
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self | None:
        """Return what a line says, or None where it is none of ours."""
        try:
            return msgspec.convert(json.loads(line), cls)
        except (ValueError, msgspec.ValidationError, RecursionError):
            return None


class Manifest:
    """The entries of a folder of results, which must be there.

    Raises:
        OSError: its manifest cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MANIFEST_NAME
        self._entries = {entry.source: entry for entry in _read(self._path)}

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries, each file's last one, in the order of their places."""
        yield from sorted(self._entries.values(), key=lambda entry: entry.place)

    def get(self, source: str) -> Entry | None:
        """Return what is known of a file, by its absolute path."""
        return self._entries.get(source)

    def add(self, entry: Entry) -> None:
        """Note a file that was dealt with.

        Raises:
            OSError: the manifest cannot be written.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            # A line that another run is just writing would look cut off. Some network file systems
            # have no locks; there, at worst, an empty line is added.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            line = entry.to_line()
            if _is_cut_off(handle):
                line = b"\n" + line
            if os.write(handle, line) != len(line):
                raise OSError(28, "the disk is full")
        finally:
            os.close(handle)
        self._entries[entry.source] = entry


def _is_cut_off(handle: int) -> bool:
    """Return whether the file ends within a line."""
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def _read(path: Path) -> Iterator[Entry]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(_MAX_LINE_BYTES):
            if (entry := Entry.from_line(line)) is not None:
                yield entry


_HASH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A recording and where its results go.

    Attributes:
        found: the recording.
        source: its absolute path. Links in it are kept: they are names, too.
        place: where its results go, relative, with ``/``; ``.json`` and so on is appended.
    """

    found: FoundFile
    source: str
    place: str


def place_all(found: Iterable[FoundFile], manifest: Manifest) -> list[PlacedFile]:
    """Return recordings with places of their own.

    A file that was dealt with before keeps its place. Places that differ in case only count as
    one, for file systems to which they are; the later of two gets a hash of its path.
    """
    files = [(each, os.path.abspath(each.path)) for each in found]
    taken = {_folded(entry.place): entry.source for entry in manifest}
    placed: list[PlacedFile] = []
    for each, source in files:
        known = manifest.get(source)
        place = known.place if known is not None and _is_sound(known.place) else _fit(each.place)
        if taken.setdefault(_folded(place), source) != source:
            place = _apart(place, source)
            taken[_folded(place)] = source
        placed.append(PlacedFile(each, source, place))
    return placed


def _fit(place: PurePath) -> str:
    return "/".join(safe_name(part) for part in place.parts)


def _is_sound(place: str) -> bool:
    """Return whether a place that a file tells of is one of ours: it must not lead elsewhere."""
    return bool(place) and place == _fit(PurePosixPath(place))


def _apart(place: str, source: str) -> str:
    path = PurePosixPath(place)
    digits = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:_HASH_DIGITS]
    return str(path.with_name(f"{path.stem}~{digits}{path.suffix}"))


def _folded(place: str) -> str:
    return place.casefold()


Format = Literal["json", "csv", "parquet", "npy", "textgrid", "eaf", "audacity"]
FORMATS: tuple[Format, ...] = get_args(Format)

_OUTPUT_SUFFIXES = (".json", ".npy", ".csv", ".parquet", *SUFFIXES.values())
_DETAILS = {"utterance": "pieces", "frame": "frames", "stream": "points"}


def write_outputs(
    folder: Path, place: str, analysis: FileAnalysis, formats: Sequence[Format]
) -> tuple[str, ...]:
    """Write the files of one recording, each whole or not at all.

    ``json`` is ``<place>.json``; ``npy`` is ``<place>.npy``; ``csv`` and ``parquet`` are
    ``<place>.frames.csv``, ``.points`` or, of an utterance that has several, ``.pieces``;
    annotations are ``<place>.TextGrid``, ``.eaf`` and ``.labels.txt``.

    Returns:
        their paths relative to the folder.

    Raises:
        OSError: one cannot be written.
    """
    base = folder / place
    base.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if "json" in formats:
        written.append(base.with_name(f"{base.name}.json"))
        with whole_file(written[-1]) as partial:
            write_json(partial, analysis.to_json())
    if "npy" in formats:
        written += save_embedding(base.with_name(f"{base.name}.npy"), analysis)
    if "csv" in formats or "parquet" in formats:
        written += _write_details(base, analysis, formats)
    annotations = [kind for kind in SUFFIXES if kind in formats]
    if annotations:
        tiers = tiers_of_result(analysis.document())
        for kind in annotations:
            written.append(base.with_name(base.name + SUFFIXES[kind]))
            with whole_file(written[-1]) as partial:
                text = annotation_text(kind, tiers, analysis.duration_s)
                partial.write_text(text, encoding="utf-8")
    return tuple(path.relative_to(folder).as_posix() for path in written)


def remove_outputs(folder: Path, outputs: Sequence[str]) -> None:
    """Remove files that were written before and are not any more."""
    root = folder.resolve()
    for name in outputs:
        path = (folder / name).resolve()
        # The list is read from a file that anybody may have edited.
        if path.is_relative_to(root) and path.name.endswith(_OUTPUT_SUFFIXES):
            with contextlib.suppress(OSError):
                path.unlink()


def rows_of(analysis: FileAnalysis) -> tuple[dict[str, Any], ...]:
    """Return a row a channel: what the whole of it is like."""
    return tuple(
        {
            "name": analysis.name,
            "channel": index,
            "duration_s": round(analysis.duration_s, 3),
            "sample_rate": analysis.rate_hz,
            "model": analysis.model.name,
            "granularity": analysis.options.granularity,
            **_overall(channel),
            **({"speakers": len(channel.speakers)} if analysis.options.speakers else {}),
            "warnings": " ".join(dict.fromkeys(warning.code for warning in channel.warnings)),
        }
        for index, channel in analysis.numbered
    )


def _overall(channel: ChannelAnalysis) -> dict[str, Any]:
    overall, whole = channel.overall, channel.whole
    if overall is None:
        return {"label": None, "best": None, "confidence": None}
    shares: dict[str, float] = {}
    if whole is not None:
        labels = {name: whole.shares.labels.get(name, 0.0) for name in overall.labels}
        trend = {name: whole.trend.get(name, 0.0) for name in overall.labels if whole.trend}
        shares = {f"share_{name}": share for name, share in labels.items()}
        shares |= {"share_unclear": whole.shares.unclear, "silence": whole.shares.silence}
        shares |= {f"trend_{name}": change for name, change in trend.items()}
    scores = zip(overall.labels, overall.posteriors.tolist(), strict=True)
    return {
        "label": overall.label,
        "best": overall.best,
        "confidence": round(overall.confidence, 6),
        **{label: round(value, 6) for label, value in scores},
        **shares,
    }


def _write_details(base: Path, analysis: FileAnalysis, formats: Sequence[Format]) -> list[Path]:
    granularity = analysis.options.granularity
    if granularity == "utterance":
        if all(len(channel.pieces) < 2 for channel in analysis.channels):
            return []
    table = analysis.columns(pieces=granularity == "utterance")
    written: list[Path] = []
    name = f"{base.name}.{_DETAILS[granularity]}"
    if "csv" in formats:
        written.append(base.with_name(f"{name}.csv"))
        write_csv(written[-1], table)
    if "parquet" in formats:
        written.append(base.with_name(f"{name}.parquet"))
        write_parquet(written[-1], table)
    return written


class Report(Protocol):
    """Receives the progress of a batch."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One run, into a folder that is there.

    ``model``: SHA-256 of the analyser's. ``report`` gets the outcome of each file, and the
    progress.
    """

    folder: Path
    manifest: Manifest
    analyser: Analyser
    model: str
    formats: Sequence[Format]
    report: Report
    tally: Tally = field(default_factory=Tally)

    def run(self, files: Sequence[PlacedFile]) -> None:
        """Analyse the files that have no results yet.

        Raises:
            ConfigError: what is asked for cannot be had.
            EngineDeadError: nothing is scored any more.
            OSError: the folder cannot be written.
        """
        self.analyser.run(self._wanted(files), self._take, on_progress=self.report.moved)

    def _wanted(self, files: Sequence[PlacedFile]) -> Iterator[Wanted]:
        for file in files:
            path = file.found.path
            known = self.manifest.get(file.source)
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
                self.report.skipped()
                continue
            yield Wanted(path, file.place, fingerprint, sha256, about=file)

    def _is_done(self, known: Entry, sha256: str) -> bool:
        return (
            not known.error
            and known.key == self.analyser.key(sha256)
            and set(self.formats) <= set(known.formats)
            and all((self.folder / name).is_file() for name in known.outputs)
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
            self.report.done(answer.outcome.duration_s)

    def _write(self, file: PlacedFile, wanted: Wanted, analysis: FileAnalysis) -> None:
        former = self.manifest.get(file.source)
        outputs = write_outputs(self.folder, file.place, analysis, self.formats)
        entry = Entry(
            source=file.source,
            place=file.place,
            fingerprint=wanted.fingerprint,
            sha256=wanted.sha256,
            key=self.analyser.key(wanted.sha256),
            formats=tuple(self.formats),
            outputs=outputs,
            rows=rows_of(analysis),
            model=self.model,
        )
        self.manifest.add(entry)
        if former is not None:
            remove_outputs(self.folder, [each for each in former.outputs if each not in outputs])

    def _fail(self, file: PlacedFile, reason: str) -> None:
        self.tally.failed += 1
        entry = Entry(source=file.source, place=file.place, error=reason)
        if self.manifest.get(file.source) != entry:
            self.manifest.add(entry)
        self.report.failed(file.found.path, reason)


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
    errors = [{"name": entry.source, "error": entry.error} for entry in manifest if entry.error]
    if errors:
        write_csv(folder / "errors.csv", table_of_rows(errors))
        written.append("errors.csv")
    else:
        with contextlib.suppress(OSError):
            os.unlink(folder / "errors.csv")
    return tuple(written)
