"""Who did what: rows that are added and never changed, with a retention of their own."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from stream_server.store.rows import clean
from stream_server.store.schema import audit

_MAX_TEXT = 500


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did.

    Attributes:
        at: seconds since 1970, UTC.
        kind: of who did it: ``token``, ``user``, ``machine`` (a client on the server's machine that
            need not log in), ``nobody`` (a login that failed), ``command`` (the command line).
        name: of the token or person; of the command line, the system's user.
        address: where it came from.
        action: what was done, e.g. ``stream_results``.
        target: to what: the id of a stream, file or alert, the name of a token or person.
        team: of what it was done to.
        detail: what else there is to say; never audio, a result or a secret.
    """

    at: float
    kind: str
    name: str
    address: str
    action: str
    target: str = ""
    team: str = ""
    detail: str = ""


def add_entry(connection: Connection, entry: AuditEntry) -> None:
    """Add an entry."""
    values = msgspec.structs.asdict(entry)
    row = {
        name: clean(value)[:_MAX_TEXT] if isinstance(value, str) else value
        for name, value in values.items()
    }
    connection.execute(insert(audit).values(row))


def list_entries(
    connection: Connection,
    *,
    since: float | None = None,
    until: float | None = None,
    name: str = "",
    action: str = "",
    target: str = "",
    limit: int = 100,
    offset: int = 0,
) -> list[AuditEntry]:
    """Return entries, the newest first.

    Done at or after ``since`` and before ``until``, seconds since 1970. ``name``: of who did it; a
    text that is "" lets any pass.
    """
    query = select(*(audit.c[field] for field in AuditEntry.__struct_fields__))
    for column, value in ((audit.c.name, name), (audit.c.action, action), (audit.c.target, target)):
        if value:
            query = query.where(column == value)
    if since is not None:
        query = query.where(audit.c.at >= since)
    if until is not None:
        query = query.where(audit.c.at < until)
    query = query.order_by(audit.c.key.desc()).limit(limit).offset(offset)
    return [AuditEntry(**row) for row in connection.execute(query).mappings()]


def expire_entries(connection: Connection, before: float) -> int:
    """Delete the entries of before a time; return how many."""
    return connection.execute(delete(audit).where(audit.c.at < before)).rowcount
