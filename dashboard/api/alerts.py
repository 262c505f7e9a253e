"""Alerts: lists, and somebody who has dealt with one."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from aiohttp import web

from dashboard.api.routes import Call, Param, Route, reply
from dashboard.backend import Backend
from dashboard.errors import ApiError
from dashboard.live.wall import Wall
from stream_server.store import AlertRecord, Store

__all__ = ["AlertRoutes"]

_STATES = ("unacknowledged", "acknowledged", "raised", "cleared", "all")


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, the newest first.

    Attributes:
        more: whether there are more beyond ``limit``.
    """

    alerts: list[AlertRecord]
    more: bool


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted with an acknowledgement; 2000 characters at most."""

    note: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that somebody has dealt with."""

    alert_id: str
    acknowledged_at: float
    acknowledged_note: str


class AlertRoutes:
    """Handlers.

    Args:
        backend: the rest of the server.
        wall: the live streams.
    """

    def __init__(self, backend: Backend, wall: Wall) -> None:
        self._backend = backend
        self._wall = wall

    def routes(self) -> list[Route]:
        """Return the routes of this module."""
        return [
            Route(
                "GET",
                "/alerts",
                "Alerts, the newest first.",
                self.list,
                params=(
                    Param("state", "string", "which ones", "all", choices=_STATES),
                    Param("stream", "string", "only those of this stream"),
                    Param("since", "number", "raised at or after, s since 1970", None, 0, 1e11),
                    Param("limit", "integer", "how many at most", 100, 1, 1000),
                    Param("offset", "integer", "how many of the newest to leave out", 0, 0, 10**9),
                ),
                response=Alerts,
                errors=("no_store", "store_away"),
            ),
            Route(
                "POST",
                "/alerts/{alert_id}/acknowledge",
                "Note that somebody has dealt with an alert; again: the note is replaced.",
                self.acknowledge,
                body=Acknowledgement,
                response=Acknowledged,
                errors=("not_found", "no_store", "store_away"),
            ),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """Answer ``/alerts``."""
        query = call.query
        limit = query["limit"]
        alerts = await self._store().alerts(
            state=None if query["state"] == "all" else query["state"],
            stream_id=query["stream"],
            since=query["since"],
            limit=limit + 1,
            offset=query["offset"],
        )
        return reply(Alerts(alerts=alerts[:limit], more=len(alerts) > limit))

    async def acknowledge(self, call: Call) -> web.StreamResponse:
        """Answer ``POST /alerts/{id}/acknowledge``."""
        alert_id = call.part("alert_id")
        note: str = call.body.note
        store = self._store()
        found = await store.acknowledge(alert_id, note)
        if not found:
            # Raised a moment ago, it may not be written yet.
            await store.flush()
            found = await store.acknowledge(alert_id, note)
        if not found:
            raise ApiError("not_found", "got an alert that is not known, expected one that is")
        self._wall.acknowledge(alert_id)
        return reply(
            Acknowledged(alert_id=alert_id, acknowledged_at=time.time(), acknowledged_note=note)
        )

    def _store(self) -> Store:
        if self._backend.store is None:
            raise ApiError("no_store", "got a request for alerts, but nothing is kept")
        return self._backend.store
