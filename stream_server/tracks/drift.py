"""When audio of a TCP connection was sent, told from when it came.

TCP loses nothing and keeps the order, so a connection that says nothing for a while has either
stalled or been paused by its sender::

    sent      ▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮      sent      ▮▮▮▮▮▮▮▮            ▮▮▮▮▮▮
    arrives   ▮▮▮▮▮▮▮▮        ▮▮▮▮▮   arrives   ▮▮▮▮▮▮▮▮            ▮▮▮▮▮▮
                      a stall: a burst                  a pause: it goes on as before

Only after a pause is audio later than its predecessors for good. Audio that is very late is held
until that is known: at most ``max_jitter_ms`` by the clock.

How far a channel's times are from its count of samples, and how that changes.

The offset of a packet is its time minus the samples before it. It is noisy: times have a resolution
of a millisecond or worse, or are those of arrival. What is believed of it comes from blocks of a
second or two:

* Times of the *media* err to both sides: a block's value is the median of its offsets, and the
  offset the median of the last three blocks.
* Times of *arrival* err to one side, for a network only ever delays: the packets that were delayed
  least tell the truth. A block's value is its smallest offset, and the offset the smallest of the
  last 20 s. A delay that lasts longer is taken for an offset, and given back when it ends.

Drift is the slope of the blocks' values over time, the median of the slopes of pairs half the call
apart (after Theil and Sen): some blocks that are far off do not move it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

TickSource = Literal["media", "arrival"]
"""What packets' times are: the platform's of the audio, or those at which they came."""

MIN_DRIFT_S = 30
"""Audio from which on drift is told: in less, noise of some ms would look like drift."""

_BLOCK_S = {"media": 1, "arrival": 2}
_BLOCKS = {"media": 3, "arrival": 10}
_MIN_BLOCK_OFFSETS = 8
_MAX_KEPT_BLOCKS = 256
"""Blocks kept for the slope; when there are more, pairs of them become one."""


class OffsetFilter:
    """Takes the offset of every packet of a channel.

    Args:
        rate_hz: of the channel.
        source: of the times.
    """

    def __init__(self, rate_hz: int, source: TickSource) -> None:
        self._rate_hz = rate_hz
        self._is_arrival = source == "arrival"
        self._block_ticks = _BLOCK_S[source] * rate_hz
        self._block: list[int] = []
        self._block_start = 0
        self._latest: deque[float] = deque(maxlen=_BLOCKS[source])
        self._kept: list[tuple[float, float]] = []  # time, offset
        self._merged = 1  # blocks in an entry of those
        self._pending: list[tuple[float, float]] = []
        self.offset: float | None = None
        """What is believed, in samples; None: nothing yet."""

    def add(self, tick: int, offset: int) -> None:
        """Take the offset of the packet at ``tick``."""
        if not self._block:
            self._block_start = tick
        self._block.append(offset)
        if tick - self._block_start >= self._block_ticks and len(self._block) >= _MIN_BLOCK_OFFSETS:
            self._end_block((self._block_start + tick) / 2)

    def shift(self, offset: int) -> None:
        """Let the latest offsets be greater by ``offset``: their times were read wrongly."""
        self._block = [each + offset for each in self._block]
        self._latest = deque((each + offset for each in self._latest), self._latest.maxlen)
        if self.offset is not None:
            self.offset += offset

    @property
    def drift_ppm(self) -> float | None:
        """How much faster samples come than times say; None: not known."""
        kept = self._kept
        if len(kept) < 3 or kept[-1][0] - kept[0][0] < (MIN_DRIFT_S - 2) * self._rate_hz:
            return None
        return -1e6 * median(_slopes(kept))

    def _end_block(self, tick: float) -> None:
        value = min(self._block) if self._is_arrival else median(self._block)
        self._block.clear()
        self._latest.append(value)
        self.offset = min(self._latest) if self._is_arrival else median(self._latest)
        self._pending.append((tick, value))
        if len(self._pending) < self._merged:
            return
        self._kept.append(_mean(self._pending))
        self._pending.clear()
        if len(self._kept) >= _MAX_KEPT_BLOCKS:
            self._kept = [_mean(self._kept[at : at + 2]) for at in range(0, len(self._kept), 2)]
            self._merged *= 2


def _mean(blocks: Sequence[tuple[float, float]]) -> tuple[float, float]:
    ticks, offsets = zip(*blocks, strict=True)
    return sum(ticks) / len(blocks), sum(offsets) / len(blocks)


def _slopes(blocks: Sequence[tuple[float, float]]) -> Iterable[float]:
    half = len(blocks) // 2
    for (tick, offset), (later, other) in zip(blocks, blocks[half:], strict=False):
        yield (other - offset) / max(later - tick, 1)


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
