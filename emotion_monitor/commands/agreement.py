"""``emotion-monitor agreement``: the model held against people's labels, and clips to train on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_monitor.commands.options import (
    ModelOption,
    NoCacheOption,
    RecursiveOption,
    engine_config,
    load_engine,
    note,
    printable,
)

if TYPE_CHECKING:
    from emotion_monitor.agreement import Labelled
    from ser_engine.config import EngineConfig
    from ser_engine.files.annotations import Agreement
    from ser_engine.files.run import Engine


def agreement(
    context: typer.Context,
    names: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR",
            help="Recordings, or folders of them. The labels lie beside each: call.TextGrid"
            " (Praat), call.eaf (ELAN) or call.labels.txt (Audacity) for call.wav.",
        ),
    ],
    tier: Annotated[
        str | None,
        typer.Option(
            "--tier",
            metavar="NAME",
            help="Tier with the labels.  [default: the only one with labels of the model]",
        ),
    ] = None,
    channel: Annotated[
        int | None,
        typer.Option(
            "--channel",
            metavar="N",
            min=0,
            help="Channel that is labelled, from 0.  [default: the number at the end of the tier's"
            " name, or 0]",
        ),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            "--clips",
            metavar="DIR",
            help="Write the labelled parts there, with a manifest.csv: a corpus to train on.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    recursive: RecursiveOption = False,
    no_cache: NoCacheOption = False,
    model: ModelOption = None,
) -> None:
    """Compare the model with people's labels of recordings."""
    from emotion_monitor.agreement import write_clips
    from ser_engine.files.annotations import agreement_of_all

    config = engine_config(context, model)
    engine = load_engine(config)
    failed: list[str] = []

    def fail(line: str) -> None:
        failed.append(line)
        note(line)

    labelled = _read(names, recursive, engine, tier, channel, fail)
    if not labelled and not failed:
        fail(f"{', '.join(map(str, names))}: there are no recordings")
    found = _held(labelled, engine, config, fail, use_cache=not no_cache)
    total = agreement_of_all(each for _, each in found)
    if as_json:
        files = [
            {"file": str(one.path), "channel": one.channel, "tier": one.tier.name}
            | {"other_labels_s": one.foreign_s}
            | _document(each)
            for one, each in found
        ]
        print(json.dumps({"files": files, "total": _document(total)}, ensure_ascii=False))
    elif found:
        _print(found, total)
    if clips is not None and found:
        try:
            written = write_clips(clips, [one for one, _ in found], clips.name or "own")
        except OSError as error:
            fail(f"{clips}: cannot be written: {error.strerror or error}")
        else:
            note(f"{clips}: {written} clips")
    if failed:
        raise typer.Exit(1)


def _read(
    names: list[Path],
    recursive: bool,
    engine: Engine,
    tier: str | None,
    channel: int | None,
    fail: Callable[[str], None],
) -> dict[Path, Labelled]:
    from emotion_monitor.agreement import read_labelled
    from ser_engine.errors import AnnotationError
    from ser_engine.files.search import find_recordings

    labelled = {}
    recordings = find_recordings(
        names,
        recursive=recursive,
        on_unreadable=lambda path, reason: fail(f"{path}: {reason}"),
    )
    for recording in recordings:
        try:
            labelled[recording.path] = read_labelled(
                recording.path, engine.info.labels, tier=tier, channel=channel
            )
        except AnnotationError as error:
            fail(str(error))
    return labelled


def _held(
    labelled: dict[Path, Labelled],
    engine: Engine,
    config: EngineConfig,
    fail: Callable[[str], None],
    *,
    use_cache: bool,
) -> list[tuple[Labelled, Agreement]]:
    """Return those that could be analysed, in the order of the recordings."""
    from emotion_monitor.agreement import held_against
    from ser_engine.errors import AnnotationError
    from ser_engine.files import AnalysisOptions, FileAnalysis
    from ser_engine.files.analyser import Answer, FileAnalyser, Wanted

    found: dict[Path, Agreement] = {}

    def take(answer: Answer) -> None:
        path = answer.wanted.path
        if not isinstance(answer.outcome, FileAnalysis):
            fail(f"{path}: {answer.outcome}")
            return
        try:
            found[path] = held_against(labelled[path], answer.outcome)
        except AnnotationError as error:
            fail(str(error))

    options = AnalysisOptions(granularity="stream")
    analyser = FileAnalyser(engine, config, options, use_cache=use_cache)
    analyser.run([Wanted(path, path.name) for path in labelled], take)
    return [(one, found[path]) for path, one in labelled.items() if path in found]


def _document(agreement: Agreement) -> dict[str, Any]:
    return {
        "seconds": round(agreement.seconds, 3),
        "share": round(agreement.share, 4),
        "kappa": None if agreement.kappa is None else round(agreement.kappa, 4),
        "uar": None if agreement.uar is None else round(agreement.uar, 4),
        "recalls": {label: round(recall, 4) for label, recall in agreement.recalls.items()},
        "confusion_s": {
            label: {other: round(seconds, 3) for other, seconds in row.items()}
            for label, row in agreement.confusion.items()
        },
    }


def _print(found: list[tuple[Labelled, Agreement]], total: Agreement) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for column in ("recording", "labels", "compared", "agree", "kappa", "recall"):
        table.add_column(column, justify="left" if column in ("recording", "labels") else "right")
    rows = [(printable(str(one.path)), one.tier.name, each) for one, each in found]
    for name, labels, each in [*rows, ("all", "", total)]:
        table.add_row(Text(name), Text(printable(labels)), f"{each.seconds:.1f} s", *_figures(each))
    console = Console()
    console.print(table)
    said = sorted({other for row in total.confusion.values() for other in row})
    console.print("\nSeconds of each label (down) that the model calls so (across):")
    confusion = Table(box=None)
    confusion.add_column("")
    for label in said:
        confusion.add_column(label, justify="right")
    for label, row in sorted(total.confusion.items()):
        confusion.add_row(Text(label), *(f"{row.get(other, 0):.1f}" for other in said))
    console.print(confusion)
    for one, _ in found:
        for text, seconds in sorted(one.foreign_s.items()):
            note(f"{one.path}: left out {seconds:.1f} s of '{text}', which the model does not know")


def _figures(agreement: Agreement) -> tuple[str, str, str]:
    kappa = "–" if agreement.kappa is None else f"{agreement.kappa:.2f}"
    uar = "–" if agreement.uar is None else f"{agreement.uar:.2f}"
    share = f"{agreement.share:.0%}" if agreement.seconds else "–"
    return share, kappa, uar
