"""What a batcher has done so far, as plain numbers that only grow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["BatchingStats"]


@dataclass(slots=True)
class BatchingStats:
    """Counts since the batcher was made. Read from the batcher's event loop.

    Attributes:
        windows: windows accepted; each ends in one of the next three.
        windows_scored: windows whose caller got a result.
        windows_failed: windows whose caller got an error.
        windows_cancelled: windows whose caller did not wait for the answer.
        windows_refused: windows not accepted, for a busy stream or a full queue.
        batches: forward passes with the windows of a batch.
        retries: forward passes with one window of a batch that had failed as a whole.
        batch_sizes: how many batches had how many windows.
        queue_wait_s: time all windows together waited to be taken into a batch.
        step_s: time the worker took for batches and retries.
        workers_lost: workers given up.
        restarts: attempts to bring a lost worker back.
    """

    windows: int = 0
    windows_scored: int = 0
    windows_failed: int = 0
    windows_cancelled: int = 0
    windows_refused: int = 0
    batches: int = 0
    retries: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter)
    queue_wait_s: float = 0.0
    step_s: float = 0.0
    workers_lost: int = 0
    restarts: int = 0
