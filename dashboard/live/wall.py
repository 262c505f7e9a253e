"""The wall: follows the bus, and tells each page what changed since its last message.

A page has a set of streams that changed, not a queue: a slow page gets the latest state of each,
once, and delays no other page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from dashboard.config import WallConfig
from dashboard.live.wall_state import WallState
from stream_server.access.policy import Who
from stream_server.bus import Bus
from stream_server.wire.results import (
    Alert,
    Consent,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)

# About a minute of 200 streams. The wall follows without awaiting, so it never fills in practice;
# a wall that lost results would show streams that have ended.
_CAPACITY = 65_536
_SHOWN = (StreamOpened, Point, Segment, Gap, Alert, Consent, StreamClosed)


class Wall:
    """All live streams, for any number of pages. Belongs to one event loop.

    Streams that were opened before it was made are not shown. ``now`` returns seconds since 1970.
    """

    def __init__(self, bus: Bus, config: WallConfig, now: Callable[[], float] = time.time) -> None:
        self._state = WallState(config)
        self._subscription = bus.subscribe(name="wall", capacity=_CAPACITY, wants=_is_shown)
        self._viewers: set[WallViewer] = set()
        self.has_ended = False
        self.now = now

    @property
    def state(self) -> WallState:
        """The state after everything published so far.

        An alert that was just acknowledged, or a stream that was just opened, may still wait in
        the mailbox when a request asks for it.
        """
        self._take(self._subscription.take_waiting())
        return self._state

    async def run(self) -> None:
        """Follow the bus until it closes."""
        while batch := await self._subscription.batch(_CAPACITY):
            self._take(batch)
        self.has_ended = True
        for viewer in self._viewers:
            viewer.wake.set()

    def acknowledge(self, alert_id: str) -> None:
        """Show an alert as acknowledged."""
        self._tell(self.state.acknowledge(alert_id))

    def join(self, who: Who) -> WallViewer:
        """Add a page that shows the streams ``who`` may see."""
        viewer = WallViewer(self, who)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: WallViewer) -> None:
        """Remove a page."""
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

    def __init__(self, wall: Wall, who: Who) -> None:
        self._wall = wall
        self._who = who
        self.wake = asyncio.Event()
        self._changed: set[str] = set()
        self._told: dict[str, int] = {}

    def changed(self, stream_ids: set[str]) -> None:
        """Put streams into the page's next message."""
        if stream_ids:
            self._changed |= stream_ids
            self.wake.set()

    def snapshot(self) -> str:
        """Return a :class:`~dashboard.live.tiles.WallSnapshot`; later messages go on from it."""
        state = self._wall.state
        stream_ids = [each for each in state.stream_ids() if self._who.sees(state.team(each))]
        # A page that becomes visible again starts from here; what it was sent before is void.
        self._told = {stream_id: state.trend_version(stream_id) for stream_id in stream_ids}
        self._changed.clear()
        self.wake.clear()
        tiles = b",".join(map(state.whole_text, stream_ids))
        return _text(b"snapshot", self._wall.now(), (b"tiles", tiles))

    def changes(self) -> str | None:
        """Return a :class:`~dashboard.live.tiles.WallChanges`, None if nothing changed."""
        state = self._wall.state
        changed, self._changed = self._changed, set()
        self.wake.clear()
        opened, altered, removed = [], [], []
        for stream_id in changed:
            version = state.trend_version(stream_id)
            told = self._told.get(stream_id)
            if version >= 0 and told is None and not self._who.sees(state.team(stream_id)):
                continue
            if version < 0:
                # One that opened and closed between two messages is not mentioned at all.
                if self._told.pop(stream_id, None) is not None:
                    removed.append(msgspec.json.encode(stream_id))
                continue
            self._told[stream_id] = version
            # The trend, most of a tile's bytes, changes every 5 s: sent only if it has.
            if told is None:
                opened.append(state.whole_text(stream_id))
            else:
                altered.append(state.changed_text(stream_id, with_trend=told != version))
        # All of them opened and closed since the last message.
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
        """Remove the page: it left, or is hidden."""
        self._wall.leave(self)


def _is_shown(result: Result) -> bool:
    return isinstance(result, _SHOWN)


def _text(kind: bytes, now: float, *lists: tuple[bytes, bytes]) -> str:
    """Put a message together from lists of encoded items."""
    # Encoding a tile again for each of 20 pages would be most of the server's work.
    fields = b"".join(b',"%s":[%s]' % (name, items) for name, items in lists)
    return (b'{"type":"%s","now":%.3f%s}' % (kind, now, fields)).decode()
