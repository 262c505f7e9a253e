"""Each recording's results in a dated folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from emotion_monitor.commands.options import note
from ser_engine.config import EngineConfig
from ser_engine.errors import SerEngineError
from ser_engine.files import AnalysisOptions, Engine, FileAnalysis
from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
from ser_engine.files.folders import write_result_folder
from ser_engine.files.search import find_recordings


def analyze_dated(
    engine: Engine,
    config: EngineConfig,
    options: AnalysisOptions,
    names: Sequence[Path],
    recursive: bool,
    parent: Path,
    *,
    use_cache: bool,
) -> bool:
    """Analyse recordings, print the folder of each; return whether everything went well."""
    failed: list[str] = []

    def fail(line: str) -> None:
        failed.append(line)
        note(line)

    def take(answer: Answer) -> None:
        path = answer.wanted.path
        if not isinstance(answer.outcome, FileAnalysis):
            fail(f"{path}: {answer.outcome}")
            return
        try:
            folder = write_result_folder(parent, path, answer.outcome, now=datetime.now)
        except SerEngineError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{parent}: cannot be written: {error.strerror or error}")
        else:
            print(folder, flush=True)

    # Listed before anything is written: where results go may be where recordings are.
    found = list(
        find_recordings(
            names,
            recursive=recursive,
            on_unreadable=lambda path, reason: fail(f"{path}: {reason}"),
        )
    )
    if not found:
        fail(f"{', '.join(map(str, names))}: there are no recordings")
    analyser = FileAnalyser(engine, config, options, use_cache=use_cache)
    analyser.run([Wanted(each.path, each.path.name) for each in found], take)
    return not failed
