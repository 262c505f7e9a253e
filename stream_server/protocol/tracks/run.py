"""A stretch of one channel."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Run", "take"]


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive audio, or time without.

    Attributes:
        num_samples: length.
        data: encoded samples; None: lost.
    """

    num_samples: int
    data: bytes | None


def take(runs: deque[Run], num_samples: int, sample_bytes: int) -> list[Run]:
    """Take the first ``num_samples`` out of ``runs``, which has as many."""
    taken: list[Run] = []
    while num_samples > 0:
        run = runs.popleft()
        if run.num_samples > num_samples:
            cut = num_samples * sample_bytes
            head, rest = (None, None) if run.data is None else (run.data[:cut], run.data[cut:])
            runs.appendleft(Run(run.num_samples - num_samples, rest))
            run = Run(num_samples, head)
        taken.append(run)
        num_samples -= run.num_samples
    return taken
