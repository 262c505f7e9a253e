"""The audit: who looked at, heard, exported, changed or deleted what; for admins."""

from __future__ import annotations

import csv
import io

import msgspec
from aiohttp import hdrs, web

from dashboard.api.routes import Call, Param, Route, reply
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


async def list_entries(call: Call) -> web.Response:
    """Answer ``GET /audit``."""
    limit = call.query["limit"]
    # One more than asked for tells whether there are more.
    entries = await call.services.store.audit(**{**call.query, "limit": limit + 1})
    return reply(Audit(entries=entries[:limit], more=len(entries) > limit))


async def export(call: Call) -> web.Response:
    """Answer ``GET /audit.csv``."""
    entries = await call.services.store.audit(**call.query, limit=_MAX_EXPORTED)
    table = io.StringIO(newline="")
    # RFC 4180 ends lines with CRLF.
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(AuditEntry.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(entry) for entry in entries)
    headers = {hdrs.CONTENT_DISPOSITION: 'attachment; filename="audit.csv"'}
    return web.Response(
        text=table.getvalue(), content_type="text/csv", charset="utf-8", headers=headers
    )


ROUTES = (
    Route(
        "GET",
        "/audit",
        "Who did what, newest first.",
        list_entries,
        params=(
            *_FILTERS,
            Param("limit", "integer", "how many at most", 100, 1, 1000),
            Param("offset", "integer", "how many of the newest to leave out", 0, 0, 10**9),
        ),
        response=Audit,
        errors=("no_store", "store_away"),
        needs=Scope.ADMIN,
        audit="audit_read",
    ),
    Route(
        "GET",
        "/audit.csv",
        "The same as a table, 100 000 entries at most.",
        export,
        params=_FILTERS,
        content="text/csv",
        errors=("no_store", "store_away"),
        needs=Scope.ADMIN,
        audit="audit_exported",
    ),
)
