"""The commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emotion_monitor.commands.options import (
    NoCacheOption,
    engine_config,
    load_engine,
    note,
    writing,
)

if TYPE_CHECKING:
    from ser_engine.files.embeddings import Embedding

_NAME_WIDTH, _VALUE_WIDTH = 32, 7

app = typer.Typer(
    help="Compare recordings by their embeddings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_Json = Annotated[
    bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")
]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Model that analyses recordings.  [default: the settings']"
    ),
]
_SOURCES = "Recordings, .npy files, or folders of results or recordings."


@app.command("similarity")
def similarity(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="A B…", help=_SOURCES)],
    as_json: _Json = False,
    model: _Model = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Print the cosine similarity of recordings: 1 identical, 0 unrelated."""
    from ser_engine.files.embeddings import cosine_matrix, stack

    found = _load(context, paths, model, no_cache)
    if len(found) < 2:
        raise typer.BadParameter("got one embedding, expected two or more", param_hint="A B…")
    alike = cosine_matrix(stack(found))
    if as_json:
        rounded = [[round(value, 6) for value in row] for row in alike.tolist()]
        print(json.dumps({"files": [each.name for each in found], "similarity": rounded}))
        return
    from rich.console import Console

    room = max(2, (Console().width - _NAME_WIDTH) // _VALUE_WIDTH)
    if len(found) > room:
        note(f"the table has {room} of {len(found)} recordings; --json prints them all")
    shown = min(len(found), room)
    columns = ["", "file", *(str(number) for number in range(1, shown + 1))]
    rows = [
        [str(number), each.name, *(f"{value:.3f}" for value in alike[number - 1, :shown].tolist())]
        for number, each in enumerate(found, start=1)
    ]
    _print_table(columns, rows[:shown])


@app.command("search")
def search(
    context: typer.Context,
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="A recording or a .npy file.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=_SOURCES)],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of results.")] = 10,
    as_json: _Json = False,
    model: _Model = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Find the recordings most similar to one."""
    from ser_engine.files.embeddings import nearest, stack

    if query.is_dir():
        raise typer.BadParameter("got a folder, expected one recording", param_hint="QUERY")
    found = _load(context, [query, folder], model, no_cache)
    is_query = [each.name == str(query) or each.name.startswith(f"{query}, ") for each in found]
    rows = stack(found)
    own = [number for number, yes in enumerate(is_query) if yes]
    others = [number for number, yes in enumerate(is_query) if not yes]
    # Of several channels the mean: whoever speaks in it.
    hits = nearest(rows[own].mean(axis=0), rows[others], count)
    named = [(found[others[index]].name, alike) for index, alike in hits]
    if as_json:
        print(json.dumps([{"file": name, "similarity": round(each, 6)} for name, each in named]))
    else:
        _print_table(["file", "similarity"], [[name, f"{each:.3f}"] for name, each in named])


@app.command("cluster")
def cluster(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=_SOURCES)],
    groups: Annotated[int, typer.Option("--groups", "-k", min=1, help="Number of groups.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE.html",
            help="Picture to write; the groups go into a .csv beside it.",
        ),
    ] = Path("clusters.html"),
    as_json: _Json = False,
    model: _Model = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Cluster recordings and draw the clusters."""
    from emotion_monitor.embeddings import write_picture
    from ser_engine.files.embeddings import cluster, project, stack
    from ser_engine.files.tables import write_csv

    found = _load(context, [folder], model, no_cache)
    rows = stack(found)
    numbers = cluster(rows, groups)
    points, shares = project(rows)
    table: dict[str, list[Any]] = {
        "file": [each.name for each in found],
        "cluster": [number + 1 for number in numbers],
        "x": [round(value, 6) for value in points[:, 0].tolist()],
        "y": [round(value, 6) for value in points[:, 1].tolist()],
    }
    csv = out.with_suffix(".csv")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_csv(csv, table)
        write_picture(out, table, shares)
    if as_json:
        rows_of_table = zip(*table.values(), strict=True)
        print(json.dumps([dict(zip(table, row, strict=True)) for row in rows_of_table]))
    else:
        sizes = [[str(group), str(table["cluster"].count(group))] for group in range(1, groups + 1)]
        _print_table(["cluster", "recordings"], sizes)
    note(f"{out}, {csv}")


def _load(
    context: typer.Context, paths: Sequence[Path], model: str | None, no_cache: bool
) -> list[Embedding]:
    from emotion_monitor.embeddings import embeddings_of

    config = engine_config(context, model)
    return embeddings_of(paths, lambda: load_engine(config), config, use_cache=not no_cache)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for column in columns:
        is_file = column == "file"
        table.add_column(
            column, justify="left" if is_file else "right", no_wrap=not is_file, overflow="fold"
        )
    for row in rows:
        # A file's name is no markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
