"""When audio of a TCP connection was sent, told from when it came.

TCP loses nothing and keeps the order, so a connection that says nothing for a while has either
stalled or been paused by its sender::

    sent      ▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮      sent      ▮▮▮▮▮▮▮▮            ▮▮▮▮▮▮
    arrives   ▮▮▮▮▮▮▮▮        ▮▮▮▮▮   arrives   ▮▮▮▮▮▮▮▮            ▮▮▮▮▮▮
                      a stall: a burst                  a pause: it goes on as before

Only after a pause is audio later than its predecessors for good. Audio that is very late is held
until that is known: at most ``max_jitter_ms`` by the clock.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_HELD_S", "ArrivalTimes"]

MAX_HELD_S = 10
"""Audio that is held at most; when more comes at once, what is known then decides."""

_SAMPLE_BYTES = 2
_MAX_DRIFT = 0.0005
"""How much slower than the clock a sender's samples may come without being late."""


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes
    start: int  # samples before it
    came_at: int


class ArrivalTimes:
    """One connection.

    Args:
        rate_hz: of its audio, one channel of 16-bit samples.
        max_jitter_ms: delay that is nothing unusual.
    """

    def __init__(self, rate_hz: int, max_jitter_ms: int) -> None:
        self._wait = rate_hz * max_jitter_ms // 1000
        self._max_held = MAX_HELD_S * rate_hz
        self._num_samples = 0
        self._delay: float | None = None  # the least of late: from a sample's number to its time
        self._came_at = 0
        self._held: list[_Held] = []

    def put(self, data: bytes, came_at: int) -> list[tuple[bytes, int]]:
        """Take audio; return what is placed: audio, and the time of its first sample.

        Args:
            data: whole samples.
            came_at: the time, in samples of the rate, from any origin; never less than before.
        """
        self._held.append(_Held(data, self._num_samples, came_at))
        self._num_samples += len(data) // _SAMPLE_BYTES
        delay = came_at - self._num_samples
        if self._delay is None:
            self._delay = delay
        else:
            self._delay += (came_at - self._came_at) * _MAX_DRIFT
        self._came_at = came_at
        if delay - self._delay <= self._wait:
            if len(self._held) == 1:
                # As usual: its own time, noise and all.
                self._delay = min(self._delay, delay)
                return self._release(delay)
            return self._release(self._delay)
        first = self._held[0]
        if (
            came_at - first.came_at >= self._wait
            or self._num_samples - first.start >= self._max_held
        ):
            return self.flush()
        return []

    def flush(self) -> list[tuple[bytes, int]]:
        """Return what is held: it was sent as late as the least late of it came."""
        if not self._held:
            return []
        self._delay = min(
            each.came_at - each.start - len(each.data) // _SAMPLE_BYTES for each in self._held
        )
        return self._release(self._delay)

    def _release(self, delay: float) -> list[tuple[bytes, int]]:
        held, self._held = self._held, []
        return [(each.data, round(each.start + delay)) for each in held]
