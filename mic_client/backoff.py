"""How long to wait before trying again."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays that double, each cut by a random part so that many clients do not come at once.

    Args:
        first_s: the first delay before it is cut, s.
        longest_s: none is longer, s.
        rng: makes the random part.
    """

    def __init__(self, first_s: float, longest_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng
        self.attempts = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """Return the next delay: half to all of it; ``at_least_s`` is what the server asked for."""
        delay_s = min(self._longest_s, self._first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        delay_s *= self._rng.uniform(0.5, 1.0)
        return delay_s if at_least_s is None else at_least_s + delay_s

    def reset(self) -> None:
        """Begin with the first delay again."""
        self.attempts = 0
