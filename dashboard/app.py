"""The dashboard on the server's HTTP application: pages, JSON interface, live data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from dashboard.api import info
from dashboard.api.info import ingest_url
from dashboard.api.listing import Listing
from dashboard.api.routes import Call, Route, Services, add_routes, reply
from dashboard.backend import Backend
from dashboard.config import AnalyseConfig, DashboardConfig
from dashboard.jobs import Jobs
from dashboard.jobs.rows import MemoryRows
from dashboard.live.endpoint import LiveEndpoint
from dashboard.live.wall import Wall
from dashboard.openapi import openapi
from dashboard.pages import PAGES
from dashboard.shell import SHELL_DIR, Shell
from stream_server.store import Store

_DEFAULT_DIR = "~/.local/share/emotion-monitor/analyses"


class Dashboard:
    """Pages, interface and live data.

    Made before the first stream begins: the wall does not find out about streams that are live by
    then.
    """

    def __init__(
        self, backend: Backend, config: DashboardConfig, root: Path = SHELL_DIR.parent
    ) -> None:
        self.wall = Wall(backend.bus, config.wall)
        self._jobs = _make_jobs(backend, config.analyse)
        listing = Listing(backend, self.wall)
        self.live = LiveEndpoint(self.wall, listing, backend, max_viewers=config.max_viewers)
        self._services = Services(
            backend=backend,
            config=config,
            wall=self.wall,
            listing=listing,
            jobs=self._jobs,
            live=self.live,
        )
        self._shell = Shell(lambda request: ingest_url(request, backend, config), root)
        self.routes: list[Route] = [
            *info.ROUTES,
            *(route for page in PAGES for route in page.routes()),
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
        add_routes(app, self.routes, self._services)
        self._shell.add_to(app)
        app.cleanup_ctx.append(self._run)

    async def _describe(self, _: Call) -> web.StreamResponse:
        return reply(self._openapi)

    async def _run(self, _: web.Application) -> AsyncIterator[None]:
        # Before the first request: an upload needs the folder.
        await self._jobs.open()
        following = asyncio.create_task(self.wall.run(), name="wall")
        working = asyncio.create_task(self._jobs.run(), name="analyses")
        yield
        # The wall ends with its subscription, and tells its pages; jobs go back into the queue.
        self.wall.close()
        working.cancel()
        await asyncio.wait([following, working])


def _make_jobs(backend: Backend, config: AnalyseConfig) -> Jobs:
    store = backend.store

    def is_ready() -> bool:
        return backend.models().is_ready

    if store is None:
        return Jobs(
            analyse=backend.analyse,
            config=config,
            root=None,
            rows_of=lambda _: MemoryRows(),
            is_ready=is_ready,
            keys=backend.keys,
        )
    return Jobs(
        analyse=backend.analyse,
        config=config,
        root=_root(config.dir, store),
        rows_of=store.jobs,
        retention_s=store.retention_s,
        team_retention_s=store.team_retention_s,
        is_ready=is_ready,
        keys=backend.keys,
    )


def _root(setting: str, store: Store) -> Path:
    """Return the folder of a store's files: two stores never share one, nor clean it up."""
    if not setting and store.file is not None:
        # Beside the store and named after it, so that moving the folder moves both.
        return store.file.parent / "analyses" / store.file.stem
    return Path(setting or _DEFAULT_DIR).expanduser() / store.fingerprint
