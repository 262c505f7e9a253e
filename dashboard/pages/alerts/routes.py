"""Alerts: listed, and acknowledged by somebody who has dealt with them."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from aiohttp import web

from dashboard.api.routes import Call, Param, Route, reply
from dashboard.errors import ApiError
from stream_server.store import AlertRecord

_STATES = ("unacknowledged", "acknowledged", "raised", "cleared", "all")


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, newest first.

    Attributes:
        more: whether there are more beyond ``limit``.
    """

    alerts: list[AlertRecord]
    more: bool


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about an alert, for those who look back."""

    note: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that somebody has dealt with; ``acknowledged_at`` in seconds since 1970."""

    alert_id: str
    acknowledged_at: float
    acknowledged_note: str


async def list_alerts(call: Call) -> web.Response:
    """Answer ``GET /alerts``."""
    query = call.query
    limit = query["limit"]
    # One more than asked for tells whether there are more.
    alerts = await call.services.store.alerts(
        state=None if query["state"] == "all" else query["state"],
        stream_id=query["stream"],
        since=query["since"],
        limit=limit + 1,
        offset=query["offset"],
        teams=call.who.visible_teams,
    )
    return reply(Alerts(alerts=alerts[:limit], more=len(alerts) > limit))


async def acknowledge(call: Call) -> web.Response:
    """Answer ``POST /alerts/{alert_id}/acknowledge``."""
    alert_id, note = call.part("alert_id"), call.body.note
    store = call.services.store
    place = await store.alert_place(alert_id)
    if place is None:
        # The store writes in batches: an alert raised a moment ago may not have its row yet.
        await store.flush()
        place = await store.alert_place(alert_id)
    if place is None or not call.who.sees(place[1]):
        raise ApiError("not_found", "alert not found")
    await store.acknowledge(alert_id, note, who=call.who.name or call.who.kind)
    call.services.wall.acknowledge(alert_id)
    return reply(
        Acknowledged(alert_id=alert_id, acknowledged_at=time.time(), acknowledged_note=note)
    )


ROUTES = (
    Route(
        "GET",
        "/alerts",
        "Alerts, newest first.",
        list_alerts,
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
        "Acknowledge an alert; a second time replaces the note.",
        acknowledge,
        body=Acknowledgement,
        response=Acknowledged,
        errors=("not_found", "no_store", "store_away"),
        audit="alert_acknowledged",
    ),
)
