"""Write a batch of results in one transaction.

Everything written can be written again: when the connection is lost during a commit its outcome is
unknown, and the batch is repeated. So nothing is plainly inserted: rows that exist are left alone
or, for spans and alerts, brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Table, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from stream_server.store import schema
from stream_server.store.rows import (
    StreamInfo,
    alert_row,
    clean,
    consent_row,
    decision_row,
    ledger_row,
    measures_row,
    point_row,
    span_row,
    stream_row,
    summary_values,
    warning_row,
)
from stream_server.wire.results import (
    Alert,
    Consent,
    Gap,
    Marked,
    Measures,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
)

# Streams looked up in one statement: SQLite before 3.32 allows 999 parameters.
_LOOKUP_SIZE = 500

_UNIQUE = {"ledger": ["stream_id", "seq"], "decisions": ["alert_id", "kind", "seq"]}

Rows = list[dict[str, Any]]


class BatchWriter:
    """Writes batches; remembers the keys of live streams, which are rarely looked up therefore."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._known: dict[str, tuple[int, StreamInfo]] = {}

    def forget(self) -> None:
        """Forget the keys: one from a transaction that was not committed may be of no stream."""
        self._known.clear()

    def write(
        self,
        connection: Connection,
        results: Sequence[Result],
        published_at: Callable[[Alert], float],
    ) -> int:
        """Write results that are in order of ``seq`` for each stream.

        ``published_at``: of an alert, seconds since 1970. Return how many results belong to no
        stream that is stored, and were left out.
        """
        opened = [result for result in results if isinstance(result, StreamOpened)]
        if opened:
            rows = [stream_row(result, self._owner) for result in opened]
            # Without RETURNING: a row that exists already would return nothing.
            connection.execute(_insert(connection, schema.streams, ["id"]), rows)
        self._look_up(connection, {result.stream_id for result in results} - self._known.keys())
        rows_of: dict[Table, Rows] = {}
        alerts: list[tuple[Alert, int]] = []
        consents: list[tuple[Consent, int]] = []
        ended: list[tuple[Summary | StreamClosed, int]] = []
        orphans = 0
        for result in results:
            if (known := self._known.get(result.stream_id)) is None:
                orphans += 1
                continue
            key, info = known
            match result:
                case Point():
                    rows_of.setdefault(schema.points, []).append(point_row(result, key, info))
                case Segment():
                    rows_of.setdefault(schema.segments, []).append(span_row(result, key))
                case Gap():
                    rows_of.setdefault(schema.gaps, []).append(span_row(result, key))
                case Marked():
                    row = {"name": clean(result.name), "at_sample": result.at_sample}
                    row |= {"stream_key": key, "seq": result.seq}
                    rows_of.setdefault(schema.marks, []).append(row)
                case Warning():
                    rows_of.setdefault(schema.warnings, []).append(warning_row(result, key))
                case Measures():
                    rows_of.setdefault(schema.measured, []).append(measures_row(result, key))
                case Consent():
                    rows_of.setdefault(schema.consents, []).append(consent_row(result, key))
                    rows_of.setdefault(schema.ledger, []).append(ledger_row(result, info))
                    consents.append((result, key))
                case Alert():
                    alerts.append((result, key))
                    decision = decision_row(result, info, published_at(result))
                    rows_of.setdefault(schema.decisions, []).append(decision)
                case Summary() | StreamClosed():
                    ended.append((result, key))
                case _:  # StreamOpened is written; Flushed tells of nothing that lasts.
                    pass
        # One statement a table, executed with many rows: both drivers then send them at once.
        for table, rows in rows_of.items():
            if table is schema.segments or table is schema.gaps:
                connection.execute(_upsert_span(connection, table), rows)
            else:
                unique = _UNIQUE.get(table.name, ["stream_key", "seq"])
                connection.execute(_insert(connection, table, unique), rows)
        for alert, key in alerts:
            _write_alert(connection, alert_row(alert, key, published_at(alert)), alert.state)
        streams = schema.streams
        for consent, key in consents:
            values = {"consent": consent.consent, "notice_version": clean(consent.notice_version)}
            connection.execute(update(streams).where(streams.c.key == key).values(values))
        for end, key in ended:
            self._write_end(connection, end, key)
        return orphans

    def _look_up(self, connection: Connection, stream_ids: Iterable[str]) -> None:
        columns = schema.streams.c
        wanted = sorted(stream_ids)
        for first in range(0, len(wanted), _LOOKUP_SIZE):
            named = ("key", "id", "model", "channels", "model_sha256", "team")
            query = select(*(columns[name] for name in named)).where(
                columns.id.in_(wanted[first : first + _LOOKUP_SIZE])
            )
            for row in connection.execute(query).mappings():
                self._known[row["id"]] = (row["key"], StreamInfo.of(row))

    def _write_end(self, connection: Connection, end: Summary | StreamClosed, key: int) -> None:
        streams = schema.streams
        if isinstance(end, Summary):
            connection.execute(
                update(streams).where(streams.c.key == key).values(summary_values(end))
            )
            return
        values = {"closed_seq": end.seq, "closed_at": end.closed_at, "reason": end.reason}
        connection.execute(update(streams).where(streams.c.key == key).values(values))
        for table in (schema.segments, schema.gaps):
            # If the last version of a span was lost, the one before it is all there is.
            open_spans = (table.c.stream_key == key) & table.c.final.is_(False)
            connection.execute(update(table).where(open_spans).values(final=True))
        self._known.pop(end.stream_id, None)


def _dialect(connection: Connection, table: Table) -> Any:
    module = sqlite if connection.dialect.name == "sqlite" else postgresql
    return module.insert(table)


def _insert(connection: Connection, table: Table, unique: list[str]) -> Any:
    return _dialect(connection, table).on_conflict_do_nothing(index_elements=unique)


def _upsert_span(connection: Connection, table: Table) -> Any:
    statement = _dialect(connection, table)
    unique = ["stream_key", "channel", "start_sample"]
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=unique,
        set_={column.name: new[column.name] for column in table.c if column.name not in unique},
        # A batch that is repeated must not put an older version back.
        where=new.seq >= table.c.seq,
    )


def _write_alert(connection: Connection, row: dict[str, Any], state: str) -> None:
    statement = _dialect(connection, schema.alerts).values(row)
    changed = {name: statement.excluded[name] for name in row if name.startswith(f"{state}_")}
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed))
