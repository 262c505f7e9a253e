"""Where subscribers get their results from: what is stored, then what is live, joined.

A subscription is made first, then the live streams are looked at, then what is stored is read, and
what was published meanwhile waits in the mailbox. Results that are in both are known by ``seq``::

    store    ... 41 42 43 44 45 46
    mailbox                  45 46 47 48 ...
    sent     ... 41 42 43 44 45 46 47 48 ...

In any other order a result could be published after the store was read and before the subscription
was made, and be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

import structlog
from msgspec import structs

from stream_server.bus import Bus, Subscription
from stream_server.feeds import FeedQuery, Selection
from stream_server.store import ResultKind, Store, StoreError
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot
from stream_server.wire.results import Gap, Point, Result, Segment, StreamClosed, StreamOpened

_SETTLE_TIMEOUT_S = 5.0
"""Longest wait for the store to write what was published: ten times its usual interval."""

_BATCH = 64

_log = structlog.get_logger(__name__)


class History:
    """The store as feeds read it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def settle(self) -> None:
        """Return when all that was published can be read, after 5 s at the latest."""
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

    def results(
        self, stream_id: str, *, from_sample: int, after_seq: int, last_measures: bool
    ) -> AsyncIterator[Sequence[Result]]:
        """Yield the results of a stream in order of ``seq``, a page at a time.

        ``from_sample`` leaves out what ends before it, never ``stream_opened`` and what is about
        the stream as a whole; ``after_seq`` what is not later; ``last_measures`` the measures that
        later ones replace.
        """
        return self._store.pages(
            stream_id, from_sample=from_sample, after_seq=after_seq, last_measures=last_measures
        )


class FeedSource:
    """Makes subscriptions.

    ``live`` has the latest results of live streams; ``history`` what is stored, None: nothing is.
    """

    def __init__(
        self, bus: Bus, live: LiveStreams, history: History | None, *, mailbox_size: int
    ) -> None:
        self._bus = bus
        self._live = live
        self._history = history
        self._mailbox_size = mailbox_size

    async def open(self, query: FeedQuery, *, name: str) -> Feed:
        """Subscribe.

        Raises:
            ProtocolError: UNKNOWN_STREAM, or BAD_QUERY where nothing is stored.
        """
        if query.from_sample is not None and self._history is None:
            raise ProtocolError(
                ErrorCode.BAD_QUERY,
                "got from_s, but this server keeps no results; leave it out, or set store.url",
            )
        selection = Selection(query)
        subscription = self._bus.subscribe(
            name=name, capacity=self._mailbox_size, wants=selection.wants
        )
        try:
            # Without an await between subscribing and this, so that nothing is published between.
            streams = [each for each in self._live.snapshot() if selection.is_visible(each.opened)]
            last_seqs = {stream.opened.stream_id: stream.last_seq for stream in streams}
            begin = selection.begin(streams)
            if query.states:
                begin = [stated(one, self._live) for one in begin]
            snapshot = Snapshot(results=tuple(begin))
            if query.stream_id is not None and query.stream_id not in last_seqs:
                await self._check_stored(query, selection)
        except BaseException:
            subscription.close()
            raise
        return Feed(
            query=query,
            selection=selection,
            subscription=subscription,
            snapshot=snapshot,
            last_seqs=last_seqs,
            history=self._history,
            live=self._live,
        )

    async def _check_stored(self, query: FeedQuery, selection: Selection) -> None:
        assert query.stream_id is not None
        known = self._history and await self._history.opened(query.stream_id)
        # One of another team must not be told apart from one that does not exist.
        if known and not selection.is_visible(known):
            known = None
        if known and query.catches_up_on:
            return
        raise ProtocolError(
            ErrorCode.UNKNOWN_STREAM,
            "the stream has ended; add from_s to read what is stored of it"
            if known
            else "the stream is not known: it is neither live nor stored",
        )


