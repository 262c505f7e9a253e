"""``emotion-monitor engine``: the engine alone, for servers that reach it by ``zmq://``."""

from __future__ import annotations

from typing import Annotated

import typer

from emotion_monitor.commands.options import settings_of


def engine(
    context: typer.Context,
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="ADDRESS",
            help="Where servers reach it: zmq:///PATH on this machine, zmq://HOST:PORT elsewhere;"
            " nobody is asked who they are.",
        ),
    ],
) -> None:
    """Run an engine for servers whose ser_engine.model.name is its address."""
    from emotion_monitor.processes import run_engine
    from emotion_monitor.serve import run
    from stream_server.engines.pool import end_process
    from stream_server.logs import configure_logging

    settings = settings_of(context)
    configure_logging(settings.stream_server.logging)
    end_process(run(run_engine(settings, listen)))
