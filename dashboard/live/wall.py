"""The wall's shell: follows the bus, and tells each page what has changed since it was told last.

A page has a set of streams that changed, never a queue: who reads slowly finds the latest state,
once, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from dashboard.config import WallConfig
from dashboard.live.wall_state import WallState
from stream_server.bus import Bus
from stream_server.wire.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)

__all__ = ["Wall", "WallViewer"]

_CAPACITY = 65_536
_SHOWN = (StreamOpened, Point, Segment, Gap, Alert, StreamClosed)


class Wall:
    """All live streams, for any number of pages. Belongs to one event loop.

    Args:
        bus: where streams are published; those opened before are not known.
        config: what comes first.
        now: the time, seconds since 1970.
    """

    def __init__(self, bus: Bus, config: WallConfig, now: Callable[[], float] = time.time) -> None:
        self._state = WallState(config)
        self._subscription = bus.subscribe(name="wall", capacity=_CAPACITY, wants=_is_shown)
        self._viewers: set[WallViewer] = set()
        self.has_ended = False
        self.now = now

    @property
    def state(self) -> WallState:
        """All that is published by now is taken into account."""
        self._take(self._subscription.take_waiting())
        return self._state

    @property
    def viewers(self) -> frozenset[WallViewer]:
        """The pages that are told of changes now."""
        return frozenset(self._viewers)

    async def run(self) -> None:
        """Follow the bus until it closes."""
        while batch := await self._subscription.batch(_CAPACITY):
            self._take(batch)
        self.has_ended = True
        for viewer in self._viewers:
            viewer.wake.set()

    def acknowledge(self, alert_id: str) -> None:
        """Show that somebody has dealt with an alert."""
        self._tell(self.state.acknowledge(alert_id))

    def join(self) -> WallViewer:
        """Return what one page is told from."""
        viewer = WallViewer(self)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: WallViewer) -> None:
        """Tell a page nothing more."""
        self._viewers.discard(viewer)

    def close(self) -> None:
        """Follow the bus no longer."""
        self._subscription.close()

    def _take(self, results: list[Result]) -> None:
        if results:
            self._tell(self._state.feed(results))

    def _tell(self, changed: set[str]) -> None:
        for viewer in self._viewers:
            viewer.changed(changed)


class WallViewer:
    """One page; made by :meth:`Wall.join`.

    Attributes:
        wake: set when there is something to tell, or the wall has ended.
    """

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self.wake = asyncio.Event()
        self._changed: set[str] = set()
        self._told: dict[str, int] = {}

    @property
    def pending(self) -> frozenset[str]:
        """The streams the page will be told of with its next message."""
        return frozenset(self._changed)

    def changed(self, stream_ids: set[str]) -> None:
        """Let the page know of streams with its next message."""
        if stream_ids:
            self._changed |= stream_ids
            self.wake.set()

    def snapshot(self) -> str:
        """Return a :class:`~dashboard.live.tiles.WallSnapshot`; later messages go on from it."""
        state = self._wall.state
        stream_ids = state.stream_ids()
        self._told = {stream_id: state.trend_version(stream_id) for stream_id in stream_ids}
        self._changed.clear()
        self.wake.clear()
        tiles = b",".join(map(state.whole_text, stream_ids))
        return _text(b"snapshot", self._wall.now(), (b"tiles", tiles))

    def changes(self) -> str | None:
        """Return a :class:`~dashboard.live.tiles.WallChanges`; None: there are none."""
        state = self._wall.state
        changed, self._changed = self._changed, set()
        self.wake.clear()
        opened, altered, removed = [], [], []
        for stream_id in changed:
            version = state.trend_version(stream_id)
            told = self._told.get(stream_id)
            if version < 0:
                if self._told.pop(stream_id, None) is not None:
                    removed.append(msgspec.json.encode(stream_id))
                continue
            self._told[stream_id] = version
            if told is None:
                opened.append(state.whole_text(stream_id))
            else:
                altered.append(state.changed_text(stream_id, with_trend=told != version))
        if not (opened or altered or removed):
            return None
        return _text(
            b"changes",
            self._wall.now(),
            (b"opened", b",".join(opened)),
            (b"changed", b",".join(altered)),
            (b"removed", b",".join(removed)),
        )

    def close(self) -> None:
        """The page has gone, or is not looked at."""
        self._wall.leave(self)


def _is_shown(result: Result) -> bool:
    return isinstance(result, _SHOWN)


def _text(kind: bytes, now: float, *lists: tuple[bytes, bytes]) -> str:
    """Return a message made of lists that are encoded already."""
    fields = b"".join(b',"%s":[%s]' % (name, items) for name, items in lists)
    return (b'{"type":"%s","now":%.3f%s}' % (kind, now, fields)).decode()
