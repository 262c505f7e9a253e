"""Audio at the speed at which it would be heard, or a multiple of it."""

from __future__ import annotations

import asyncio
import math

__all__ = ["MAX_SPEED", "Pacer", "chunk_samples"]

MAX_SPEED = math.inf
"""As fast as the receiver takes it."""

_MAX_CATCH_UP_S = 1.0
"""A delay up to here is made good, so that nothing drifts; a longer one means that somebody was
waited for, and a burst would only hurt them."""


_CHUNK_S = 0.04
_MAX_CHUNK_S = 1.0


def chunk_samples(sample_rate_hz: int, speed: float) -> int:
    """Return the audio of one chunk, in samples a channel.

    40 ms at the speed at which it is heard. Faster, chunks grow, up to a second: servers bound the
    number of messages.
    """
    return round(sample_rate_hz * min(_MAX_CHUNK_S, _CHUNK_S * max(1.0, speed)))


class Pacer:
    """Waits until a position in the audio is due.

    Deadlines are counted from the beginning, so errors of single waits do not add up.

    Args:
        speed: audio seconds a second; :data:`MAX_SPEED`: never wait.
    """

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"got speed {speed:g}, expected more than 0")
        self._speed = speed
        self._began_s: float | None = None

    async def wait_for(self, position_s: float) -> None:
        """Return when the audio at ``position_s`` has been heard. Always lets other tasks run."""
        if math.isinf(self._speed):
            await asyncio.sleep(0)
            return
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        due_s = self._began_s + position_s / self._speed
        if now_s - due_s > _MAX_CATCH_UP_S:
            self._began_s += now_s - due_s
        await asyncio.sleep(max(0.0, due_s - now_s))
