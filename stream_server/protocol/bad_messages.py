"""How many bad messages a client may send before its connection is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from stream_server.protocol.dialect import Inbound
from stream_server.protocol.errors import ErrorCode, ProtocolError

M = TypeVar("M")

__all__ = ["GOOD_MESSAGES_PER_BAD", "MAX_BAD_MESSAGES", "BadMessages"]

MAX_BAD_MESSAGES = 100
"""Bad messages of one connection before it is closed."""
GOOD_MESSAGES_PER_BAD = 10
"""So many good messages make up for a bad one: a client of a later version that says something
unknown now and then is not a broken one."""


class BadMessages:
    """Counts what one connection sends."""

    def __init__(self) -> None:
        self._badness = 0

    def counted(self, understand: Callable[[M], list[Inbound]], message: M) -> list[Inbound]:
        """Return what ``understand`` makes of a message, and count it as good or bad.

        Raises:
            ProtocolError: what ``understand`` raises, or ``TOO_MANY_ERRORS`` for one more that
                would have left the stream as it was.
        """
        try:
            inbound = understand(message)
        except ProtocolError as error:
            if not error.ends_stream:
                self.count_bad(error)
            raise
        self.count_good()
        return inbound

    def count_good(self) -> None:
        """Count a message that was understood."""
        self._badness = max(0, self._badness - 1)

    def count_bad(self, error: ProtocolError) -> None:
        """Count a message that was not.

        Args:
            error: what the client is told of it.

        Raises:
            ProtocolError: ``TOO_MANY_ERRORS``.
        """
        self._badness += GOOD_MESSAGES_PER_BAD
        if self._badness > MAX_BAD_MESSAGES * GOOD_MESSAGES_PER_BAD:
            raise ProtocolError(
                ErrorCode.TOO_MANY_ERRORS,
                f"got more than {MAX_BAD_MESSAGES} bad messages, the last one: {error}",
            ) from error
