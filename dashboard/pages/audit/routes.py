"""The audit: who looked at, heard, exported, changed or deleted what; for admins."""

from __future__ import annotations

import msgspec
from aiohttp import web

from dashboard.api.routes import PAGE, STORED, Call, Param, Routes, csv_file, reply
from stream_server.access.policy import Scope
from stream_server.store import AuditEntry

_LATEST_S = 1e11
_MAX_EXPORTED = 100_000

_FILTERS = (
    Param("since", "number", "done at or after, s since 1970, UTC", None, 0, _LATEST_S),
    Param("until", "number", "done before, s since 1970, UTC", None, 0, _LATEST_S),
    Param("name", "string", "of the token or person", ""),
    Param("action", "string", "what was done", ""),
    Param("target", "string", "id of the stream, file or alert it was done to", ""),
)


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Entries, newest first; ``more``: there are more beyond ``limit``."""

    entries: list[AuditEntry]
    more: bool


ROUTES = Routes()


@ROUTES.on(
    "GET",
    "/audit",
    params=(
        *_FILTERS,
        *PAGE,
    ),
    response=Audit,
    errors=STORED,
    needs=Scope.ADMIN,
    audit="audit_read",
)
async def list_entries(call: Call) -> web.Response:
    """Who did what, newest first."""
    limit = call.query["limit"]
    # One more than asked for tells whether there are more.
    entries = await call.services.store.audit(**{**call.query, "limit": limit + 1})
    return reply(Audit(entries=entries[:limit], more=len(entries) > limit))


@ROUTES.on(
    "GET",
    "/audit.csv",
    params=_FILTERS,
    content="text/csv",
    errors=STORED,
    needs=Scope.ADMIN,
    audit="audit_exported",
)
async def export(call: Call) -> web.Response:
    """The same as a table, 100 000 entries at most."""
    entries = await call.services.store.audit(**call.query, limit=_MAX_EXPORTED)
    rows = (msgspec.structs.astuple(entry) for entry in entries)
    return csv_file("audit.csv", [AuditEntry.__struct_fields__, *rows])
