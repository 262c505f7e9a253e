"""Streams: lists, one, its results, its audio.

Streams as they are listed: from the store, or, without one, those that are live.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
from aiohttp import hdrs, web

from dashboard.api.routes import Call, Param, Route, reply
from dashboard.backend import Backend
from dashboard.errors import ApiError
from dashboard.live.tiles import StreamItem
from dashboard.live.wall import Wall
from stream_server.store import ResultKind, Store, StoreError, StreamRecord
from stream_server.wire.results import Point, Result, StreamOpened

_SETTLE_TIMEOUT_S = 3.0
_MAX_OPEN_ALERTS = 2000


class Listing:
    """Describes streams.

    Args:
        backend: the rest of the server.
        wall: the live streams.
    """

    def __init__(self, backend: Backend, wall: Wall) -> None:
        self._backend = backend
        self._wall = wall

    async def page(
        self,
        *,
        live: bool | None,
        limit: int,
        offset: int,
        since: float | None,
        until: float | None,
        name: str,
    ) -> list[StreamItem]:
        """Return streams, the newest first; the arguments are those of the query."""
        store = self._backend.store
        if store is None:
            opened = [
                one
                for one in self._wall.state.opened()
                if name.lower() in one.name.lower()
                and (since is None or one.opened_at >= since)
                and (until is None or one.opened_at < until)
            ]
            records = [_record_of(one) for one in opened] if live is not False else []
            return await self._items(records[offset : offset + limit])
        records = await store.list_streams(
            limit=limit,
            offset=offset,
            since=since,
            until=until,
            name=name,
            live_only=live is True,
            ended_only=live is False,
        )
        return await self._items(records)

    async def one(self, stream_id: str) -> StreamItem | None:
        """Return a stream; None: there is none of that name."""
        store = self._backend.store
        record: StreamRecord | None = None
        if store is not None:
            record = await store.stream(stream_id)
            if record is None or (record.is_live and stream_id not in self._wall.state):
                await self.settle(stream_id)
                record = await store.stream(stream_id)
        if record is None:
            found = self._backend.live.snapshot(stream_id)
            if not found:
                return None
            record = _record_of(found[0].opened)
        (item,) = await self._items([record])
        return item

    async def settle(self, stream_id: str) -> None:
        """Let what was published of a stream lately be stored; for a moment at most."""
        store = self._backend.store
        if store is None or not self._wall.state.is_recent(stream_id):
            return
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                await store.flush()
        except (TimeoutError, StoreError):
            pass  # What is stored is told all the same.

    async def _items(self, records: Sequence[StreamRecord]) -> list[StreamItem]:
        open_alerts = await self._open_alerts(records)
        recorded = await self._recorded(records)
        return [
            self._item(record, open_alerts[record.stream_id], channels)
            for record, channels in zip(records, recorded, strict=True)
        ]

    def _item(self, record: StreamRecord, open_alerts: int, recorded: list[int]) -> StreamItem:
        tile = self._wall.state.tile(record.stream_id)
        seconds: dict[str, float] = {}
        if record.summary is not None:
            for channel in record.summary.channels:
                for label, label_s in channel.label_s.items():
                    seconds[label] = seconds.get(label, 0.0) + label_s
        elif tile is not None:
            seconds = self._wall.state.label_s(record.stream_id)
        total_s = sum(seconds.values())
        fields = msgspec.structs.asdict(record)
        if tile is not None and record.duration_s is None:
            fields["duration_s"] = tile.duration_s
        return StreamItem(
            **fields,
            live=record.is_live,
            share={label: round(s / total_s, 4) for label, s in seconds.items()} if total_s else {},
            alerts=max(open_alerts, record.summary.alerts if record.summary is not None else 0),
            open_alerts=open_alerts,
            recorded=recorded,
        )

    async def _open_alerts(self, records: Sequence[StreamRecord]) -> Counter[str]:
        store = self._backend.store
        if store is None or not records:
            tiles = (self._wall.state.tile(record.stream_id) for record in records)
            return Counter({tile.stream_id: len(tile.alerts) for tile in tiles if tile})
        only = records[0].stream_id if len(records) == 1 else None
        alerts = await store.alerts(
            state="unacknowledged",
            stream_id=only,
            since=None if only else min(record.opened_at for record in records),
            limit=_MAX_OPEN_ALERTS,
        )
        return Counter(alert.stream_id for alert in alerts)

    async def _recorded(self, records: Sequence[StreamRecord]) -> list[list[int]]:
        recordings = self._backend.recordings
        if recordings is None:
            return [[] for _ in records]

        def find() -> list[list[int]]:
            return [
                [int(path.suffixes[-2][1:]) for path in recordings.files(record.stream_id)]
                for record in records
            ]

        return await asyncio.to_thread(find)


def _record_of(opened: StreamOpened) -> StreamRecord:
    fields = msgspec.structs.asdict(opened)
    del fields["seq"]
    return StreamRecord(**fields, closed_at=None, reason=None, duration_s=None, summary=None)


_KINDS: tuple[ResultKind, ...] = (
    "stream_opened",
    "point",
    "segment",
    "gap",
    "marked",
    "alert",
    "warning",
    "summary",
    "stream_closed",
)
_RATE_HZ = 16_000
_PAGE = 2000
_MAX_S = 1e9
_LATEST_S = 1e11
_POINTS: tuple[ResultKind, ...] = ("point",)


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """Streams, the newest first.

    Attributes:
        more: whether there are more beyond ``limit``.
    """

    streams: list[StreamItem]
    more: bool


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Results in order of ``seq``.

    Attributes:
        complete: False: there are more; ask again with ``after_seq``.
        next_seq: ``after_seq`` of the next request.
    """

    results: list[Result]
    complete: bool
    next_seq: int


