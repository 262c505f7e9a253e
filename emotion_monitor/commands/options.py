"""Options that several commands share, the settings and the engine they select, and ``config``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings
    from ser_engine.config import EngineConfig
    from ser_engine.files import Engine
    from ser_engine.models.hub import FetchProgress
    from ser_engine.raw_audio import RawFormat

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Model to use: a name or a folder.  [default: the settings']",
    ),
]
RecursiveOption = Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders.")]
ServerCertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--server-certificate",
        metavar="FILE",
        envvar="EMOTION_MONITOR_SERVER_CERTIFICATE",
        help="Trust the server with this certificate (PEM) alone, whatever its name is.",
    ),
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Neither reuse nor keep results.")]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options of the program itself.

    Attributes:
        config_file: the file of ``--config``; None: the installed ``config.yaml``.
    """

    config_file: Path | None
    assignments: tuple[str, ...]


def settings_of(context: typer.Context) -> Settings:
    """Return the settings in effect for the running command.

    Raises:
        ConfigError: a setting is unknown or wrong; :func:`emotion_monitor.main` reports it.
    """
    from emotion_monitor.settings import load_settings

    options = context.find_object(GlobalOptions)
    assert options is not None, "the app's callback runs before every command"
    return load_settings(options.config_file, options.assignments)


def config(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Only check whether the settings are valid.")
    ] = False,
    defaults: Annotated[
        bool,
        typer.Option("--defaults", help="Print a commented config.yaml with the defaults."),
    ] = False,
) -> None:
    """Print the effective settings as YAML, with secrets masked."""
    from emotion_monitor.settings import Settings
    from stream_server.wire.masking import masked

    if defaults:
        print(Settings().to_commented_yaml(), end="")
        return
    settings = settings_of(context)
    if check:
        print("the settings are valid")
        return
    # What is printed ends up in tickets and chats.
    shown = masked(yaml.safe_load(settings.to_yaml()))
    print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip())


def note(message: str) -> None:
    """Print one line to standard error, which leaves standard output to the results."""
    print(f"emotion-monitor: {printable(message)}", file=sys.stderr)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """End the command with one line where what it writes cannot be written."""
    try:
        yield
    except OSError as error:
        note(f"{path}: cannot be written: {error.strerror or error}")
        raise typer.Exit(1) from None


def printable(text: str) -> str:
    """Return text without control characters."""
    # A file's name may hold escape sequences, which a terminal would obey.
    return "".join(each if each.isprintable() else "�" for each in text)


def engine_config(context: typer.Context, model: str | None) -> EngineConfig:
    """Return the engine's settings with the command's own ``--model`` applied.

    Raises:
        ConfigError: a setting is unknown or wrong.
    """
    config = settings_of(context).ser_engine
    return config if model is None else replace(config, model=replace(config.model, name=model))


def build_engine(config: EngineConfig) -> Engine:
    """Return the engine of the settings, with a spinner while it loads."""
    from rich.console import Console

    from ser_engine.core.factory import build_engine as build

    with Console(stderr=True).status("loading the model") as status:
        return build(config, progress=lambda fetched: status.update(_progress(fetched)))


def load_engine(config: EngineConfig) -> Engine:
    """Return the engine; print its model's name, licence and notice."""
    engine = build_engine(config)
    note(f"model: {engine.info.name} ({engine.info.licence})")
    if engine.info.notice:
        note(engine.info.notice)
    return engine


def _progress(fetched: FetchProgress) -> str:
    total = "" if fetched.total_bytes is None else f" of {fetched.total_bytes >> 20}"
    return f"fetching {fetched.model} from {fetched.hub}: {fetched.done_bytes >> 20}{total} MiB"


def raw_format(encoding: str | None, rate_hz: int | None, num_channels: int) -> RawFormat | None:
    """Return what files without a header hold; None: it was not said.

    Raises:
        typer.BadParameter: the options do not go together, or a value is none of those allowed.
    """
    from ser_engine.errors import AudioError
    from ser_engine.raw_audio import RawFormat
    from stream_server.wire.codecs import CODED

    if encoding is None:
        if rate_hz is not None or num_channels != 1:
            raise typer.BadParameter(
                "got a rate or channels without --encoding; a file without a header needs"
                " all of them"
            )
        return None
    if encoding in CODED:
        raise typer.BadParameter(
            f"got --encoding {encoding} for a file, whose header names its encoding; leave"
            " --encoding out"
        )
    if rate_hz is None:
        raise typer.BadParameter("got no --rate, expected the sample rate of the raw samples, Hz")
    try:
        return RawFormat(encoding, rate_hz, num_channels)
    except AudioError as error:
        raise typer.BadParameter(str(error)) from None
