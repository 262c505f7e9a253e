"""``emotion-monitor serve``, the server, and ``engine``, an engine alone; in the foreground."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.commands.options import settings_of

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings


def serve(
    context: typer.Context,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address to listen on.  [default: stream_server.listen.host]"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port for audio; 0: any free port.  [default: 8765]"),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            "--http-port",
            help="Port for dashboard, API, feeds and metrics; 0: any free port.  [default: 7860]",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Also stream the sample call to the server.")
    ] = False,
) -> None:
    """Run the server: receive audio, analyse it live, publish the results."""
    from emotion_monitor.serve import run, run_server
    from stream_server.engines.pool import end_process
    from stream_server.logs import configure_logging

    settings = _changed(settings_of(context), host, port, http_port)
    configure_logging(settings.stream_server.logging)
    status = run(run_server(settings, demo=demo))
    end_process(status)


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


def _changed(
    settings: Settings, host: str | None, port: int | None, http_port: int | None
) -> Settings:
    listen = settings.stream_server.listen
    listen = replace(
        listen,
        host=listen.host if host is None else host,
        port=listen.port if port is None else port,
        http_port=listen.http_port if http_port is None else http_port,
    )
    return settings.model_copy(
        update={"stream_server": replace(settings.stream_server, listen=listen)}
    )
