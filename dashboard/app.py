"""The dashboard on the server's HTTP application: pages, interface, live data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from dashboard.api.alerts import AlertRoutes
from dashboard.api.analyse import AnalyseRoutes
from dashboard.api.analyse_results import ResultRoutes
from dashboard.api.info import InfoRoutes, ingest_url
from dashboard.api.routes import Call, Route, add_routes, reply
from dashboard.api.streams import Listing, StreamRoutes
from dashboard.backend import Backend
from dashboard.config import AnalyseConfig, DashboardConfig
from dashboard.jobs import Jobs
from dashboard.jobs.rows import MemoryRows
from dashboard.live.endpoint import LiveEndpoint, LiveRoutes
from dashboard.live.wall import Wall
from dashboard.openapi import openapi
from dashboard.pages import STATIC_DIR, Pages
from stream_server.store import Store

__all__ = ["Dashboard"]

_DEFAULT_DIR = "~/.local/share/emotion-monitor/analyses"


class Dashboard:
    """Pages, interface and live data.

    Made before the first stream begins: those that are live by then do not come onto the wall.

    Args:
        backend: the rest of the server.
        config: the dashboard's settings.
        static_dir: the pages' files.
    """

    def __init__(
        self, backend: Backend, config: DashboardConfig, static_dir: Path = STATIC_DIR
    ) -> None:
        self.wall = Wall(backend.bus, config.wall)
        self._jobs = _make_jobs(backend, config.analyse)
        listing = Listing(backend, self.wall)
        self.live = LiveEndpoint(
            self.wall,
            backend.feed,
            listing.one,
            backend.stream_status,
            keeps=backend.store is not None,
            max_viewers=config.max_viewers,
        )
        self._pages = Pages(lambda request: ingest_url(request, backend, config), static_dir)
        self.routes: list[Route] = [
            *InfoRoutes(backend, config).routes(),
            *StreamRoutes(backend, self.wall, listing).routes(),
            *AlertRoutes(backend, self.wall).routes(),
            *AnalyseRoutes(backend, self._jobs, config.analyse).routes(),
            *ResultRoutes(self._jobs).routes(),
            *LiveRoutes(self.live).routes(),
            Route(
                "GET",
                "/openapi.json",
                "This interface, as OpenAPI 3.1.",
                self._describe,
                response=dict[str, Any],
            ),
        ]
        self._openapi = openapi(self.routes, backend.version)

    def add_to(self, app: web.Application) -> None:
        """Serve it; the application has to check access itself."""
        add_routes(app, self.routes)
        self._pages.add_to(app)
        app.cleanup_ctx.append(self._run)

    async def _describe(self, _: Call) -> web.StreamResponse:
        return reply(self._openapi)

    async def _run(self, _: web.Application) -> AsyncIterator[None]:
        await self._jobs.open()
        following = asyncio.create_task(self.wall.run(), name="wall")
        working = asyncio.create_task(self._jobs.run(), name="analyses")
        yield
        self.wall.close()
        working.cancel()
        await asyncio.wait([following, working])


def _make_jobs(backend: Backend, config: AnalyseConfig) -> Jobs:
    store = backend.store

    def is_ready() -> bool:
        return backend.models().is_ready

    if store is None:
        return Jobs(
            backend.analyse, config, root=None, rows_of=lambda _: MemoryRows(), is_ready=is_ready
        )
    return Jobs(
        backend.analyse,
        config,
        root=_root(config.dir, store),
        rows_of=store.jobs,
        retention_s=store.retention_s,
        is_ready=is_ready,
    )


def _root(setting: str, store: Store) -> Path:
    """Return the folder of a store's files: two stores never share one, nor clean it up."""
    if not setting and store.file is not None:
        # By the file's name: who moves both keeps them together.
        return store.file.parent / "analyses" / store.file.stem
    return Path(setting or _DEFAULT_DIR).expanduser() / store.fingerprint
