"""Read timelines, in a few threads of their own: nothing here blocks the event loop.

Each method is one transaction, which sees one moment of the database (a snapshot of SQLite's
write-ahead log, REPEATABLE READ in PostgreSQL): what several statements find belongs together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, func, select
from sqlalchemy.engine import Connection, Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from ser_engine.frames import SAMPLE_RATE_HZ
from stream_server.access.credentials import Credential, EndedSession
from stream_server.rights import Halt
from stream_server.store import schema
from stream_server.store.audit import AuditEntry, list_entries
from stream_server.store.credentials import list_credentials, list_ended_sessions
from stream_server.store.database import (
    NUM_READERS,
    StoreError,
    StoreUnavailableError,
    describe,
    is_away,
    make_engine,
    parse_store_url,
)
from stream_server.store.ledger import (
    Decision,
    LedgerEntry,
    latest_halt,
    list_decisions,
    list_ledger,
)
from stream_server.store.records import (
    AlertFilter,
    AlertRecord,
    Annotation,
    ResultKind,
    StoredResults,
    StreamRecord,
)
from stream_server.store.rows import (
    StreamInfo,
    alert_of,
    alert_record_of,
    closed_of,
    consent_of,
    gap_of,
    marked_of,
    measures_of,
    opened_of,
    point_of,
    segment_of,
    stream_record_of,
    summary_of,
    warning_of,
)
from stream_server.store.upkeep import last_seq
from stream_server.wire.results import Result

T = TypeVar("T")

_streams, _alerts = schema.streams, schema.alerts

_SPANS: dict[str, tuple[Table, Callable[[Any, StreamInfo], Result]]] = {
    "point": (schema.points, point_of),
    "segment": (schema.segments, segment_of),
    "gap": (schema.gaps, gap_of),
}
# Table, column of the position, its unit in samples, and what makes a result of a row.
_MOMENTS: dict[str, tuple[Table, str, float, Callable[[Any, StreamInfo], Result]]] = {
    "marked": (schema.marks, "at_sample", 1.0, marked_of),
    "warning": (schema.warnings, "at_s", 1 / SAMPLE_RATE_HZ, warning_of),
    "measures": (schema.measured, "at_sample", 1.0, measures_of),
    "consent": (schema.consents, "at_s", 1 / SAMPLE_RATE_HZ, consent_of),
}

_BY_CLEARING = ("raised", "cleared")
_PAGE = 1000


class StoreReader:
    """Answers about what is stored.

    Every method raises :class:`StoreUnavailableError` if the database does not answer or the store
    is closed.
    """

    def __init__(self, engine: Engine) -> None:
        self._readers = engine
        self._threads = ThreadPoolExecutor(NUM_READERS, thread_name_prefix="store-reader")
        self._is_closed = False

    async def list_streams(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        since: float | None = None,
        until: float | None = None,
        name: str = "",
        live_only: bool = False,
        ended_only: bool = False,
        teams: Collection[str] | None = None,
    ) -> list[StreamRecord]:
        """Return streams, the newest first.

        Opened at or after ``since`` and before ``until``, seconds since 1970. ``name``: part of the
        stream's name, in any case. ``teams`` None: all streams.
        """
        query = _in_time(select(_streams), _streams.c.opened_at, since, until)
        if name:
            # autoescape: % and _ of the name are no wildcards.
            query = query.where(_streams.c.name.icontains(name, autoescape=True))
        if live_only:
            query = query.where(_streams.c.closed_at.is_(None))
        if ended_only:
            query = query.where(_streams.c.closed_at.is_not(None))
        if teams is not None:
            query = query.where(_streams.c.team.in_(teams))
        # The key decides between streams of the same instant, so that pages do not overlap.
        query = query.order_by(_streams.c.opened_at.desc(), _streams.c.key.desc())
        query = query.limit(limit).offset(offset)
        return await self.read(
            lambda connection: [
                stream_record_of(row) for row in connection.execute(query).mappings()
            ]
        )

    async def annotations(self, stream_id: str) -> list[Annotation]:
        """Return what people hear in a stream, by person, channel and time."""
        table = schema.annotated
        query = (
            select(*(table.c[name] for name in Annotation.__struct_fields__))
            .join(_streams, _streams.c.key == table.c.stream_key)
            .where(_streams.c.id == stream_id)
            .order_by(table.c.who, table.c.channel, table.c.start_sample)
        )
        return await self.read(
            lambda connection: [Annotation(**row) for row in connection.execute(query).mappings()]
        )

    async def stream(self, stream_id: str) -> StreamRecord | None:
        """Return a stream; None: there is none with that id."""
        query = select(_streams).where(_streams.c.id == stream_id)

        def read(connection: Connection) -> StreamRecord | None:
            row = connection.execute(query).mappings().one_or_none()
            return None if row is None else stream_record_of(row)

        return await self.read(read)

    async def continuations(self, stream_ids: Collection[str]) -> dict[str, str]:
        """Return which stream continues each of these; those that none continues are left out."""
        query = (
            select(_streams.c.continues, _streams.c.id)
            .where(_streams.c.continues.in_(stream_ids))
            .order_by(_streams.c.key)
        )
        return await self.read(
            lambda connection: {before: after for before, after in connection.execute(query)}
        )

    async def results(
        self,
        stream_id: str,
        *,
        from_sample: int = 0,
        after_seq: int = -1,
        kinds: Collection[ResultKind] | None = None,
        last_measures: bool = False,
        limit: int = 10_000,
    ) -> StoredResults | None:
        """Return results of a stream in order of ``seq``; None: there is no such stream.

        To go on with live results so that none is missing or repeated: subscribe to the bus, then
        ``flush()``, then request results until ``is_complete``, then pass on from the subscription
        what has a ``seq`` above ``last_seq``.

        ``from_sample``: only what ends after this position of the stream's clock; how the stream
        began and ended is always included. ``after_seq``: only what has a larger ``seq``.
        ``kinds``: their ``type``; None: all. ``last_measures``: of the measures only the last ones,
        which replace the others; a call has hundreds.
        """
        wanted = set(kinds) if kinds is not None else None
        stream = select(_streams).where(_streams.c.id == stream_id)

        def wants(kind: str) -> bool:
            return wanted is None or kind in wanted

        def read(connection: Connection) -> StoredResults | None:
            row = connection.execute(stream).mappings().one_or_none()
            if row is None:
                return None
            key, info = row["key"], StreamInfo.of(row)

            # Each kind is in a table of its own. The first `limit` results of all kinds are among
            # the first `limit` of each kind; one more tells whether there are more.
            def first_rows(table: Table, condition: ColumnElement[bool]) -> list[Row[Any]]:
                query = (
                    select(table)
                    .where(table.c.stream_key == key, table.c.seq > after_seq, condition)
                    .order_by(table.c.seq)
                    .limit(limit + 1)
                )
                return list(connection.execute(query))

            found: list[Result] = []
            for kind, (table, make) in _SPANS.items():
                if wants(kind):
                    rows = first_rows(table, table.c.end_sample > from_sample)
                    found += [make(one, info) for one in rows]
            for kind, (table, column, unit, make) in _MOMENTS.items():
                if wants(kind):
                    condition = table.c[column] >= from_sample * unit
                    if kind == "measures" and last_measures:
                        of_stream = select(func.max(table.c.seq)).where(table.c.stream_key == key)
                        condition &= table.c.seq == of_stream.scalar_subquery()
                    rows = first_rows(table, condition)
                    found += [make(one, info) for one in rows]
            if wants("alert"):
                # A row holds two results, raised and cleared, each with a seq of its own.
                for one in connection.execute(select(_alerts).where(_alerts.c.stream_key == key)):
                    found += [each for each in alert_of(one, info) if each.at_sample >= from_sample]
            if wants("stream_opened"):
                found.append(opened_of(row))
            for kind, end in (("summary", summary_of(row)), ("stream_closed", closed_of(row))):
                if end is not None and wants(kind):
                    found.append(end)
            found = sorted((one for one in found if one.seq > after_seq), key=lambda one: one.seq)
            return StoredResults(
                results=tuple(found[:limit]),
                last_seq=last_seq(connection, key),
                is_complete=len(found) <= limit,
            )

        return await self.read(read)

    async def pages(
        self,
        stream_id: str,
        *,
        from_sample: int = 0,
        after_seq: int = -1,
        kinds: Collection[ResultKind] | None = None,
        last_measures: bool = False,
    ) -> AsyncIterator[Sequence[Result]]:
        """Yield what :meth:`results` returns, all of it; nothing of a stream that is unknown."""
        while True:
            found = await self.results(
                stream_id,
                from_sample=from_sample,
                after_seq=after_seq,
                kinds=kinds,
                last_measures=last_measures,
                limit=_PAGE,
            )
            if found is None:
                return
            if found.results:
                yield found.results
                after_seq = found.results[-1].seq
            if found.is_complete:
                return

    async def alerts(
        self,
        *,
        state: AlertFilter | None = None,
        stream_id: str | None = None,
        since: float | None = None,
        limit: int = 100,
        offset: int = 0,
        teams: Collection[str] | None = None,
    ) -> list[AlertRecord]:
        """Return alerts, the newest first.

        Raised at or after ``since``, seconds since 1970; of all states, streams and teams where
        they are None.
        """
        query = select(
            _alerts, _streams.c.id.label("stream_id"), _streams.c.name.label("stream_name")
        ).join(_streams, _streams.c.key == _alerts.c.stream_key)
        query = _in_time(query, _alerts.c.raised_at, since, None)
        if state is not None:
            column = _alerts.c.cleared_at if state in _BY_CLEARING else _alerts.c.acknowledged_at
            is_open = state in ("raised", "unacknowledged")
            query = query.where(column.is_(None) if is_open else column.is_not(None))
        if stream_id is not None:
            query = query.where(_streams.c.id == stream_id)
        if teams is not None:
            query = query.where(_streams.c.team.in_(teams))
        query = query.order_by(_alerts.c.raised_at.desc(), _alerts.c.id.desc())
        query = query.limit(limit).offset(offset)
        return await self.read(
            lambda connection: [alert_record_of(row) for row in connection.execute(query)]
        )

    async def cleared_alerts(self, stream_id: str) -> dict[tuple[str, int], float]:
        """Return when alerts of a stream were last cleared, by rule and channel.

        Not those that were raised until it ended. Seconds since 1970, UTC.
        """
        cleared_at = func.max(_alerts.c.cleared_at)
        # What the end clears is written within write_interval_ms of it.
        ended_at = _streams.c.closed_at - 1
        query = (
            select(_alerts.c.rule, _alerts.c.channel, cleared_at)
            .join(_streams, _streams.c.key == _alerts.c.stream_key)
            .where(_streams.c.id == stream_id)
            .where(_streams.c.closed_at.is_(None) | (_alerts.c.cleared_at < ended_at))
            .group_by(_alerts.c.rule, _alerts.c.channel)
            .having(cleared_at.is_not(None))
        )
        return await self.read(
            lambda connection: {
                (rule, channel): at for rule, channel, at in connection.execute(query)
            }
        )

    async def alert_place(self, alert_id: str) -> tuple[str, str] | None:
        """Return stream and team of an alert; None: there is none with that id."""
        query = (
            select(_streams.c.id, _streams.c.team)
            .join(_alerts, _streams.c.key == _alerts.c.stream_key)
            .where(_alerts.c.id == alert_id)
        )

        def read(connection: Connection) -> tuple[str, str] | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else (row.id, row.team)

        return await self.read(read)

    async def credentials(self) -> list[Credential]:
        """Return all tokens and people, revoked ones included."""
        return await self.read(list_credentials)

    async def ended_sessions(self) -> list[EndedSession]:
        """Return the sessions of browsers that were ended and may not come back."""
        return await self.read(list_ended_sessions)

    async def audit(self, **filters: Any) -> list[AuditEntry]:
        """Return entries of the audit, see :func:`~stream_server.store.audit.list_entries`."""
        return await self.read(lambda connection: list_entries(connection, **filters))

    async def ledger(self, **filters: Any) -> list[LedgerEntry]:
        """Return entries, see :func:`~stream_server.store.ledger.list_ledger`."""
        return await self.read(lambda connection: list_ledger(connection, **filters))

    async def decisions(self, **filters: Any) -> list[Decision]:
        """Return decisions, see :func:`~stream_server.store.ledger.list_decisions`."""
        return await self.read(lambda connection: list_decisions(connection, **filters))

    async def halt(self) -> Halt:
        """Return the last word of an overseer."""
        return await self.read(latest_halt)

    async def close_reader(self) -> None:
        """Close the connections; a read that has begun is answered first."""
        self._is_closed = True
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._readers.dispose)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a reader's thread, in a transaction of its own."""

        def run() -> T:
            try:
                with self._readers.connect() as connection, connection.begin():
                    return query(connection)
            except SQLAlchemyError as error:
                kind = StoreUnavailableError if is_away(error) else StoreError
                raise kind(f"no answer from the database: {describe(error)}") from error

        if self._is_closed:
            raise StoreUnavailableError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


@contextlib.asynccontextmanager
async def reading(url: str) -> AsyncIterator[StoreReader]:
    """Read the store of ``store.url``, which a server may be writing to.

    Raises:
        ConfigError: the URL is wrong, or its driver is missing.
    """
    store = StoreReader(make_engine(parse_store_url(url), read_only=True))
    try:
        yield store
    finally:
        await store.close_reader()


def _in_time(
    query: Select[Any], column: ColumnElement[float], since: float | None, until: float | None
) -> Select[Any]:
    if since is not None:
        query = query.where(column >= since)
    if until is not None:
        query = query.where(column < until)
    return query
