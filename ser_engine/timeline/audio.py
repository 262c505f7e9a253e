"""The audio of one channel: its clock and boundaries, what windows are cut from, what was lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_engine.errors import AudioError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.raw_audio import SCALE
from ser_engine.timeline.speech import SpeechDetector
from ser_engine.types import FloatArray

BRIDGED_SAMPLES = SAMPLE_RATE_HZ
"""Lost audio that windows reach across, as silence: the first second of each span.

A window that begins anew costs more than one with a hole. With 1 % of the 20 ms packets of a
telephone call lost, the built-in model kept 93 % of its labels with bridged windows and 58 % with
new ones; with holes of 2 s it was the other way round."""


def check_audio(samples: FloatArray) -> None:
    """Refuse what is not finite float32 ``(samples,)``. Raises AudioError: it is not."""
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise AudioError(
            f"got {samples.dtype} samples of shape {samples.shape}, expected float32 (samples,)"
        )
    # NaN would spread through every window that holds it, and through the engine's kept features.
    # So the sum of their squares, too, is none; it may also be none where they are very large.
    if not math.isfinite(np.vecdot(samples, samples)) and not np.isfinite(samples).all():
        raise AudioError("got NaN or infinite samples, expected finite ones")


class RingBuffer:
    """Keeps the newest ``capacity_samples`` samples; older ones are overwritten.

    Samples that came in 16 bits are kept in 16 bits, which is half the memory of a stream. The
    first ones that 16 bits do not hold exactly, as resampling makes them, turn it to float32.
    """

    def __init__(self, capacity_samples: int) -> None:
        self._capacity = capacity_samples
        self._store: npt.NDArray[np.int16] | FloatArray = np.zeros(capacity_samples, np.int16)
        self._next = 0  # where the next sample goes
        self._held = 0

    def __len__(self) -> int:
        """Return how many samples are held, at most the capacity."""
        return self._held

    def clear(self) -> None:
        """Forget the audio."""
        self._held = 0

    def append(self, samples: FloatArray, *, of_16_bits: bool = False) -> None:
        """Add ``(samples,)`` at the end.

        Args:
            of_16_bits: each is a 16-bit number of full scale 1, which is not looked at then.
        """
        # One call may bring more than fits.
        latest = samples[-self._capacity :]
        end = self._next + len(latest)
        if of_16_bits and self._store.dtype == np.int16 and end <= self._capacity:
            # To look at them, and turn them apart from being stored, takes three times as long.
            np.multiply(latest, 1 / SCALE, out=self._store[self._next : end], casting="unsafe")
            self._note(len(latest))
            return
        newest = self._as_stored(latest)
        until_end = self._capacity - self._next
        self._store[self._next : self._next + len(newest)] = newest[:until_end]
        self._store[: max(0, len(newest) - until_end)] = newest[until_end:]
        self._note(len(newest))

    def newest(self, num_samples: int) -> FloatArray:
        """Return a copy of the last ``num_samples`` samples ``(samples,)``.

        Raises:
            ValueError: fewer are held.
        """
        if not 0 <= num_samples <= len(self):
            raise ValueError(f"{num_samples} samples requested, 0 to {len(self)} are held")
        start = (self._next - num_samples) % self._capacity
        samples = np.empty(num_samples, dtype=np.float32)
        until_end = min(self._capacity - start, num_samples)
        samples[:until_end] = self._store[start : start + until_end]
        samples[until_end:] = self._store[: num_samples - until_end]
        if self._store.dtype == np.int16:
            samples *= SCALE
        return samples

    def _note(self, num_samples: int) -> None:
        self._next = (self._next + num_samples) % self._capacity
        self._held = min(self._held + num_samples, self._capacity)

    def _as_stored(self, samples: FloatArray) -> npt.NDArray[np.int16] | FloatArray:
        if self._store.dtype == np.int16:
            scaled = samples * (1 / SCALE)
            # What does not fit becomes another number, and so is noticed, too.
            with np.errstate(invalid="ignore"):
                integers = scaled.astype(np.int16)
            if not np.count_nonzero(integers != scaled):
                return integers
            self._store = self._store * SCALE
        return samples


class LostSpans:
    """Announced spans of one channel's clock in which its audio never came.

    Attributes:
        unbridged: lost samples beyond a bridge that passed and are in no gap yet.
    """

    def __init__(self) -> None:
        self.unbridged = 0
        self._spans: deque[tuple[int, int]] = deque()
        self._latest = (-1, -1)

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``, after all others."""
        if end <= start:
            return
        # A loss that messages were cut in is one loss: its bridge is not begun again.
        if self._latest[1] >= start:
            start = self._latest[0]
            if self._spans:
                self._spans.pop()
        self._latest = (start, end)
        self._spans.append(self._latest)

    def pass_to(self, clock: int) -> None:
        """Forget the spans that end at ``clock`` or before."""
        while self._spans and self._spans[0][1] <= clock:
            self._spans.popleft()

    def covers(self, clock: int) -> bool:
        """Whether the sample at ``clock`` is lost. No span that ends before may be left."""
        return bool(self._spans) and self._spans[0][0] <= clock

    def is_bridged(self, clock: int) -> bool:
        """Whether windows reach across the lost sample at ``clock``."""
        return clock - self._spans[0][0] < BRIDGED_SAMPLES

    def until_change(self, clock: int, most: int) -> int:
        """Return how far it is from ``clock`` to where a span begins, ends or leaves its bridge."""
        if not self._spans:
            return most
        start, end = self._spans[0]
        changes = (start, start + BRIDGED_SAMPLES, end)
        return min(most, *(at - clock for at in changes if at > clock))


