"""The ``emotion-monitor`` program: its commands, global options and exit status."""

from __future__ import annotations

import atexit
import gc
import io
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from emotion_monitor.commands import (
    agreement,
    alerts,
    analyze,
    compare,
    embeddings,
    models,
    options,
    oversight,
    people,
    person,
    report,
    serve,
    stream,
)
from emotion_monitor.commands.options import GlobalOptions
from ser_engine.errors import ConfigError, SerEngineError, how_to_install
from stream_server.wire.masking import masked_text

# Packages of the extra ``server``; an installation of the client lacks them.
_SERVER_PACKAGES = (
    "aiohttp",
    "alembic",
    "cryptography",
    "plotly",
    "prometheus_client",
    "safetensors",
    "sqlalchemy",
    "structlog",
    "torch",
    "webrtcvad",
    "zmq",
)

app = typer.Typer(
    name="emotion-monitor",
    help="Live speech-emotion monitoring: run the server, stream audio to it, analyse recordings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("agreement")(agreement.agreement)
app.command("analyze")(analyze.analyze)
app.command("analyse", hidden=True)(analyze.analyze)
app.add_typer(alerts.app, name="alerts")
app.command("capacity")(serve.capacity)
app.command("cluster-demo")(serve.cluster_demo)
app.command("compare")(compare.compare)
app.command("config")(options.config)
app.command("dossier")(oversight.dossier)
app.add_typer(embeddings.app, name="embeddings")
app.command("engine")(serve.engine)
app.command("export")(models.export)
app.add_typer(models.models, name="models")
app.add_typer(oversight.oversight, name="oversight")
app.add_typer(person.person, name="person")
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.command("stream")(stream.stream)
app.add_typer(people.tokens, name="token")
app.add_typer(people.users, name="user")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit status: 0, 1 where a command failed, 2 where the arguments or the settings are wrong, 130
    after Ctrl-C before the command could see to it.
    """
    _make_output_safe()
    _make_home()
    # With PyTorch the collector's pass at the end of a process takes longer than many a command.
    atexit.register(gc.freeze)
    try:
        app(
            args=_settings_first(sys.argv[1:] if arguments is None else arguments),
            prog_name="emotion-monitor",
        )
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _SERVER_PACKAGES:
            raise
        print(
            f"emotion-monitor: this command needs the engine or the server, and {error.name} is not"
            f" installed; {how_to_install('server')}",
            file=sys.stderr,
        )
        sys.exit(1)
    except SerEngineError as error:
        print(f"emotion-monitor: {masked_text(str(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _make_home() -> None:
    """Let ``~`` mean a folder where a user has no home: in containers, with an id of no account.

    It belongs to the user alone, for models are read from it.
    """
    try:
        Path.home()
    except RuntimeError:
        import tempfile

        folder = Path(tempfile.gettempdir()) / f"emotion-monitor-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if not is_ours or status.st_mode & 0o022:
                folder = Path(tempfile.mkdtemp(prefix="emotion-monitor-"))
        except OSError as error:
            print(
                f"emotion-monitor: this user has no home folder, and {folder} cannot be made:"
                f" {error.strerror}; set HOME to a folder",
                file=sys.stderr,
            )
            sys.exit(1)
        os.environ["HOME"] = str(folder)


def _settings_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with every ``--config`` and ``--set`` moved in front of the command.

    They are options of the program, and may be written after a command all the same.
    """
    first: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*first, *rest, word, *words]
        if word in ("--config", "--set"):
            value = next(words, None)
            if value is None:
                return [word]  # Alone, so that the parser says what is missing.
            first += [word, value]
        elif word.startswith(("--config=", "--set=")):
            first.append(word)
        else:
            rest.append(word)
    return [*first, *rest]


def _make_output_safe() -> None:
    """Keep a closed standard output, or one that lacks a character, from failing a command."""
    # Python leaves it None if file descriptor 1 is closed (`emotion-monitor … >&-`).
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="replace")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"emotion-monitor {version('emotion-monitor')}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings file to read instead of config.yaml. Also after a command.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change one setting, e.g. ser_engine.timeline.window_ms=3000. Also after a"
            " command;"
            " may be repeated.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    context.obj = GlobalOptions(config_file, tuple(assignments or ()))
