"""Streams as lists show them: from the store, or, without one, those that are live."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from dashboard.backend import Backend
from dashboard.live.tiles import StreamItem
from dashboard.live.wall import Wall
from stream_server.access.policy import Who
from stream_server.store import StoreError, StreamRecord
from stream_server.wire.results import StreamOpened

_SETTLE_TIMEOUT_S = 3.0
_MAX_OPEN_ALERTS = 2000


class Listing:
    """Describes streams, with what the wall knows of the live ones."""

    def __init__(self, backend: Backend, wall: Wall) -> None:
        self._store = backend.store
        self._live = backend.live
        self._recordings = backend.recordings
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
        who: Who,
    ) -> list[StreamItem]:
        """Return streams that ``who`` sees, newest first; the rest is as in ``GET /streams``."""
        if self._store is not None:
            records = await self._store.list_streams(
                limit=limit,
                offset=offset,
                since=since,
                until=until,
                name=name,
                live_only=live is True,
                ended_only=live is False,
                teams=who.visible_teams,
            )
            return await self._items(records)
        opened = [
            one
            for one in self._wall.state.opened()
            if name.lower() in one.name.lower()
            and who.sees(one.team)
            and (since is None or one.opened_at >= since)
            and (until is None or one.opened_at < until)
        ]
        records = [_record_of(one) for one in opened] if live is not False else []
        return await self._items(records[offset : offset + limit])

    async def one(self, stream_id: str, who: Who) -> StreamItem | None:
        """Return a stream, None if it is not known, or not to ``who``."""
        record: StreamRecord | None = None
        if self._store is not None:
            record = await self._store.stream(stream_id)
            # Its row may be about to be written: the first one, or the one that says it has ended.
            if record is None or (record.is_live and stream_id not in self._wall.state):
                await self.settle(stream_id)
                record = await self._store.stream(stream_id)
        if record is None:
            found = self._live.snapshot(stream_id)
            if not found:
                return None
            record = _record_of(found[0].opened)
        if not who.sees(record.team):
            return None
        (item,) = await self._items([record])
        return item

    async def settle(self, stream_id: str) -> None:
        """Wait until the latest results of a stream are stored, 3 s at most."""
        if self._store is None or not self._wall.state.is_recent(stream_id):
            return
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                await self._store.flush()
        except (TimeoutError, StoreError):
            pass  # An answer from what is stored already is better than none.

    async def _items(self, records: Sequence[StreamRecord]) -> list[StreamItem]:
        open_alerts = await self._open_alerts(records)
        recorded = await self._recorded(records)
        continued = await self._continued(records)
        return [
            self._item(
                record, open_alerts[record.stream_id], channels, continued.get(record.stream_id)
            )
            for record, channels in zip(records, recorded, strict=True)
        ]

    def _item(
        self,
        record: StreamRecord,
        open_alerts: int,
        recorded: list[int],
        continued_by: str | None,
    ) -> StreamItem:
        tile = self._wall.state.tile(record.stream_id)
        seconds: dict[str | None, float] = {}
        if record.summary is not None:
            for channel in record.summary.channels:
                for label, label_s in channel.label_s.items():
                    seconds[label] = seconds.get(label, 0.0) + label_s
                if channel.unclear_s:
                    seconds[None] = seconds.get(None, 0.0) + channel.unclear_s
        elif tile is not None:
            seconds = self._wall.state.label_s(record.stream_id)
        total_s = sum(seconds.values())
        fields = msgspec.structs.asdict(record)
        if tile is not None and record.duration_s is None:
            fields["duration_s"] = tile.duration_s
        return StreamItem(
            **fields,
            live=record.is_live,
            share={label or "unclear": round(s / total_s, 4) for label, s in seconds.items()}
            if total_s
            else {},
            alerts=max(open_alerts, record.summary.alerts if record.summary is not None else 0),
            open_alerts=open_alerts,
            recorded=recorded,
            continued_by=continued_by,
        )

    async def _continued(self, records: Sequence[StreamRecord]) -> dict[str, str]:
        if self._store is None:
            # Only live streams are listed, and what is continued has ended.
            return {}
        ended = [record.stream_id for record in records if not record.is_live]
        return await self._store.continuations(ended) if ended else {}

    async def _open_alerts(self, records: Sequence[StreamRecord]) -> Counter[str]:
        if self._store is None or not records:
            tiles = (self._wall.state.tile(record.stream_id) for record in records)
            return Counter({tile.stream_id: len(tile.alerts) for tile in tiles if tile})
        only = records[0].stream_id if len(records) == 1 else None
        # One query for a page of streams: none of their alerts is older than the oldest of them.
        alerts = await self._store.alerts(
            state="unacknowledged",
            stream_id=only,
            since=None if only else min(record.opened_at for record in records),
            limit=_MAX_OPEN_ALERTS,
        )
        return Counter(alert.stream_id for alert in alerts)

    async def _recorded(self, records: Sequence[StreamRecord]) -> list[list[int]]:
        recordings = self._recordings
        if recordings is None:
            return [[] for _ in records]

        def find() -> list[list[int]]:
            # ID.CHANNEL.flac
            return [
                [int(path.suffixes[-2][1:]) for path in recordings.files(record.stream_id)]
                for record in records
            ]

        return await asyncio.to_thread(find)


def _record_of(opened: StreamOpened) -> StreamRecord:
    fields = msgspec.structs.asdict(opened)
    del fields["seq"]
    return StreamRecord(**fields, closed_at=None, reason=None, duration_s=None, summary=None)