class StreamRoutes:
    """Handlers.

    Args:
        backend: the rest of the server.
        wall: the live streams.
        listing: describes streams.
    """

    def __init__(self, backend: Backend, wall: Wall, listing: Listing) -> None:
        self._backend = backend
        self._wall = wall
        self._listing = listing

    def routes(self) -> list[Route]:
        """Return the routes of this module."""
        one = "/streams/{stream_id}"
        return [
            Route(
                "GET",
                "/streams",
                "Streams, live and ended, the newest first.",
                self.list,
                params=(
                    Param("live", "boolean", "true: live ones only; false: ended ones only"),
                    Param("limit", "integer", "how many at most", 100, 1, 1000),
                    Param("offset", "integer", "how many of the newest to leave out", 0, 0, 10**9),
                    Param(
                        "since",
                        "number",
                        "opened at or after, s since 1970, UTC",
                        None,
                        0,
                        _LATEST_S,
                    ),
                    Param(
                        "until", "number", "opened before, s since 1970, UTC", None, 0, _LATEST_S
                    ),
                    Param("name", "string", "part of the name, in whatever case", ""),
                ),
                response=Streams,
                errors=("store_away",),
            ),
            Route(
                "GET",
                one,
                "One stream.",
                self.one,
                response=StreamItem,
                errors=("not_found", "store_away"),
            ),
            Route(
                "DELETE",
                one,
                "Delete a stream that has ended, with its results and its audio.",
                self.delete,
                status=204,
                errors=("not_found", "stream_is_live", "no_store", "store_away"),
            ),
            Route(
                "GET",
                one + "/results",
                "What was published of a stream, as it is stored.",
                self.results,
                params=(
                    Param("from_s", "number", "leave out what ends before, s", 0.0, 0, _MAX_S),
                    Param("to_s", "number", "leave out what begins after, s", None, 0, _MAX_S),
                    Param("types", "list", "of results; default: all", choices=_KINDS),
                    Param("after_seq", "integer", "only later results", -1, -1, 10**15),
                    Param("limit", "integer", "how many at most", 10_000, 1, 50_000),
                ),
                response=Results,
                errors=("not_found", "no_store", "store_away"),
            ),
            Route(
                "GET",
                one + "/points.csv",
                "The points of a stream as a table, a column a class.",
                self.points_csv,
                content="text/csv",
                errors=("not_found", "no_store", "store_away"),
            ),
            Route(
                "GET",
                one + "/recording/{channel}",
                "The audio of a channel, where it is kept; takes Range.",
                self.recording,
                content="audio/flac",
                errors=("not_found",),
            ),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        """Answer ``/streams``."""
        query = call.query
        items = await self._listing.page(**{**query, "limit": query["limit"] + 1})
        limit = query["limit"]
        return reply(Streams(streams=items[:limit], more=len(items) > limit))

    async def one(self, call: Call) -> web.StreamResponse:
        """Answer ``/streams/{id}``."""
        item = await self._listing.one(call.part("stream_id"))
        if item is None:
            raise _unknown()
        return reply(item)

    async def delete(self, call: Call) -> web.StreamResponse:
        """Answer ``DELETE /streams/{id}``."""
        stream_id = call.part("stream_id")
        store = self._store()
        await self._listing.settle(stream_id)
        record = await store.stream(stream_id)
        if record is None:
            raise _unknown()
        if record.is_live:
            raise ApiError("stream_is_live", "got a stream that is live, expected an ended one")
        await store.delete_stream(stream_id)
        return web.Response(status=204)

    async def results(self, call: Call) -> web.StreamResponse:
        """Answer ``/streams/{id}/results``."""
        query, stream_id = call.query, call.part("stream_id")
        store = self._store()
        await self._listing.settle(stream_id)
        found = await store.results(
            stream_id,
            from_sample=round(query["from_s"] * _RATE_HZ),
            after_seq=query["after_seq"],
            kinds=query["types"] or _KINDS,
            limit=query["limit"],
        )
        if found is None:
            raise _unknown()
        to_s = query["to_s"]
        results = found.results
        return reply(
            Results(
                results=[one for one in results if to_s is None or _begin_s(one) <= to_s],
                complete=found.is_complete,
                next_seq=results[-1].seq if results else query["after_seq"],
            )
        )

    async def points_csv(self, call: Call) -> web.StreamResponse:
        """Answer ``/streams/{id}/points.csv``, a page at a time."""
        stream_id = call.part("stream_id")
        store = self._store()
        await self._listing.settle(stream_id)
        record = await store.stream(stream_id)
        if record is None:
            raise _unknown()
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/csv; charset=utf-8",
                hdrs.CONTENT_DISPOSITION: f'attachment; filename="{stream_id}.csv"',
            }
        )
        await response.prepare(call.request)
        head = ("channel", "role", "start_s", "end_s", "label", "confidence", "speech_share")
        flags = ("provisional", "widened", "narrow_band", "model")
        await response.write(_csv([(*head, *flags, *record.labels)]))
        async for page in _points(store, stream_id):
            await response.write(
                _csv(
                    [
                        (
                            *(getattr(point, name) for name in head),
                            *(getattr(point, name) for name in flags),
                            *point.posteriors,
                        )
                        for point in page
                    ]
                )
            )
        await response.write_eof()
        return response

    async def recording(self, call: Call) -> web.StreamResponse:
        """Answer ``/streams/{id}/recording/{channel}``."""
        path = await self._recorded(call.part("stream_id"), call.part("channel"))
        if path is None:
            raise ApiError("not_found", "got a channel without a recording, expected one with it")
        headers = {hdrs.CONTENT_TYPE: "audio/flac", hdrs.CACHE_CONTROL: "private, no-cache"}
        return web.FileResponse(path, headers=headers)

    async def _recorded(self, stream_id: str, channel: str) -> Path | None:
        recordings = self._backend.recordings
        if recordings is None:
            return None
        # Chosen among the files there are: what was asked for becomes no path.
        paths = await asyncio.to_thread(recordings.files, stream_id)
        return next((path for path in paths if path.suffixes[-2] == f".{channel}"), None)

    def _store(self) -> Store:
        if self._backend.store is None:
            raise ApiError("no_store", "got a request for what is kept, but nothing is kept")
        return self._backend.store


async def _points(store: Store, stream_id: str) -> AsyncIterator[Sequence[Point]]:
    after_seq = -1
    while True:
        found = await store.results(stream_id, after_seq=after_seq, kinds=_POINTS, limit=_PAGE)
        if found is None or not found.results:
            return
        yield [one for one in found.results if isinstance(one, Point)]
        if found.is_complete:
            return
        after_seq = found.results[-1].seq


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _begin_s(result: Result) -> float:
    begin: float = getattr(result, "start_s", getattr(result, "at_s", 0.0))
    return begin


def _unknown() -> ApiError:
    return ApiError("not_found", "got a stream that is not known, expected one that is")
