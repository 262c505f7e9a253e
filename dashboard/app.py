"""The dashboard on the server's HTTP application: pages, interface, live data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from dashboard.api.info import InfoRoutes, ingest_url
from dashboard.api.listing import Listing
from dashboard.api.live import LiveRoutes
from dashboard.api.routes import Route, add_routes
from dashboard.api.streams import StreamRoutes
from dashboard.backend import Backend
from dashboard.config import DashboardConfig
from dashboard.live.endpoint import LiveEndpoint
from dashboard.live.wall import Wall
from dashboard.pages import STATIC_DIR, Pages

__all__ = ["Dashboard"]


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
        listing = Listing(backend, self.wall)
        live = LiveEndpoint(
            self.wall,
            backend.feed,
            listing.one,
            keeps=backend.store is not None,
            max_viewers=config.max_viewers,
        )
        self._pages = Pages(lambda request: ingest_url(request, backend, config), static_dir)
        self.routes: list[Route] = [
            *InfoRoutes(backend, config).routes(),
            *StreamRoutes(backend, self.wall, listing).routes(),
            *LiveRoutes(live).routes(),
        ]

    def add_to(self, app: web.Application) -> None:
        """Serve it; the application has to check access itself."""
        add_routes(app, self.routes)
        self._pages.add_to(app)
        app.cleanup_ctx.append(self._run)

    async def _run(self, _: web.Application) -> AsyncIterator[None]:
        following = asyncio.create_task(self.wall.run(), name="wall")
        yield
        self.wall.close()
        await asyncio.wait([following])
