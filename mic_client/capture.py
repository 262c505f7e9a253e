"""From the thread that PortAudio calls back in to the event loop, without ever waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median

from mic_client.source import Chunk, Lost, SourceItem

__all__ = ["CaptureQueue", "OverflowMeter"]


class OverflowMeter:
    """How much audio an overflow cost.

    PortAudio tells that samples were thrown away, not how many. What is missing shows in the time
    at which each block's first sample was recorded: it runs ahead of the samples counted.

    Args:
        sample_rate_hz: of the device.
    """

    _NUM_REMEMBERED = 16

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._counted = 0
        self._leads: deque[float] = deque(maxlen=self._NUM_REMEMBERED)

    def take(self, recorded_at_s: float, num_samples: int, overflowed: bool) -> int:
        """Take one block; return the samples a channel that are missing before it.

        Args:
            recorded_at_s: when its first sample was recorded, by any clock that runs evenly.
            num_samples: its length a channel.
            overflowed: whether PortAudio says that audio was thrown away before it.
        """
        lead = recorded_at_s * self._rate_hz - self._counted
        lost = 0
        if overflowed and self._leads:
            # The median: single times are off by some milliseconds. Only recent ones: two clocks
            # drift apart by seconds a day.
            lost = max(0, round(lead - median(self._leads)))
        self._counted += lost + num_samples
        self._leads.append(lead - lost)
        return lost


class CaptureQueue:
    """Blocks of audio on their way from the device's thread to the event loop.

    ``put`` is called by the one and ``take`` by the other. When ``max_blocks`` wait, new ones are
    counted and thrown away: the callback cannot wait, and memory ends.

    Args:
        max_blocks: how many blocks may wait.
        sample_rate_hz: of the device.
        wake: called by ``put``, in the device's thread, when there is something to take.
    """

    def __init__(self, max_blocks: int, sample_rate_hz: int, wake: Callable[[], None]) -> None:
        self._max_blocks = max_blocks
        self._wake = wake
        self._meter = OverflowMeter(sample_rate_hz)
        # Appending and popping are atomic; nothing else is shared by the two threads.
        self._items: deque[SourceItem] = deque()
        self._lost_samples = 0
        self.num_overruns = 0

    def put(self, data: bytes, num_samples: int, recorded_at_s: float, overflowed: bool) -> None:
        """Take one block from the device. Never waits."""
        if overflowed:
            self.num_overruns += 1
        self._lost_samples += self._meter.take(recorded_at_s, num_samples, overflowed)
        if len(self._items) >= self._max_blocks:
            self.num_overruns += 1
            self._lost_samples += num_samples
            return
        if self._lost_samples:
            self._items.append(Lost(self._lost_samples))
            self._lost_samples = 0
        self._items.append(Chunk(data))
        self._wake()

    def take(self) -> SourceItem | None:
        """Return what comes next; None: nothing waits."""
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def take_rest(self) -> Lost | None:
        """Return what was lost after the last block. Call it when nothing is put any more."""
        lost, self._lost_samples = self._lost_samples, 0
        return Lost(lost) if lost else None
