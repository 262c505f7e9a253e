"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AssignmentsOption", "ModelOption", "NoCacheOption"]

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="A model's folder or name, instead of the settings'."
    ),
]
AssignmentsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="As in front of the command."),
]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Analyse anew what was analysed before; keep nothing.")
]
