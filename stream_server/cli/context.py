"""What the global options say, for the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from stream_server.settings import Settings

__all__ = ["GlobalOptions", "settings_of"]


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
        ConfigError: a setting is unknown or wrong; :func:`stream_server.cli.main` reports it.
    """
    from stream_server.settings import load_settings

    options = context.find_object(GlobalOptions)
    assert options is not None, "the app's callback runs before every command"
    return load_settings(options.config_file, options.assignments)
