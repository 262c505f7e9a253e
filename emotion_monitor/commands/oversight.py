"""``emotion-monitor dossier`` and ``oversight``: the technical file; a stop without a browser."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Annotated

import typer

from emotion_monitor.commands.options import note, settings_of, writing

oversight = typer.Typer(
    help="Halt or resume all analysis; the store remembers it.", no_args_is_help=True
)

_Reason = Annotated[str, typer.Option("--reason", help="The reason, for the audit.")]


def dossier(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="File to write.  [default: standard output]"),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="HTML instead of Markdown.")] = False,
) -> None:
    """Write the technical file of this installation: models, accuracy, settings, limits."""
    from emotion_monitor.dossier import as_html
    from emotion_monitor.dossier import dossier as make

    text = make(settings_of(context), now=datetime.datetime.now(datetime.UTC))
    text = as_html(text) if html else text
    if out is None:
        print(text, end="")
        return
    with writing(out):
        out.write_text(text, encoding="utf-8")
    note(f"wrote {out}")


@oversight.command("halt")
def halt(context: typer.Context, reason: _Reason) -> None:
    """Halt all analysis; every server with this store stops within seconds."""
    _set(context, halted=True, reason=reason)


@oversight.command("resume")
def resume(context: typer.Context, reason: _Reason) -> None:
    """Resume analysis."""
    _set(context, halted=False, reason=reason)


@oversight.command("show")
def show(context: typer.Context) -> None:
    """Say whether analysis is halted."""
    from emotion_monitor.commands.people import database
    from stream_server.store.ledger import latest_halt

    with database(context) as connection:
        found = latest_halt(connection)
    state = "halted" if found.halted else "running"
    print(f"{state}, {found.by}: {found.reason}" if found.at else state)


def _set(context: typer.Context, *, halted: bool, reason: str) -> None:
    from emotion_monitor.commands.people import add_to_audit, database, system_user
    from stream_server.rights import Halt
    from stream_server.store.ledger import add_halt

    word = Halt(halted=halted, at=time.time(), by=system_user(), reason=reason)
    action = "analysis_halted" if halted else "analysis_resumed"
    with database(context) as connection:
        add_halt(connection, word)
        add_to_audit(connection, action, "", reason)
    note("all analysis is halted" if halted else "analysis goes on")
