"""The samples of windows on their way to an engine elsewhere: as int16, and only the new ones.

::

    window 7  ████████████████      all of it:  parts of 16 bit, each with a scale of its own
    window 8      ████████████▒▒▒▒  after 7:    ▒▒▒▒ alone, if the engine has the rest of window 7

Windows of a stream overlap by seven eighths. Whoever sends them keeps the rounded samples of the
last one, so does whoever scores them, and both build the same window of it, sample for sample, in
whatever way it came. An engine that has not kept what stands before says so, and is sent the whole
window.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from ser_engine.types import FloatArray, Window
from stream_server.cluster import Frame

IntArray = npt.NDArray[np.int16]

_FULL_SCALE = 32_768  # of 16-bit samples
_LEAST_PEAK = 1e-20  # a 32,767th of it is a float32 yet
_MOST_SAMPLES = 64 << 20
"""That an engine keeps, 128 MiB: the last windows of a thousand streams."""


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """How the samples of a window lie in its frame.

    Attributes:
        after: number of the stream's window whose last samples come first; -1: all are here.
        num_kept: how many of those come first.
        parts: number of samples, and what these are multiplied by, of each part of the frame, which
            is int16; none: the frame is float32.
    """

    after: int = -1
    num_kept: int = 0
    parts: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    samples: IntArray
    scale: float


@dataclass(slots=True)
class _Last:
    """A stream's last window."""

    number: int
    end_sample: int
    parts: list[_Part]
    num_samples: int


class SentAudio:
    """Packs windows for one engine, and knows what it has been sent of each stream."""

    def __init__(self) -> None:
        self._last: dict[str, _Last] = {}

    def pack(self, number: int, window: Window, *, whole: bool = False) -> tuple[Layout, Frame]:
        """Return how a window is sent, and its frame.

        Args:
            number: of the window, of it alone; the same when it is sent again.
            whole: the engine has not kept what stands before.
        """
        key, samples = window.stream_key, window.samples
        last = None if key is None else self._last.get(key)
        if last is not None and last.number == number:
            parts = last.parts
            return _layout(parts), as_frame(np.concatenate([each.samples for each in parts]))
        end_sample = window.start_sample + len(samples)
        kept = [] if last is None or whole else _overlap(last, window)
        num_kept = sum(len(each.samples) for each in kept)
        scale, new = packed(samples[num_kept:])
        if new.dtype != np.int16:
            # The engine says what is wrong with it.
            if key is not None:
                self._last.pop(key, None)
            return Layout(), as_frame(samples)
        news = [_Part(new.astype(np.int16, copy=False), scale)] if len(new) else []
        if key is not None:
            self._last[key] = _Last(number, end_sample, [*kept, *news], len(samples))
        after = last.number if last is not None and kept else -1
        return _layout(news, after, num_kept), as_frame(new)

    def forget(self, stream_key: str) -> None:
        self._last.pop(stream_key, None)

    def clear(self) -> None:
        """Forget all streams: another engine will be sent windows."""
        self._last.clear()


class KeptAudio:
    """Unpacks windows for an engine, and keeps the last one of each stream.

    Args:
        most_samples: it keeps; of more, those of the streams that were not heard for longest go.
    """

    def __init__(self, most_samples: int = _MOST_SAMPLES) -> None:
        self._most_samples = most_samples
        self._num_samples = 0
        self._last: OrderedDict[str, _Last] = OrderedDict()

    def unpack(
        self, number: int, stream_key: str | None, layout: Layout, frame: Frame
    ) -> FloatArray | None:
        """Return the samples of a window; None: what stands before has not been kept.

        Raises:
            ValueError: the frame is not as the layout says.
        """
        if not layout.parts and layout.after < 0:
            return np.frombuffer(frame, np.float32)
        arrived = np.frombuffer(frame, np.int16)
        if sum(count for count, _ in layout.parts) != len(arrived):
            raise ValueError(f"got {len(arrived)} samples, expected {layout.parts}")
        parts: list[_Part] = []
        if layout.after >= 0:
            last = None if stream_key is None else self._last.get(stream_key)
            if last is None or last.number != layout.after or last.num_samples < layout.num_kept:
                return None
            parts = _tail(last.parts, last.num_samples - layout.num_kept)
        start = 0
        for count, scale in layout.parts:
            # A copy: the message is not to live as long as the window.
            parts.append(_Part(arrived[start : start + count].copy(), scale))
            start += count
        if stream_key is not None:
            self._keep(stream_key, number, parts)
        return np.concatenate([each.samples * np.float32(each.scale) for each in parts])

    def forget(self, stream_key: str) -> None:
        if (last := self._last.pop(stream_key, None)) is not None:
            self._num_samples -= last.num_samples

    def _keep(self, stream_key: str, number: int, parts: list[_Part]) -> None:
        self.forget(stream_key)
        num_samples = sum(len(each.samples) for each in parts)
        self._last[stream_key] = _Last(number, 0, parts, num_samples)
        self._num_samples += num_samples
        while self._num_samples > self._most_samples:
            self.forget(next(iter(self._last)))


def _layout(parts: Sequence[_Part], after: int = -1, num_kept: int = 0) -> Layout:
    return Layout(after, num_kept, tuple((len(each.samples), each.scale) for each in parts))


def _overlap(last: _Last, window: Window) -> list[_Part]:
    """Return the parts of the last window that the next one begins with; none if they differ."""
    start_sample = last.end_sample - last.num_samples
    skipped = window.start_sample - start_sample
    overlap = last.end_sample - window.start_sample
    if skipped < 0 or not 0 < overlap <= len(window.samples):
        return []
    parts = _tail(last.parts, skipped)
    start = 0
    for part in parts:
        end = start + len(part.samples)
        # Of lost audio that came after all, the same time has other samples.
        if not np.array_equal(_rounded(window.samples[start:end], part.scale), part.samples):
            return []
        start = end
    return parts


def _tail(parts: Sequence[_Part], skipped: int) -> list[_Part]:
    """Return parts without the first samples."""
    found = []
    for part in parts:
        count = len(part.samples)
        if skipped < count:
            found.append(_Part(part.samples[skipped:], part.scale) if skipped > 0 else part)
        skipped -= count
    return found


def packed(samples: FloatArray) -> tuple[float, FloatArray | IntArray]:
    """Return samples as int16, and what to multiply them by; 0: float32 samples as they were.

    Audio that came as 16 bit at the engine's rate stays the same to the last bit. Other audio,
    resampled or of more bits, is rounded to a 32,767th of the samples' peak, so that the noise of
    rounding is 98 dB below a full tone however quiet they are.
    """
    scaled = samples * np.float32(_FULL_SCALE)
    peak = float(np.abs(scaled).max(initial=0.0))
    if not np.isfinite(peak) or 0 < peak < _LEAST_PEAK:
        return 0.0, samples
    if peak < _FULL_SCALE:
        exact = scaled.astype(np.int16)
        if np.array_equal(exact, scaled):
            return 1 / _FULL_SCALE, exact
    scale = peak / (_FULL_SCALE - 1) / _FULL_SCALE
    return scale, _rounded(samples, scale).astype(np.int16)


def _rounded(samples: FloatArray, scale: float) -> FloatArray:
    # The reciprocal of a power of two is exact, so that exact samples are what they were.
    scaled = samples * np.float32(1 / scale)
    return np.asarray(np.rint(scaled, out=scaled))


def as_frame(array: FloatArray | IntArray) -> Frame:
    """Return an array as it lies in memory."""
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""
