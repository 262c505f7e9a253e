"""The engine of a command, and what it says of itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from emotion_monitor.context import GlobalOptions

if TYPE_CHECKING:
    import typer

    from ser_engine.config import EngineConfig
    from ser_engine.files import Engine
    from ser_engine.models.hub import FetchProgress


def note(message: str) -> None:
    """Say something on standard error, in one line, where it is in no program's way."""
    print(f"emotion-monitor: {printable(message)}", file=sys.stderr)


def printable(text: str) -> str:
    """Return text without what a file's name could do to a terminal."""
    return "".join(each if each.isprintable() else "�" for each in text)


def engine_config(
    context: typer.Context, assignments: list[str] | None, model: str | None
) -> EngineConfig:
    """Return the engine's settings.

    Args:
        context: with the global options.
        assignments: of the command's own ``--set``.
        model: of its ``--model``, which goes before the settings.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    from emotion_monitor.settings import load_settings

    options = context.find_object(GlobalOptions)
    assert options is not None, "the app's callback runs before every command"
    settings = load_settings(options.config_file, (*options.assignments, *(assignments or ())))
    config = settings.ser_engine
    return config if model is None else replace(config, model=replace(config.model, name=model))


def build_engine(config: EngineConfig) -> Engine:
    """Return the engine the settings ask for. Imported late: torch takes seconds."""
    from rich.console import Console

    from ser_engine.core.factory import build_engine as build

    with Console(stderr=True).status("loading the model") as status:
        return build(config, progress=lambda fetched: status.update(_progress(fetched)))


def load_engine(config: EngineConfig) -> Engine:
    """Return the engine, its model's name, licence and notice said."""
    engine = build_engine(config)
    note(f"model: {engine.info.name} ({engine.info.licence})")
    if engine.info.notice:
        note(engine.info.notice)
    return engine


def _progress(fetched: FetchProgress) -> str:
    total = "" if fetched.total_bytes is None else f" of {fetched.total_bytes >> 20}"
    return f"fetching {fetched.model} from {fetched.hub}: {fetched.done_bytes >> 20}{total} MiB"
