"""Results on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from ser_engine.config import EngineConfig
from ser_engine.offline import AnalysisOptions, Engine, FileAnalysis, FrameResult, UtteranceResult
from ser_engine.offline.file_search import find_recordings
from ser_engine.offline.job import AnalysisJob
from ser_engine.offline.whole_files import whole_file
from stream_server.cli.analyze_view import Analysis, view
from stream_server.cli.engine import note, printable
from stream_server.cli.file_analyser import Answer, FileAnalyser, Wanted

__all__ = ["analyze_print"]


def analyze_print(
    engine: Engine,
    config: EngineConfig,
    options: AnalysisOptions,
    names: Sequence[Path],
    *,
    recursive: bool,
    as_json: bool,
    scores: bool,
    embeddings: Path | None,
    use_cache: bool,
) -> bool:
    """Analyse recordings and print the results; return whether everything went well."""
    unreadable: list[str] = []
    found = find_recordings(
        names,
        recursive=recursive,
        on_unreadable=lambda path, reason: unreadable.append(f"{path}: {reason}"),
    )
    wanted = [Wanted(each.path, str(each.path), about=number) for number, each in enumerate(found)]
    answers: list[Answer] = []
    analyser = FileAnalyser(engine, config, options, use_cache=use_cache)
    with Console(stderr=True).status(_status(wanted, 0.0)) as status:

        def show(job: AnalysisJob) -> None:
            share = job.progress if len(wanted) == 1 else len(answers) / len(wanted)
            status.update(_status(wanted, share))

        analyser.run(wanted, answers.append, on_progress=show)
    answers.sort(key=lambda answer: answer.wanted.about)
    for line in unreadable:
        note(line)
    if not wanted and not unreadable:
        note(f"{', '.join(map(str, names))}: there are no recordings{_hint(recursive)}")
    analyses = [each for answer in answers for each in _analyses(answer)]
    is_bare = len(wanted) == 1 and wanted[0].path == names[0]
    if as_json:
        # A failed file must not change the form that programs read.
        if not is_bare or analyses:
            print(json.dumps(_document(analyses, is_bare, scores=scores), ensure_ascii=False))
    elif analyses:
        Console().print(view(analyses, scores=scores))
    is_fine = bool(wanted) and not unreadable
    is_fine &= all(isinstance(answer.outcome, FileAnalysis) for answer in answers)
    return (embeddings is None or _save_embeddings(embeddings, analyses)) and is_fine


def _status(wanted: Sequence[Wanted], share: float) -> Text:
    what = printable(wanted[0].path.name) if len(wanted) == 1 else f"{len(wanted)} recordings"
    # A file's name is no markup.
    return Text(f"analysing {what}: {share:.0%}")


def _hint(recursive: bool) -> str:
    return "" if recursive else "; --recursive looks into folders in folders"


def _analyses(answer: Answer) -> list[Analysis]:
    """Return a file's channels; say what is wrong with them, or with the file."""
    path, outcome = answer.wanted.path, answer.outcome
    if not isinstance(outcome, FileAnalysis):
        note(f"{path}: {outcome}")
        return []
    analyses: list[Analysis] = []
    for number, channel in enumerate(outcome.channels, start=1):
        analyses.append(analysis := Analysis(path, number, len(outcome.channels), channel.result))
        for warning in channel.warnings:
            note(f"{analysis.title}: {warning.code}: {warning.message}")
    return analyses


def _document(analyses: list[Analysis], is_bare: bool, *, scores: bool) -> Any:
    """Return the bare result of a single file with a single channel, otherwise a list."""
    if is_bare and len(analyses) == 1:
        return analyses[0].result.to_json(scores=scores)
    return [_entry(each, scores=scores) for each in analyses]


def _entry(analysis: Analysis, *, scores: bool) -> dict[str, Any]:
    body = analysis.result.to_json(scores=scores)
    if isinstance(body, list):
        body = {"granularity": "frame", "frames": body}
    return {"file": str(analysis.path), "channel": analysis.channel, **body}


def _save_embeddings(path: Path, analyses: Sequence[Analysis]) -> bool:
    """Write one file a result; return whether that worked."""
    for number, analysis in enumerate(analyses, start=1):
        target = path if len(analyses) == 1 else path.with_suffix(f".{number}{path.suffix}")
        match analysis.result:
            case UtteranceResult(embedding=array):
                pass
            case FrameResult(embeddings=array) if array is not None:
                pass
            case _:
                continue
        try:
            with whole_file(target) as partial, partial.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        except OSError as error:
            note(f"{target}: cannot be written: {error.strerror or error}")
            return False
        note(f"{target}: embeddings {array.shape}")
    return True
