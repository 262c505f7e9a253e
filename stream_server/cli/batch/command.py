"""``emotion-monitor analyze … --out``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from ser_engine.config import EngineConfig
from ser_engine.offline import AnalysisOptions, Engine
from ser_engine.offline.file_search import find_recordings
from stream_server.cli.batch.manifest import Manifest
from stream_server.cli.batch.outputs import Format
from stream_server.cli.batch.places import place_all
from stream_server.cli.batch.progress import ProgressReport, hours
from stream_server.cli.batch.run import Batch, Tally, write_tables
from stream_server.cli.engine import note
from stream_server.cli.file_analyser import FileAnalyser

__all__ = ["analyze_batch"]

_INTERRUPTED = 130


def analyze_batch(
    open_engine: Callable[[], Engine],
    config: EngineConfig,
    options: AnalysisOptions,
    names: Sequence[Path],
    out: Path,
    formats: Sequence[Format],
    *,
    recursive: bool,
    scores: bool,
    use_cache: bool,
) -> bool:
    """Analyse recordings into a folder; return whether all could be analysed.

    Raises:
        typer.Exit: it was interrupted, or the folder cannot be written.
    """
    unreadable: list[str] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(out)
        found = find_recordings(
            names,
            recursive=recursive,
            leave_out=out,
            on_unreadable=lambda path, reason: unreadable.append(f"{path}: {reason}"),
        )
        files = place_all(found, manifest)
        for line in unreadable:
            note(line)
        if not files:
            note(f"{', '.join(map(str, names))}: there are no recordings")
            return False
        engine = open_engine()
        with ProgressReport(len(files)) as report:
            batch = Batch(
                out,
                manifest,
                FileAnalyser(engine, config, options, use_cache=use_cache),
                engine.info.sha256,
                formats,
                scores=scores,
                report=report,
            )
            is_interrupted = False
            try:
                batch.run(files)
            except KeyboardInterrupt:
                is_interrupted = True
            finally:
                tables = write_tables(out, formats)
    except OSError as error:
        note(f"{out}: cannot be written: {error.strerror or error}")
        raise typer.Exit(1) from None
    _say(batch.tally, out, tables)
    if is_interrupted:
        left = len(files) - batch.tally.ended
        note(f"stopped with {left} files left; the same command again goes on with them")
        sys.exit(_INTERRUPTED)
    return not batch.tally.failed and not unreadable


def _say(tally: Tally, out: Path, tables: Sequence[str]) -> None:
    parts = [f"{tally.analysed} analysed ({hours(tally.audio_s)} of audio)"]
    if tally.kept:
        parts.append(f"{tally.kept} of them known from before")
    if tally.skipped:
        parts.append(f"{tally.skipped} had results already")
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    note(f"{', '.join(parts)}; {out}: {', '.join(('index.jsonl', *tables))}")
