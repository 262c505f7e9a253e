"""Marks and flushes that wait until the audio before them is accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stream_server.protocol.errors import ErrorCode, ProtocolError

__all__ = ["MAX_WAITING_NOTES", "Note", "Notes"]

MAX_WAITING_NOTES = 1000
"""Marks and flushes that may wait; a client that sends more is sent away."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to publish at a position.

    Attributes:
        at_sample: where, on the stream's clock.
        mark: name of the mark; None: a flush.
    """

    at_sample: int
    mark: str | None


class Notes:
    """A queue in the order of positions."""

    def __init__(self) -> None:
        self._waiting: deque[Note] = deque()

    def add(self, note: Note) -> None:
        """Let a note wait; its position is not before those of others.

        Raises:
            ProtocolError: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING_NOTES:
            raise ProtocolError(
                ErrorCode.TOO_MANY_MESSAGES,
                f"got a mark or flush while {MAX_WAITING_NOTES} wait for their audio to be scored,"
                " expected fewer",
            )
        self._waiting.append(note)

    def take_due(self, is_due: Callable[[int], bool]) -> Iterator[Note]:
        """Yield the notes, in order, as long as their positions are due."""
        while self._waiting and is_due(self._waiting[0].at_sample):
            yield self._waiting.popleft()