@dataclass(frozen=True, slots=True)
class Heard:
    """Audio that was taken, all there or all lost.

    Attributes:
        num_samples: of it.
        states: of the slots it completed; None: it is lost, and no window reaches
            across it.
        is_lost: silence stands in its place.
        is_boundary: it ends at a boundary.
        lost_samples: length of a loss that no window reaches across, to be published now; else 0.
    """

    num_samples: int
    states: Sequence[int] | None
    is_lost: bool
    is_boundary: bool
    lost_samples: int


class ChannelAudio:
    """The clock of a channel, its boundaries, and its newest audio.

    Args:
        detector: of this channel alone.
        window_samples: longest window.
        step_samples: between boundaries.

    Attributes:
        clock_samples: stream time: samples heard, lost and passed in gaps.
    """

    def __init__(self, detector: SpeechDetector, window_samples: int, step_samples: int) -> None:
        self.clock_samples = 0
        self._detector = detector
        self._ring = RingBuffer(window_samples)
        self._lost = LostSpans()
        self._step_samples = self._boundary = step_samples

    @property
    def until_boundary(self) -> int:
        """Samples to the next boundary; it is the same for all channels of a stream."""
        return self._boundary - self.clock_samples

    @property
    def until_due(self) -> int:
        """Samples that can be heard before anything can fall due.

        If all channels of a stream take no more than the least of theirs at a time, the order of
        their events does not depend on how the audio came.
        """
        return self._lost.until_change(self.clock_samples, self.until_boundary)

    def lose(self, start_sample: int, end_sample: int) -> None:
        """Announce, before it is pushed as silence, that audio never came; a gap, ``lost``.

        Windows reach across the first second, in whole slots. What is beyond is a gap to the
        sample, after which windows begin anew, at the same boundaries.
        """
        self._lost.add(start_sample, end_sample)

    def hear(self, part: FloatArray, *, of_16_bits: bool = False) -> Heard:
        """Take ``(samples,)``, no more than :attr:`until_due`; see :meth:`RingBuffer.append`."""
        states, is_lost = None, self._lost.covers(self.clock_samples)
        if is_lost and not self._lost.is_bridged(self.clock_samples):
            # Only the clock goes on. The run ends where it stopped, once that is published.
            self._lost.unbridged += len(part)
        else:
            self._ring.append(part, of_16_bits=of_16_bits)
            states = self._detector.push(part)
        self._pass(len(part))
        is_boundary = self.clock_samples == self._boundary
        if is_boundary:
            self._boundary += self._step_samples
        # A long loss is published boundary by boundary: its end may be far away.
        is_told = is_boundary or not self._lost.covers(self.clock_samples)
        lost_samples = self.take_lost() if is_told else 0
        return Heard(len(part), states, is_lost, is_boundary, lost_samples)

    def take_lost(self) -> int:
        """Return the length of a loss that no window reaches across and nobody has asked for."""
        num_samples, self._lost.unbridged = self._lost.unbridged, 0
        return num_samples

    def newest(self, num_samples: int) -> FloatArray:
        """Return the last ``(num_samples,)`` of this run."""
        return self._ring.newest(num_samples)

    def end_run(self, gap_samples: int) -> None:
        """Forget the audio: windows after a gap begin with its end, or two places sound as one."""
        self._ring.clear()
        self._detector.skip(gap_samples)

    def pass_gap(self, num_samples: int) -> None:
        """Let time pass without audio; boundaries count from there."""
        self._pass(num_samples)
        self._boundary = self.clock_samples + self._step_samples

    def _pass(self, num_samples: int) -> None:
        self.clock_samples += num_samples
        self._lost.pass_to(self.clock_samples)
