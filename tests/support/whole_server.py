"""The server and the dashboard as ``emotion-monitor serve`` puts them together, on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from emotion_monitor.dashboard import serve_dashboard
from emotion_monitor.settings import Settings, load_settings
from stream_server.server import Server

__all__ = ["settings_in", "whole_server"]


def settings_in(folder: Path, *assignments: str) -> Settings:
    """Return settings of a server with the small built-in model and a store of its own."""
    return load_settings(
        None,
        [
            "ser_engine.model.name=compact",
            "ser_engine.model.offline=true",
            "stream_server.listen.port=0",
            "stream_server.listen.http_port=0",
            "stream_server.telephony.audiosocket.port=-1",
            f"stream_server.store.url=sqlite:///{folder}/x.db",
            "stream_server.store.write_interval_ms=20",
            "stream_server.access.refusal_delay_ms=0",
            *assignments,
        ],
    )


@asynccontextmanager
async def whole_server(folder: Path, *assignments: str) -> AsyncIterator[Server]:
    """Run a server with the dashboard."""
    settings = settings_in(folder, *assignments)
    server = Server(
        settings.ser_engine,
        settings.stream_server,
        serve_more=lambda server, source: serve_dashboard(settings, server, source),
    )
    async with server:
        yield server