class Feed:
    """One subscription; made by :class:`FeedSource`, whose caller closes it."""

    def __init__(
        self,
        *,
        query: FeedQuery,
        selection: Selection,
        subscription: Subscription,
        snapshot: Snapshot,
        last_seqs: Mapping[str, int],
        history: History | None,
        live: LiveStreams,
    ) -> None:
        self._query = query
        self._registry = live
        self._selection = selection
        self._subscription = subscription
        self._snapshot = snapshot
        self._last_seqs = last_seqs
        self._history = history
        self._sent: dict[str, _Sent] = {}
        self._dropped = 0
        self._stream_ended = query.stream_id is not None and query.stream_id not in last_seqs

    @property
    def dropped(self) -> int:
        """Results lost so far because they were not read in time."""
        return self._subscription.dropped

    @property
    def stream_ended(self) -> bool:
        """Whether the one stream requested has ended: nothing comes beyond what is stored."""
        return self._stream_ended

    def close(self) -> None:
        """End the subscription."""
        self._subscription.close()

    async def messages(self) -> AsyncGenerator[list[FeedMessage]]:
        """Yield messages as they come, several at a time; ends with the stream requested."""
        async for page in self.stored():
            yield page
        async for messages in self.live():
            yield messages

    async def stored(self) -> AsyncGenerator[list[FeedMessage]]:
        """Yield what a subscription begins with: the snapshot, then what is stored."""
        yield [self._snapshot]
        for stream_id in sorted(self._query.catches_up_on):
            async for page in self._stored(stream_id):
                if page:
                    yield page

    async def live(self) -> AsyncGenerator[list[FeedMessage]]:
        """Yield what comes after :meth:`stored`, as it comes."""
        while not self._stream_ended and (batch := await self._subscription.batch(_BATCH)):
            if messages := self._live(batch):
                yield messages

    def take_waiting(self) -> list[FeedMessage]:
        """Return what has come meanwhile, to be sent together with a batch of :meth:`live`."""
        return self._live(self._subscription.take_waiting())

    async def _stored(self, stream_id: str) -> AsyncIterator[list[FeedMessage]]:
        after_seq = self._query.after.get(stream_id, -1)
        last_seq = self._last_seqs.get(stream_id)
        if self._history is None:
            missed = 0 if last_seq is None else last_seq - after_seq
            if missed > 0:
                yield [Dropped(results=missed)]
            return
        await self._history.settle()
        if after_seq >= 0:
            # The subscriber has had stream_opened; the selection has to see it all the same, to
            # know the stream's roles.
            opened = await self._history.opened(stream_id)
            if opened is not None:
                self._selection.of(opened)
        sent = self._sent.setdefault(stream_id, _Sent(last_seq))
        pages = self._history.results(
            stream_id,
            from_sample=self._query.from_sample or 0,
            after_seq=after_seq,
            last_measures=self._query.last_measures,
        )
        async for page in pages:
            sent.add(page)
            yield [one for result in page if (one := self._selection.of(result)) is not None]

    def _live(self, batch: Sequence[Result]) -> list[FeedMessage]:
        messages: list[FeedMessage] = []
        # Looked for before the selection: types=point leaves stream_closed out.
        if self._query.stream_id is not None and not self._stream_ended:
            self._stream_ended = any(isinstance(result, StreamClosed) for result in batch)
        dropped = self._subscription.dropped
        if dropped > self._dropped:
            messages.append(Dropped(results=dropped - self._dropped))
            self._dropped = dropped
        for result in batch:
            sent = self._sent.get(result.stream_id)
            if sent is not None and sent.includes(result):
                continue
            one = self._selection.of(result)
            if one is not None:
                messages.append(stated(one, self._registry) if self._query.states else one)
        return messages


def stated(result: Result, live: LiveStreams) -> Result:
    """Return a result; a point with how its channel has been, as it stands now.

    Of what is read from the store nobody knows that any more: it has only what it was stored with.
    """
    if not isinstance(result, Point):
        return result
    lasting = live.lasting(result.stream_id, result.channel)
    return result if lasting is None else structs.replace(result, lasting=lasting)


class _Sent:
    """What a subscriber was sent of a stream from the store.

    Args:
        last_seq: of the last result published when the subscription was made; None: the stream
            had ended. Only later ones can come from the mailbox too, so only those are remembered.
    """

    def __init__(self, last_seq: int | None) -> None:
        self._last_seq = last_seq
        self._seqs: set[int] = set()
        self._highest_seq = -1

    def add(self, results: Sequence[Result]) -> None:
        if self._last_seq is not None:
            self._seqs.update(one.seq for one in results if one.seq > self._last_seq)
        if results:
            self._highest_seq = max(self._highest_seq, results[-1].seq)

    def includes(self, result: Result) -> bool:
        """Return whether a result was sent, or is an interim version of one that was."""
        if result.seq in self._seqs:
            return True
        # The store has one row for a span, so the version sent from there may be a later one.
        interim = isinstance(result, Segment | Gap) and not result.final
        return interim and result.seq < self._highest_seq
