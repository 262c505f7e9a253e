"""The command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_monitor.commands.options import ModelOption, engine_config, note, writing

if TYPE_CHECKING:
    from ser_engine.config import EngineConfig


def compare(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="Page to write; the figures go into a .json beside it.",
        ),
    ] = Path("compare.html"),
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=1000, help="Measured runs of each granularity.")
    ] = 5,
    model: ModelOption = None,
) -> None:
    """Compare utterance, frame and stream on recordings: speed, memory, results."""
    from emotion_monitor.compare.page import compare_page
    from ser_engine.files.whole_files import whole_file, write_json

    config = engine_config(context, model)
    _open_each(files)
    document = _measured(files, config, repeats)
    _print(document)
    page = compare_page(document)
    for file in document["files"]:
        for channel in file["channels"]:
            del channel["chart"]
    beside = out.with_suffix(".json")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as partial:
            partial.write_text(page, encoding="utf-8")
        with whole_file(beside) as partial:
            write_json(partial, document)
    note(f"{out}, {beside}")


def _open_each(files: list[Path]) -> None:
    """See to it that the files are recordings, before anything is measured with one of them."""
    from ser_engine.files.audio import AudioFile

    for path in files:
        with AudioFile(path):
            pass


def _measured(files: list[Path], config: EngineConfig, repeats: int) -> dict[str, Any]:
    from rich.console import Console

    from emotion_monitor.compare.measure import measure

    with Console(stderr=True).status("measuring") as status:
        return measure(
            files, config, repeats, on_variant=lambda name: status.update(f"measuring {name}")
        )


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for column in ("granularity", "first", "steady", "peak memory", "smallest change"):
        table.add_column(column, justify="left" if column == "granularity" else "right")
    for each in document["granularities"]:
        change_ms = each["smallest_change_ms"]
        table.add_row(
            each["name"],
            f"{each['first_ms']:.0f} ms",
            f"{each['steady_ms']:.0f} ms",
            f"{each['peak_mib']:.0f} MiB",
            "none" if change_ms is None else f"{change_ms} ms",
        )
    Console().print(table)
