"""``emotion-monitor config``: shows or checks the settings in effect."""

from __future__ import annotations

from typing import Annotated

import typer

from stream_server.cli.context import settings_of

__all__ = ["config"]


def config(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Print nothing but whether the settings are valid.")
    ] = False,
) -> None:
    """Print the settings in effect, as YAML."""
    settings = settings_of(context)
    print("the settings are valid" if check else settings.to_yaml().rstrip())
