"""How long to wait before a failed attempt is repeated: for clients and server alike.

It stands here because this is the lowest package that clients and server may import.
"""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from ``first_s`` up to ``longest_s``; each is cut by a random part.

    ::

        backoff = Backoff(1.0, 60.0)
        while not succeeded():
            sleep(backoff.next_s())

    Args:
        rng: source of the random part; None: one of its own.

    Attributes:
        attempts: failures in a row, which is how often :meth:`next_s` was called since the last
            :meth:`reset`.
    """

    def __init__(self, first_s: float, longest_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng or random.Random()
        self.attempts = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """Return the next delay, s.

        Args:
            at_least_s: what the other side asked for (``Retry-After``). The delay is added to it:
                many clients are told the same number and would all come back at the same moment.
        """
        # 2 ** 1024 overflows a float, and a server may be away for weeks.
        delay_s = min(self._longest_s, self._first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        # "Equal jitter": half of the delay stays. With "full jitter" (0 to 1) every second client
        # would be back before half of the delay has passed.
        delay_s *= self._rng.uniform(0.5, 1.0)
        return delay_s if at_least_s is None else at_least_s + delay_s

    def reset(self) -> None:
        self.attempts = 0
