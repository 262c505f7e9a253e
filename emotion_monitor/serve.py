"""``emotion-monitor serve``: the server, in the foreground.

How a server's coroutine is run: on a quick event loop, beside an engine's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from emotion_monitor.context import settings_of

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings
    from stream_server.feeds.source import FeedSource
    from stream_server.server import Server

T = TypeVar("T")

SWITCH_INTERVAL_S = 0.0001
"""Longest time a busy thread keeps the interpreter from another one that waits for it. An engine's
thread asks for it back after each of a network's hundred operations; with Python's default of 5 ms
a busy event loop made a forward pass take ten times as long (80 live streams on two cores: median
lag 1.1 s with the default, 0.4 s with this)."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in a new event loop, uvloop's where it is installed."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=_quick_loop()) as runner:
        return runner.run(main)


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # asyncio's own loop does the same, slower.
    return uvloop.new_event_loop


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", help="Listen there instead of the settings' address.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Take audio in there; 0: any free port.")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option("--http-port", help="Serve feeds there; 0: any free port.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Play a sample call to the server and show it.")
    ] = False,
) -> None:
    """Serve: take audio in, score it live, tell programs of it."""
    from emotion_monitor.serve import run
    from stream_server.engines.pool import end_process
    from stream_server.logs import configure_logging

    settings = _changed(settings_of(context), host, port, http_port)
    configure_logging(settings.stream_server.logging)
    status = run(_serve(settings, demo))
    end_process(status)


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


async def _serve(settings: Settings, demo: bool) -> int:
    from stream_server.server import Server
    from stream_server.store import StoreError

    stopped = _until_signal()
    server = Server(
        settings.ser_engine, settings.stream_server, serve_more=_more_to_serve(settings)
    )
    starting: asyncio.Future[Any] = asyncio.ensure_future(server.__aenter__())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return 0
        await starting
    except (OSError, StoreError) as error:
        _say(str(error))
        return 1
    try:
        _announce(server, settings.dashboard.enabled)
        if demo:
            await _play_sample_call(server, stopped)
        await stopped
    finally:
        await server.__aexit__(None, None, None)
    return 0


def _more_to_serve(settings: Settings) -> Callable[[Server, FeedSource], None] | None:
    if not settings.dashboard.enabled:
        return None
    from emotion_monitor.dashboard import serve_dashboard

    return lambda server, source: serve_dashboard(settings, server, source)


def _until_signal() -> asyncio.Future[Any]:
    """Return what is done when the process is told to stop; told again, it stops at once."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[Any] = loop.create_future()

    def stop() -> None:
        if stopped.done():
            _say("stopped at once")
            sys.stderr.flush()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        else:
            stopped.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return stopped


def _announce(server: Server, has_dashboard: bool) -> None:
    (engine, *_) = server.engines.status().engines
    _say(f"model: {engine.info.name} ({engine.info.licence})")
    if engine.info.notice:
        _say(engine.info.notice)
    print(f"audio comes in at  {server.ingest_url}")
    what = "dashboard is at " if has_dashboard else "feeds are at    "
    print(f"{what}   {server.http_url}", flush=True)


async def _play_sample_call(server: Server, stopped: asyncio.Future[Any]) -> None:
    arguments = ("stream", "--sample-call", "--url", server.ingest_url)
    client = await asyncio.create_subprocess_exec(sys.executable, "-m", "stream_server", *arguments)
    ended: asyncio.Future[Any] = asyncio.ensure_future(client.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        # Told by the same signal; it sends what it has and leaves.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), timeout=10)
    if not ended.done():
        client.kill()
    await ended
    if not stopped.done():
        _say("the sample call has ended; the server goes on. Stop it with Ctrl-C")


def _say(message: str) -> None:
    print(f"emotion-monitor: {message}", file=sys.stderr, flush=True)
