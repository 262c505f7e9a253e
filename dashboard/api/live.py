"""The WebSocket that pages are shown live data through."""

from __future__ import annotations

from aiohttp import web

from dashboard.api.params import Param
from dashboard.api.routes import Call, Route
from dashboard.live.endpoint import LiveEndpoint

__all__ = ["LiveRoutes"]


class LiveRoutes:
    """Handlers.

    Args:
        endpoint: serves pages.
    """

    def __init__(self, endpoint: LiveEndpoint) -> None:
        self._endpoint = endpoint

    def routes(self) -> list[Route]:
        """Return the routes of this module."""
        return [
            Route(
                "GET",
                "/live",
                "Live data for a page, over WebSocket: the wall, or one stream.",
                self.live,
                params=(
                    Param("stream", "string", "show this stream; default: the wall"),
                    Param(
                        "after_seq",
                        "integer",
                        "with stream: the last seq the page has",
                        None,
                        -1,
                        10**15,
                    ),
                ),
                content="websocket",
                status=101,
                errors=("not_found", "too_many_viewers", "store_away"),
            )
        ]

    async def live(self, call: Call) -> web.StreamResponse:
        """Answer a handshake."""
        query = call.query
        return await self._endpoint.handle(call.request, query["stream"], query["after_seq"])
