"""Read timelines, in a few threads of their own: nothing here blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from stream_server.store import queries
from stream_server.store.database import NUM_READERS, describe, is_away
from stream_server.store.errors import StoreError, StoreUnavailableError
from stream_server.store.records import (
    AlertFilter,
    AlertRecord,
    ResultKind,
    StoredResults,
    StreamRecord,
)

__all__ = ["StoreReader"]

P = ParamSpec("P")
T = TypeVar("T")


class StoreReader:
    """Answers about what is stored.

    Everything raises :class:`StoreUnavailableError` where the database does not answer or the
    store is closed.

    Args:
        engine: connections that see one moment of the database in each transaction.
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
    ) -> list[StreamRecord]:
        """Return streams, the newest first.

        Args:
            limit: how many at most.
            offset: how many of the newest to leave out.
            since: opened at or after, seconds since 1970.
            until: opened before.
            name: part of the stream's name, in whatever case.
            live_only: leave out those that have ended.
            ended_only: leave out those that are live.
        """
        return await self.read(
            queries.list_streams,
            limit=limit,
            offset=offset,
            since=since,
            until=until,
            name=name,
            live_only=live_only,
            ended_only=ended_only,
        )

    async def stream(self, stream_id: str) -> StreamRecord | None:
        """Return a stream; None: there is none of that name."""
        return await self.read(queries.stream, stream_id)

    async def results(
        self,
        stream_id: str,
        *,
        from_sample: int = 0,
        after_seq: int = -1,
        kinds: Collection[ResultKind] | None = None,
        limit: int = 10_000,
    ) -> StoredResults | None:
        """Return results of a stream in order of ``seq``; None: there is no such stream.

        To go on with live results without hole or double: subscribe to the bus, then ``flush()``,
        then ask for results until ``is_complete``, then pass on from the subscription what has a
        ``seq`` above ``last_seq``.

        Args:
            stream_id: which stream.
            from_sample: only what ends after this position of the stream's clock; how the stream
                began and ended is always told.
            after_seq: only results with a larger ``seq``.
            kinds: ``type`` of the results wanted; None: all.
            limit: how many at most.
        """
        return await self.read(
            queries.results,
            stream_id,
            from_sample=from_sample,
            after_seq=after_seq,
            kinds=kinds,
            limit=limit,
        )

    async def alerts(
        self,
        *,
        state: AlertFilter | None = None,
        stream_id: str | None = None,
        since: float | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[AlertRecord]:
        """Return alerts, the newest first.

        Args:
            state: which ones; None: all.
            stream_id: only those of this stream.
            since: raised at or after, seconds since 1970.
            limit: how many at most.
            offset: how many of the newest to leave out.
        """
        return await self.read(
            queries.alerts,
            state=state,
            stream_id=stream_id,
            since=since,
            limit=limit,
            offset=offset,
        )

    async def close_reader(self) -> None:
        """Close the connections; whoever still waits gets an answer first."""
        self._is_closed = True
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._readers.dispose)

    async def read(
        self,
        query: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a query of :mod:`~stream_server.store.queries` in a reader's thread."""

        def read() -> T:
            try:
                with self._readers.connect() as connection, connection.begin():
                    return query(connection, *args, **kwargs)
            except SQLAlchemyError as error:
                kind = StoreUnavailableError if is_away(error) else StoreError
                raise kind(f"got no answer from the database: {describe(error)}") from error

        if self._is_closed:
            raise StoreUnavailableError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)
