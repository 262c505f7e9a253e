"""How many messages a connection may send."""

from __future__ import annotations

from stream_server.protocol.errors import ErrorCode, ProtocolError

__all__ = ["MessageRate"]

_BURST_S = 10.0
"""Messages of this time may come at once: telephone platforms send what they kept back."""


class MessageRate:
    """A token bucket. Time is an argument.

    Args:
        per_s: messages a second on average.
        now_s: the time.
    """

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._left = per_s * _BURST_S
        self._then_s = now_s

    def take(self, count: int, now_s: float) -> None:
        """Count messages.

        Raises:
            ProtocolError: they are too many.
        """
        refilled = self._left + (now_s - self._then_s) * self._per_s
        self._left = min(refilled, self._per_s * _BURST_S)
        self._then_s = now_s
        if self._left < count:
            raise ProtocolError(
                ErrorCode.TOO_MANY_MESSAGES,
                f"got more than {self._per_s:g} messages a second, expected fewer",
            )
        self._left -= count
