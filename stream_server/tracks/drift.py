"""Times of packets against their count of samples: offset, drift, and pauses of a TCP sender.

The offset of a packet is its time minus the samples before it. It is noisy: media times have a
resolution of a millisecond or worse, times of arrival include the network. Estimates come from
blocks of a second or two:

* *Media* times err to both sides: a block's value is the median of its offsets, and the offset the
  median of the last three blocks.
* Times of *arrival* err to one side, since a network only delays: the least delayed packets are
  right. A block's value is its smallest offset, and the offset the smallest of the last 20 s. A
  delay that lasts longer is taken for an offset, and given back when it ends.

Drift is the slope of the blocks' values over time: the median of the slopes of pairs half the call
apart (a Theil-Sen estimator), so single blocks that are far off do not move it.

:class:`ArrivalTimes` turns the arrival of a TCP connection's audio into the time when it was sent.
TCP loses nothing and keeps the order, so a silent connection was either stalled or paused by its
sender::

    sent      ▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮▮      sent      ▮▮▮▮▮▮▮▮            ▮▮▮▮▮▮
    arrives   ▮▮▮▮▮▮▮▮        ▮▮▮▮▮   arrives   ▮▮▮▮▮▮▮▮            ▮▮▮▮▮▮
                      a stall: a burst                  a pause: it goes on as before

Only after a pause is audio later than its predecessors for good. Audio that is very late is held
until that is known: at most ``max_jitter_ms`` by the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

TickSource = Literal["media", "arrival"]
"""What a packet's time is: the platform's clock of the audio, or the time of its arrival."""

MIN_DRIFT_S = 30
"""Audio before drift is reported: over less, noise of some ms looks like drift."""

_BLOCK_S = {"media": 1, "arrival": 2}
_BLOCKS = {"media": 3, "arrival": 10}
_MIN_BLOCK_OFFSETS = 8
# Blocks kept for the slope; when there are more, pairs of them become one.
_MAX_KEPT_BLOCKS = 256


class OffsetFilter:
    """Estimates offset and drift from the offsets of a channel's packets."""

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
        """The estimate, in samples; None before the first block ends."""

    def add(self, tick: int, offset: int) -> None:
        """Add the offset of the packet at ``tick``."""
        if not self._block:
            self._block_start = tick
        self._block.append(offset)
        if tick - self._block_start >= self._block_ticks and len(self._block) >= _MIN_BLOCK_OFFSETS:
            self._end_block((self._block_start + tick) / 2)

    def shift(self, offset: int) -> None:
        """Add ``offset`` to the latest offsets, whose times were shifted."""
        # Not to the kept blocks: a step in time would look like drift.
        self._block = [each + offset for each in self._block]
        self._latest = deque((each + offset for each in self._latest), self._latest.maxlen)
        if self.offset is not None:
            self.offset += offset

    @property
    def drift_ppm(self) -> float | None:
        """How much faster samples come than times say; None if not known yet."""
        kept = self._kept
        # Kept blocks are at their middles, a second inside both ends of the call.
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
            # Halving keeps the memory of a long call bounded and its slope's span whole.
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
"""Audio that is held at most; when more comes at once, it is placed by what is known then."""

_SAMPLE_BYTES = 2
# How much slower than the clock a sender's samples may come without being late: 500 parts in a
# million, several times a quartz.
_MAX_DRIFT = 0.0005


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes
    start: int  # samples before it
    came_at: int


class ArrivalTimes:
    """The sending times of one TCP connection.

    Args:
        rate_hz: of its audio, one channel of 16-bit samples.
        max_jitter_ms: delay that is usual.
    """

    def __init__(self, rate_hz: int, max_jitter_ms: int) -> None:
        self._wait = rate_hz * max_jitter_ms // 1000
        self._max_held = MAX_HELD_S * rate_hz
        self._num_samples = 0
        self._delay: float | None = None  # recent minimum: from a sample's number to its time
        self._came_at = 0
        self._held: list[_Held] = []

    def put(self, data: bytes, came_at: int) -> list[tuple[bytes, int]]:
        """Take audio; return pieces of audio, each with the time of its first sample.

        Args:
            data: whole samples.
            came_at: the time, in samples of the rate, from any origin; never less than before.
        """
        self._held.append(_Held(data, self._num_samples, came_at))
        self._num_samples += len(data) // _SAMPLE_BYTES
        # A chunk can be sent once its last sample was spoken.
        delay = came_at - self._num_samples
        if self._delay is None:
            self._delay = delay
        else:
            # The minimum rises slowly, or a sender with a slow clock would seem ever later.
            self._delay += (came_at - self._came_at) * _MAX_DRIFT
        self._came_at = came_at
        if delay - self._delay <= self._wait:
            if len(self._held) == 1:
                # The usual case: its own time, with its noise, which the offset filter removes.
                self._delay = min(self._delay, delay)
                return self._release(delay)
            # A burst has caught up: it was a stall, and its audio was sent in time.
            return self._release(self._delay)
        first = self._held[0]
        if (
            came_at - first.came_at >= self._wait
            or self._num_samples - first.start >= self._max_held
        ):
            return self.flush()
        return []

    def flush(self) -> list[tuple[bytes, int]]:
        """Return what is held, placed by the least delay among it: the sender has paused."""
        if not self._held:
            return []
        self._delay = min(
            each.came_at - each.start - len(each.data) // _SAMPLE_BYTES for each in self._held
        )
        return self._release(self._delay)

    def _release(self, delay: float) -> list[tuple[bytes, int]]:
        held, self._held = self._held, []
        return [(each.data, round(each.start + delay)) for each in held]
