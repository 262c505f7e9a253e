"""``emotion-monitor analyze``: what is heard in recordings.

Results go to standard output; the model in use, its notice and whatever went wrong go to
standard error. A file that cannot be analysed costs one line there and the exit status 1; the
others are analysed all the same.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ser_engine.errors import SerEngineError
from stream_server.cli.context import GlobalOptions

if TYPE_CHECKING:
    from ser_engine.config import EngineConfig
    from ser_engine.models.hub import FetchProgress
    from ser_engine.offline import Engine, Result
    from stream_server.cli.analyze_view import Analysis

__all__ = ["GranularityName", "analyze", "build_engine"]


class GranularityName(StrEnum):
    """The values of ``--granularity``."""

    UTTERANCE = "utterance"
    FRAME = "frame"
    STREAM = "stream"


def analyze(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings.")],
    granularity: Annotated[
        GranularityName,
        typer.Option(
            "--granularity",
            "-g",
            help="utterance: one result for all; frame: one every 20 ms;"
            " stream: the timeline a live stream gives.",
        ),
    ] = GranularityName.UTTERANCE,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")
    ] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Tell of every class.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="A model's folder or name, instead of the settings'."
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            metavar="FILE.npy",
            help="Save the embeddings: (dim,) for an utterance, (frames, dim) for frames. With"
            " several results the files are numbered: FILE.1.npy, FILE.2.npy, …",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="As in front of the command."),
    ] = None,
) -> None:
    """Say what is heard in recordings."""
    if embeddings is not None and granularity is GranularityName.STREAM:
        raise typer.BadParameter(
            "a stream has none; use -g utterance or frame", param_hint="--embeddings"
        )
    config = _config(context, assignments or [], model)
    engine = _load_engine(config)
    analyses, failed = _analyze_all(engine, config, files, granularity, embeddings is not None)
    if as_json:
        # A failed file must not change the form that programs read.
        if len(files) > 1 or analyses:
            print(json.dumps(_document(analyses, len(files), scores=scores), ensure_ascii=False))
    elif analyses:
        from rich.console import Console

        from stream_server.cli.analyze_view import view

        Console().print(view(analyses, scores=scores))
    if embeddings is not None:
        failed |= not _save_embeddings(embeddings, [each.result for each in analyses])
    if failed:
        raise typer.Exit(1)


def _config(context: typer.Context, assignments: list[str], model: str | None) -> EngineConfig:
    from stream_server.settings import load_settings

    options = context.find_object(GlobalOptions)
    assert options is not None, "the app's callback runs before every command"
    settings = load_settings(options.config_file, (*options.assignments, *assignments))
    config = settings.ser_engine
    return config if model is None else replace(config, model=replace(config.model, name=model))


def build_engine(config: EngineConfig) -> Engine:
    """Return the engine the settings ask for. Imported late: torch takes seconds."""
    from rich.console import Console

    from ser_engine.factory import build_engine as build

    with Console(stderr=True).status("loading the model") as status:
        return build(config, progress=lambda fetched: status.update(_progress(fetched)))


def _progress(fetched: FetchProgress) -> str:
    total = "" if fetched.total_bytes is None else f" of {fetched.total_bytes >> 20}"
    return f"fetching {fetched.model} from {fetched.hub}: {fetched.done_bytes >> 20}{total} MiB"


def _load_engine(config: EngineConfig) -> Engine:
    engine = build_engine(config)
    _note(f"model: {engine.info.name} ({engine.info.licence})")
    if engine.info.notice:
        _note(engine.info.notice)
    return engine


def _analyze_all(
    engine: Engine,
    config: EngineConfig,
    files: list[Path],
    granularity: GranularityName,
    embeddings: bool,
) -> tuple[list[Analysis], bool]:
    from rich.console import Console

    from ser_engine.offline import analyze
    from stream_server.cli.analyze_view import Analysis

    console = Console(stderr=True)
    analyses: list[Analysis] = []
    failed = False
    for path in files:
        try:
            with console.status(f"analysing {path.name}"):
                found = analyze(
                    path, granularity.value, engine=engine, config=config, embeddings=embeddings
                )
        except SerEngineError as error:
            _note(str(error))
            failed = True
            continue
        for number, channel in enumerate(found.channels, start=1):
            analysis = Analysis(path, number, len(found.channels), channel.result)
            analyses.append(analysis)
            for warning in channel.warnings:
                _note(f"{analysis.title}: {warning.code}: {warning.message}")
    return analyses, failed


def _document(analyses: list[Analysis], num_files: int, *, scores: bool) -> Any:
    """Return the bare result of a single file with a single channel, otherwise a list."""
    if num_files == 1 and len(analyses) == 1:
        return analyses[0].result.to_json(scores=scores)
    return [_entry(each, scores=scores) for each in analyses]


def _entry(analysis: Analysis, *, scores: bool) -> dict[str, Any]:
    body = analysis.result.to_json(scores=scores)
    if isinstance(body, list):
        body = {"granularity": "frame", "frames": body}
    return {"file": str(analysis.path), "channel": analysis.channel, **body}


def _save_embeddings(path: Path, results: list[Result]) -> bool:
    """Write one file a result; return whether that worked."""
    import numpy as np

    from ser_engine.offline import FrameResult, UtteranceResult

    for number, result in enumerate(results, start=1):
        target = path if len(results) == 1 else path.with_suffix(f".{number}{path.suffix}")
        match result:
            case UtteranceResult(embedding=array):
                pass
            case FrameResult(embeddings=array) if array is not None:
                pass
            case _:
                continue
        try:
            with target.open("wb") as file:
                np.save(file, array)
        except OSError as error:
            _note(f"{target}: cannot be written: {error.strerror}")
            return False
        _note(f"{target}: embeddings {array.shape}")
    return True


def _note(message: str) -> None:
    print(f"emotion-monitor: {message}", file=sys.stderr)
