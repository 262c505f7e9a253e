"""``emotion-monitor models``: which models there are, fetching them, and whether they are sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_server.cli.context import settings_of

if TYPE_CHECKING:
    from ser_engine.config import EngineConfig
    from ser_engine.models.inventory import ModelOnDisk

__all__ = ["models"]

models = typer.Typer(
    help="List, fetch and check models.", no_args_is_help=True, pretty_exceptions_enable=False
)


@models.command("list")
def list_models(context: typer.Context) -> None:
    """Show the models on this machine, and which one the settings take."""
    from rich.console import Console

    from ser_engine.models.inventory import inventory
    from stream_server.cli.models_view import table

    config = settings_of(context).ser_engine
    found = inventory(config.model)
    console = Console()
    console.print(table(found, taken=_taken(config, found)))
    for line in _explanation(config, found):
        console.print(line, highlight=False, markup=False)


@models.command("pull")
def pull(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="emotion2vec_plus_large, _base or _seed, or auto: the right one for this machine.",
        ),
    ],
) -> None:
    """Fetch a model from a hub. A download that was broken off is resumed."""
    import asyncio

    from rich.console import Console

    from ser_engine.errors import CheckpointError
    from ser_engine.models.find import find_model, known_model, model_places
    from ser_engine.models.folder import FUNASR_LICENCE
    from ser_engine.models.hub_clients import MODEL_NAMES
    from stream_server.cli.models_view import fetch_with_bar
    from stream_server.engines.choice import best_published

    config = settings_of(context).ser_engine
    known = best_published(config) if name == "auto" else known_model(name)
    if known is None:
        raise typer.BadParameter(
            f"got '{name}', expected auto or one of {', '.join(MODEL_NAMES)}", param_hint="NAME"
        )
    if config.model.offline:
        raise CheckpointError(f"got model.offline on, expected it off to fetch {known}")
    console = Console(stderr=True)
    places = model_places(known, config.model)
    if not places:
        console.print(f"{known}: licence: {FUNASR_LICENCE}", highlight=False, soft_wrap=True)
        asyncio.run(fetch_with_bar(known, config, console))
    with console.status(f"reading {known}"):
        info = find_model(replace(config.model, name=known, offline=True)).info
    print(f"{known}: {info.source}, sha256 {info.sha256}")


@models.command("check")
def check(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A model's name or folder; none: every model on this machine."
        ),
    ] = None,
) -> None:
    """Read models whole, score a second of noise with each, and say whether they are sound."""
    from rich.console import Console

    from ser_engine.errors import CheckpointError, SerEngineError
    from stream_server.cli.models_check import run_check

    config = settings_of(context).ser_engine
    all_sound = True
    console = Console(stderr=True)
    for model in _to_check(config, name):
        with console.status(f"checking {model.name}"):
            try:
                result = run_check(model, config)
            except SerEngineError as error:
                all_sound = False
                verdict = "damaged" if isinstance(error, CheckpointError) else "not usable"
                print(f"{model.name} ({model.form}): {verdict.upper()}: {error}")
                continue
        print(
            f"{model.name} ({model.form}): sound, sha256 {result.sha256[:16]}, read in"
            f" {result.read_s:.1f} s, ready after {result.ready_s:.1f} s, 1 s of audio scored in"
            f" {result.score_ms:.0f} ms by {result.runtime}"
        )
    if not all_sound:
        raise typer.Exit(1)


def _to_check(config: EngineConfig, name: str | None) -> tuple[ModelOnDisk, ...]:
    from ser_engine.errors import CheckpointError
    from ser_engine.models.find import known_model
    from ser_engine.models.inventory import inventory, model_in_folder

    found = inventory(config.model)
    if name is None:
        return found
    if (folder := Path(name).expanduser()).is_dir():
        return (model_in_folder(folder, config.model),)
    wanted = tuple(model for model in found if model.name == (known_model(name) or name))
    if not wanted:
        fetch = f"; `emotion-monitor models pull {name}` fetches it" if known_model(name) else ""
        raise CheckpointError(f"got no model {name} on this machine, expected one{fetch}")
    return wanted


def _taken(config: EngineConfig, found: tuple[ModelOnDisk, ...]) -> ModelOnDisk | None:
    """Return the model the settings take, as far as can be told without reading it."""
    from ser_engine.models.find import known_model

    name = config.model.name
    if name == "auto":
        return found[0]
    wanted = known_model(name) or name
    return next((model for model in found if model.name == wanted), None)


def _explanation(config: EngineConfig, found: tuple[ModelOnDisk, ...]) -> list[str]:
    from ser_engine.models.hub_clients import MODEL_NAMES
    from stream_server.engines.choice import model_to_upgrade_to

    name, best = config.model.name, found[0].name
    auto = replace(config, model=replace(config.model, name="auto"))
    why = "the best on this machine" if best in MODEL_NAMES else "no emotion2vec+ is here"
    lines = [] if name == "auto" else [f"model.name is {name}."]
    lines.append(f"auto takes {best}: {why}.")
    if (better := model_to_upgrade_to(auto, best)) is not None:
        lines.append(f"While serving, auto fetches {better}; new streams use it once it is ready.")
    elif config.model.offline:
        lines.append("model.offline is on: no hub is asked.")
    return lines
