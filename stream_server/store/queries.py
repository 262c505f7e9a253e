"""What is asked of the store. Each function sees one moment of the database."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select
from sqlalchemy.engine import Connection, Row

from stream_server.store import schema
from stream_server.store.database import size_bytes
from stream_server.store.records import (
    AlertFilter,
    AlertRecord,
    ResultKind,
    StoredResults,
    StoreStats,
    StreamRecord,
)
from stream_server.store.rows import (
    StreamInfo,
    alert_of,
    alert_record_of,
    closed_of,
    gap_of,
    marked_of,
    opened_of,
    point_of,
    segment_of,
    stream_record_of,
    summary_of,
    warning_of,
)
from stream_server.store.upkeep import last_seq
from stream_server.wire.results import Result

__all__ = ["alerts", "list_streams", "results", "stats", "stream"]

_streams, _alerts = schema.streams, schema.alerts

_SPANS: dict[str, tuple[Table, Callable[[Any, StreamInfo], Result]]] = {
    "point": (schema.points, point_of),
    "segment": (schema.segments, segment_of),
    "gap": (schema.gaps, gap_of),
}
_MOMENTS: dict[str, tuple[Table, str, float, Callable[[Any, StreamInfo], Result]]] = {
    "marked": (schema.marks, "at_sample", 1.0, marked_of),
    "warning": (schema.warnings, "at_s", 1 / 16_000, warning_of),
}


def list_streams(
    connection: Connection,
    *,
    limit: int,
    offset: int,
    since: float | None,
    until: float | None,
    name: str,
    live_only: bool,
    ended_only: bool,
) -> list[StreamRecord]:
    """Return streams, the newest first."""
    query = _of_time(select(_streams), _streams.c.opened_at, since, until)
    if name:
        query = query.where(_streams.c.name.icontains(name, autoescape=True))
    if live_only:
        query = query.where(_streams.c.closed_at.is_(None))
    if ended_only:
        query = query.where(_streams.c.closed_at.is_not(None))
    query = query.order_by(_streams.c.opened_at.desc(), _streams.c.key.desc())
    rows = connection.execute(query.limit(limit).offset(offset)).mappings()
    return [stream_record_of(row) for row in rows]


def stream(connection: Connection, stream_id: str) -> StreamRecord | None:
    """Return a stream; None: there is none of that name."""
    query = select(_streams).where(_streams.c.id == stream_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else stream_record_of(row)


def results(
    connection: Connection,
    stream_id: str,
    *,
    from_sample: int,
    after_seq: int,
    kinds: Collection[ResultKind] | None,
    limit: int,
) -> StoredResults | None:
    """Return results of a stream in order of ``seq``; None: there is no such stream."""
    query = select(_streams).where(_streams.c.id == stream_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    key, info = row["key"], StreamInfo.of(row)
    wanted = set(kinds) if kinds is not None else None

    def wants(kind: str) -> bool:
        return wanted is None or kind in wanted

    found: list[Result] = []
    is_complete = True

    def first_rows(table: Table, condition: ColumnElement[bool]) -> list[Row[Any]]:
        nonlocal is_complete
        query = (
            select(table)
            .where(table.c.stream_key == key, table.c.seq > after_seq, condition)
            .order_by(table.c.seq)
            .limit(limit + 1)
        )
        return list(connection.execute(query))

    for kind, (table, make) in _SPANS.items():
        if wants(kind):
            rows = first_rows(table, table.c.end_sample > from_sample)
            found += [make(one, info) for one in rows]
    for kind, (table, column, unit, make) in _MOMENTS.items():
        if wants(kind):
            rows = first_rows(table, table.c[column] >= from_sample * unit)
            found += [make(one, info) for one in rows]
    if wants("alert"):
        query = select(_alerts).where(_alerts.c.stream_key == key)
        for one in connection.execute(query):
            found += [alert for alert in alert_of(one, info) if alert.at_sample >= from_sample]
    if wants("stream_opened"):
        found.append(opened_of(row))
    for kind, end in (("summary", summary_of(row)), ("stream_closed", closed_of(row))):
        if end is not None and wants(kind):
            found.append(end)
    found = sorted(
        (result for result in found if result.seq > after_seq), key=lambda result: result.seq
    )
    return StoredResults(
        results=tuple(found[:limit]),
        last_seq=last_seq(connection, key),
        is_complete=len(found) <= limit,
    )


def alerts(
    connection: Connection,
    *,
    state: AlertFilter | None,
    stream_id: str | None,
    since: float | None,
    limit: int,
    offset: int,
) -> list[AlertRecord]:
    """Return alerts, the newest first."""
    query = select(
        _alerts, _streams.c.id.label("stream_id"), _streams.c.name.label("stream_name")
    ).join(_streams, _streams.c.key == _alerts.c.stream_key)
    query = _of_time(query, _alerts.c.raised_at, since, None)
    if state is not None:
        column = _alerts.c.cleared_at if state in _BY_CLEARING else _alerts.c.acknowledged_at
        is_open = state in ("raised", "unacknowledged")
        query = query.where(column.is_(None) if is_open else column.is_not(None))
    if stream_id is not None:
        query = query.where(_streams.c.id == stream_id)
    query = query.order_by(_alerts.c.raised_at.desc(), _alerts.c.id.desc())
    return [alert_record_of(row) for row in connection.execute(query.limit(limit).offset(offset))]


_BY_CLEARING = ("raised", "cleared")


def stats(
    connection: Connection, *, pending_results: int, dropped_results: int, is_ready: bool
) -> StoreStats:
    """Return how much is stored."""
    of_streams = select(
        func.count(),
        func.count().filter(_streams.c.closed_at.is_(None)),
        func.min(_streams.c.opened_at),
    ).select_from(_streams)
    num_streams, num_live, oldest = connection.execute(of_streams).one()
    raised = select(func.count()).select_from(_alerts).where(_alerts.c.cleared_at.is_(None))
    return StoreStats(
        streams=num_streams,
        live_streams=num_live,
        raised_alerts=connection.execute(raised).scalar_one(),
        oldest_opened_at=oldest,
        size_bytes=size_bytes(connection),
        pending_results=pending_results,
        dropped_results=dropped_results,
        is_ready=is_ready,
    )


def _of_time(
    query: Select[Any], column: ColumnElement[float], since: float | None, until: float | None
) -> Select[Any]:
    if since is not None:
        query = query.where(column >= since)
    if until is not None:
        query = query.where(column < until)
    return query
