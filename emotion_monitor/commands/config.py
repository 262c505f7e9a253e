"""``emotion-monitor config``: shows or checks the settings in effect."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from emotion_monitor.commands.options import settings_of


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
