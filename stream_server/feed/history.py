"""The store as feeds read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog

from stream_server.protocol.results import Result, StreamOpened
from stream_server.store import ResultKind, Store, StoreError
from stream_server.store.reader import StoreReader

__all__ = ["StoreHistory", "stored_results"]

_SETTLE_TIMEOUT_S = 5.0
"""Longest wait for the store to write what was published: ten times its usual interval."""

_PAGE = 1000

_log = structlog.get_logger(__name__)


class StoreHistory:
    """A :class:`~stream_server.feed.source.History`.

    Args:
        store: where results are written and read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def settle(self) -> None:
        """Return when all that was published before the call can be read, or after 5 s."""
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                await self._store.flush()
        except (TimeoutError, StoreError) as error:
            _log.warning("feed_reads_behind_the_store", error=type(error).__name__)

    async def opened(self, stream_id: str) -> StreamOpened | None:
        """Return the first result of a stream; None: the stream is not kept."""
        kinds: list[ResultKind] = ["stream_opened"]
        found = await self._store.results(stream_id, kinds=kinds, limit=1)
        results = found.results if found is not None else ()
        return next((one for one in results if isinstance(one, StreamOpened)), None)

    async def results(
        self, stream_id: str, *, from_sample: int, after_seq: int
    ) -> AsyncIterator[Sequence[Result]]:
        """Yield the results of a stream in order of ``seq``, a page at a time."""
        async for page in stored_results(
            self._store, stream_id, from_sample=from_sample, after_seq=after_seq
        ):
            yield page


async def stored_results(
    store: StoreReader, stream_id: str, *, from_sample: int = 0, after_seq: int = -1
) -> AsyncIterator[Sequence[Result]]:
    """Yield the results of a stream in order of ``seq``, a page at a time; none if it is unknown.

    Args:
        store: where they are read.
        stream_id: which stream.
        from_sample: leave out what ends before it.
        after_seq: leave out what is not later.
    """
    while True:
        found = await store.results(
            stream_id, from_sample=from_sample, after_seq=after_seq, limit=_PAGE
        )
        if found is None:
            return
        if found.results:
            yield found.results
            after_seq = found.results[-1].seq
        if found.is_complete:
            return
