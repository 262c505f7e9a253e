"""The server process: event loop, server, dashboard, signals and the demo, put together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emotion_monitor.event_loop import say, until_signal
from stream_server.access import Scope, Who
from stream_server.server import Server
from stream_server.store import StoreError
from stream_server.wire.masking import masked_text

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings
    from stream_server.feeds.source import FeedSource


async def run_server(settings: Settings, *, demo: bool = False) -> int:
    """Serve until SIGINT or SIGTERM, with the dashboard if the settings say so.

    ``demo``: also play the sample call to the server, from a process of its own.

    Returns:
        The exit status: 0, or 1 if a port or the store could not be opened.

    Raises:
        SerEngineError: a setting is wrong or the model cannot be loaded.
    """
    stopped = until_signal()
    server = _server_of(settings)
    # Loading a model can take a minute: a signal must be able to interrupt the start.
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
        say(masked_text(str(error)))
        return 1
    try:
        _announce(server, settings.dashboard.enabled)
        if demo:
            await _play_sample_call(server, stopped)
        await stopped
    finally:
        await server.__aexit__(None, None, None)
    return 0


def _server_of(settings: Settings) -> Server:
    serve_more = _dashboard_of(settings)
    if not settings.stream_server.processes.workers:
        return Server(settings.ser_engine, settings.stream_server, serve_more=serve_more)
    # One process needs none of this.
    from emotion_monitor.processes import front_server

    return front_server(settings, serve_more)


def _dashboard_of(settings: Settings) -> Callable[[Server, FeedSource], None] | None:
    if not settings.dashboard.enabled:
        return None
    # The dashboard is an option: a server without it need not load its pages.
    from emotion_monitor.dashboard import serve_dashboard

    return lambda server, source: serve_dashboard(settings, server, source)


def _announce(server: Server, has_dashboard: bool) -> None:
    (engine, *_) = server.engines.status().engines
    say(f"model: {engine.info.name} ({engine.info.licence})")
    if engine.info.notice:
        say(engine.info.notice)
    print(f"audio comes in at  {server.ingest_url}")
    what = "dashboard is at " if has_dashboard else "feeds are at    "
    print(f"{what}   {server.http_url}", flush=True)


async def _play_sample_call(server: Server, stopped: asyncio.Future[Any]) -> None:
    token = server.access.book.issue(Who("machine", "", frozenset((Scope.INGEST,))))
    # Its certificate is for the name that others know it by.
    certificate = (
        {}
        if server.tls is None
        else {"EMOTION_MONITOR_SERVER_CERTIFICATE": str(server.tls.certificate)}
    )
    arguments = ("stream", "--sample-call", "--url", server.ingest_url)
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "emotion_monitor", *arguments),
        # Not as an argument, which every user of the machine can list.
        env={**os.environ, "EMOTION_MONITOR_TOKEN": token, **certificate},
    )
    ended: asyncio.Future[Any] = asyncio.ensure_future(client.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        # Ctrl-C reaches the whole process group, so the client is already ending its stream.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), timeout=10)
    if not ended.done():
        client.kill()
    await ended
    if not stopped.done():
        say("the sample call has ended; the server goes on. Stop it with Ctrl-C")
