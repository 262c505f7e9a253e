"""What the global options say, for the commands.

Options that several commands have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings

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


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options in front of the command's name.

    Attributes:
        config_file: the file of ``--config``; None: the installed ``config.yaml``.
        assignments: the values of ``--set``, in order.
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
