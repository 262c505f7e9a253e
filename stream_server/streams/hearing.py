"""Lets the speech detectors of many streams hear together, which costs each of them half.

A stream that has a block of audio waits for its turn, with the blocks of the other streams of this
process. Silero's network then runs once for all of them; what each of them hears is the same as
alone, to the last bit.
"""

from __future__ import annotations

import asyncio

from ser_engine.timeline.silero import hear_together
from stream_server.streams.session import Session

TURN_S = 0.05
"""Time between two turns: the lag that hearing together adds at most while there is time."""
LONGEST_TURN_S = 0.2
"""The same where there is not: with more others each stream costs less, half as much at best."""
_LONGER_FOR_LATE = 4.0
MIN_BLOCKS_A_S = 16
"""Blocks a second from which waiting pays: those of eight streams."""


class SharedHearing:
    """Of all streams of a process. See the module's text."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._turn: asyncio.Event | None = None
        self._turn_s = TURN_S
        self._second = 0
        self._blocks = self._blocks_before = 0  # of this second, of the one before

    async def turn(self, session: Session) -> None:
        """Wait until the next block of ``session`` was heard; return at once where few are here."""
        loop = asyncio.get_running_loop()
        second = int(loop.time())
        if second != self._second:
            self._blocks_before = self._blocks if second == self._second + 1 else 0
            self._second, self._blocks = second, 0
        self._blocks += 1
        if max(self._blocks_before, self._blocks) < MIN_BLOCKS_A_S:
            return
        if self._turn is None:
            self._turn = asyncio.Event()
            loop.call_later(self._turn_s, self._hear, self._turn, loop.time() + self._turn_s)
        self._sessions.append(session)
        await self._turn.wait()

    def _hear(self, turn: asyncio.Event, due_s: float) -> None:
        late_s = max(asyncio.get_running_loop().time() - due_s, 0.0)
        self._turn_s = min(TURN_S + _LONGER_FOR_LATE * late_s, LONGEST_TURN_S)
        sessions, self._sessions, self._turn = self._sessions, [], None
        try:
            hear_together(part for session in sessions for part in session.listen())
        finally:
            # Whatever failed: a stream that was not heard here hears for itself.
            turn.set()
