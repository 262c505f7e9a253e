"""One channel of one stream: audio in, windows out; results in, events out.

Pure and synchronous: the engine is called by whoever holds the stream, when it likes::

    stream = ChannelStream(timeline, smoothing, labels, make_detector(vad), "session/0")
    for chunk in audio:
        for window in stream.push(chunk):
            (outcome,) = engine.step([window])
            publish(stream.accept(window, outcome))
        publish(stream.take_events())
    for window in stream.finish(): ...            # as above
    publish(stream.close())

**Windows** fall due every ``step_samples`` of audio and nowhere else, so it does not matter how
the audio is split into calls. A window is the last ``window_samples``, or what there is.

**Zones.** At boundary *t* the frames become due whose audio is complete and whose cell ends at
``t - look_ahead`` or before. A zone is what becomes due at one boundary. Without speech it needs
no window: it is a gap, ``silence``::

    t - window            t - step            t
        |                     |               |
        [-------------- window ---------------]
        ...--- earlier zones ---)[--- zone ---)[look-ahead]

**Join.** A frame's logits come from the first answered window that was due for it, which holds
it with the look-ahead to its right; at :meth:`~ChannelStream.finish`, :meth:`~ChannelStream.flush`
and before a gap, from the last window, without.

**Skipping.** Windows need not all be run. Each is answered with :meth:`~ChannelStream.accept` or
given up with :meth:`~ChannelStream.skip`; accepting one gives up the earlier ones. The zones of
windows given up are covered by the next window that is answered, whose point says ``widened``.
Speech that lies before that window's start is a gap, ``overload``: with window *w*, step *s* and
look-ahead *l*, ``floor((w - l) / s) - 1`` windows in a row can be given up at no loss.

**Accounting.** Every sample from the first to the last is in exactly one final segment or gap.
Samples at the end of a stretch that are too few for a frame belong to the cell before them.

The last few seconds of a stream's audio.

Which frames of a window's result are used for which cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ser_engine.config import SmoothingConfig, TimelineConfig
from ser_engine.errors import AudioError, WindowError
from ser_engine.frames import SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.labels import LabelSet
from ser_engine.schema import Event, GapReason
from ser_engine.timeline.ledger import Ledger
from ser_engine.timeline.scorer import Scorer
from ser_engine.timeline.speech import SpeechDetector
from ser_engine.types import FloatArray, Window, WindowResult


class RingBuffer:
    """Keeps the newest ``capacity_samples`` samples; older ones are overwritten.

    The store is twice as long as the capacity, so that the newest samples always lie in one
    piece: they move to the front once in ``capacity_samples`` samples.
    """

    def __init__(self, capacity_samples: int) -> None:
        self._capacity = capacity_samples
        self._store = np.zeros(2 * capacity_samples, dtype=np.float32)
        self._end = 0

    def __len__(self) -> int:
        """Return how many samples can be had: at most the capacity."""
        return min(self._end, self._capacity)

    def clear(self) -> None:
        """Forget the audio."""
        self._end = 0

    def append(self, samples: FloatArray) -> None:
        """Add ``(samples,)`` at the end."""
        newest = samples[-self._capacity :]
        if self._end + len(newest) > len(self._store):
            keep = self._capacity - len(newest)
            self._store[:keep] = self._store[self._end - keep : self._end]
            self._end = keep
        self._store[self._end : self._end + len(newest)] = newest
        self._end += len(newest)

    def newest(self, num_samples: int) -> FloatArray:
        """Return a copy of the last ``num_samples`` samples ``(samples,)``.

        Raises:
            ValueError: there are not that many.
        """
        if not 0 <= num_samples <= len(self):
            raise ValueError(f"got {num_samples} samples asked for, expected 0 to {len(self)}")
        return self._store[self._end - num_samples : self._end].copy()


MAX_UNANSWERED_SAMPLES = 600 * SAMPLE_RATE_HZ
"""Audio that may wait for answers: 10 minutes. Beyond that the oldest windows are given up, so
that a caller who never answers does not make the ledger grow without end. Push longer audio in
pieces and answer in between."""


@dataclass(slots=True)
class _Phase:
    step_offset: int = 0  # of the current stretch's first sample from a boundary
    finished: bool = False
    closed: bool = False


class ChannelStream:
    """See the module's text. Every method that returns events returns all that are due, in order.

    Args:
        timeline: windows and steps.
        smoothing: pooling and hysteresis.
        labels: classes of the engine's logits.
        detector: a speech detector for this stream alone.
        stream_key: passed on in every window.
        details: give points their frames.
        min_silence_ms: shorter silences between speech count as speech. They are known to be short
            in time only as far as the look-ahead reaches, so no more of it than that counts.
    """

    def __init__(
        self,
        timeline: TimelineConfig,
        smoothing: SmoothingConfig,
        labels: LabelSet,
        detector: SpeechDetector,
        stream_key: str,
        *,
        details: bool = False,
        min_silence_ms: int = 0,
    ) -> None:
        self._timeline = timeline
        self._num_classes = len(labels)
        self._detector = detector
        self._stream_key = stream_key
        self._ring = RingBuffer(timeline.window_samples)
        self._ledger = Ledger(
            hop_samples=timeline.hop_samples,
            window_samples=timeline.window_samples,
            provisional_below=ms_to_samples(timeline.provisional_below_ms),
            num_classes=len(labels),
            scorer=Scorer(smoothing, labels, details=details),
            min_silence=ms_to_samples(min(min_silence_ms, timeline.look_ahead_ms))
            // timeline.hop_samples,
        )
        self._phase = _Phase()

    def reset(self) -> None:
        """Begin a new stream at sample 0. Events not taken yet are lost."""
        self._ring.clear()
        self._detector.reset()
        self._ledger.reset()
        self._phase = _Phase()

    @property
    def clock_samples(self) -> int:
        """Stream time: samples heard and marked so far."""
        return self._ledger.current.end_sample

    @property
    def accounted_samples(self) -> int:
        """Stream time up to which every cell is scored or in a gap, published or still open."""
        return self._ledger.accounted_sample

    @property
    def pending_windows(self) -> int:
        """Windows handed out that were neither answered nor given up."""
        return self._ledger.pending_windows

    def push(self, samples: FloatArray, *, is_lost: bool = False) -> list[Window]:
        """Take the next audio; return the windows that became due, in order.

        Args:
            samples: float32 ``(samples,)``, mono 16 kHz, full scale ±1, any number.
            is_lost: they stand for audio that never came. Windows reach across them, which the
                model minds less than to begin anew; the cells whose middle lies there are a gap,
                ``lost``.

        Raises:
            AudioError: the audio is not such an array, or holds NaN or infinity. Nothing of it
                is taken.
            RuntimeError: the stream is finished.
        """
        self._check_running()
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise AudioError(
                f"got {samples.dtype} samples of shape {samples.shape}, expected float32 (samples,)"
            )
        if not np.isfinite(samples).all():
            raise AudioError("got NaN or infinite samples, expected finite ones")
        stretch = self._ledger.current
        step, look_ahead = self._timeline.step_samples, self._timeline.look_ahead_samples
        windows: list[Window] = []
        while len(samples):
            to_boundary = step - (self._phase.step_offset + stretch.heard) % step
            part, samples = samples[:to_boundary], samples[to_boundary:]
            self._ring.append(part)
            if is_lost:
                stretch.lose(len(part))
            stretch.hear(len(part), self._detector.push(part))
            if len(part) == to_boundary:
                windows += self._issue(stretch.ripe_cells(look_ahead))
        self._ledger.settle()
        while self._ledger.open_samples > MAX_UNANSWERED_SAMPLES and self._ledger.skip_oldest():
            pass
        return windows

    def flush(self) -> list[Window]:
        """Make every complete frame due now, without look-ahead; the stream goes on.

        Returns the window that takes, if any. Frames scored this way are not scored again.

        Raises:
            RuntimeError: the stream is finished.
        """
        self._check_running()
        windows = self._issue(self._ledger.current.complete_cells)
        self._ledger.settle()
        return windows

    def mark_gap(
        self, reason: GapReason, num_samples: int, *, to_boundary: int | None = None
    ) -> list[Window]:
        """Let the clock run on by ``num_samples`` for which there is no audio.

        What came before is flushed; the window that takes, if any, is answered as usual. What
        comes after has no left context, and boundaries count from there. The label and the
        pooled frames are kept, as over a silence, for the length of the smoothing span.

        Args:
            reason: why there is none.
            num_samples: length of the gap.
            to_boundary: audio after the gap up to the next boundary, 1 to ``step_samples``: where
                other channels go on meanwhile, theirs stay common. None: a step.

        Raises:
            ValueError: ``num_samples`` is negative, or ``to_boundary`` out of range.
            RuntimeError: the stream is finished.
        """
        if num_samples < 0:
            raise ValueError(f"got a gap of {num_samples} samples, expected none or more")
        step = self._timeline.step_samples
        if to_boundary is not None and not 1 <= to_boundary <= step:
            raise ValueError(f"got a boundary in {to_boundary} samples, expected 1 to {step}")
        if num_samples == 0:
            self._check_running()
            return []
        windows = self.flush()
        self._phase.step_offset = 0 if to_boundary is None else step - to_boundary
        self._ledger.end_stretch(reason, num_samples)
        self._ledger.settle()
        self._ring.clear()
        self._detector.reset()
        return windows

    def finish(self) -> list[Window]:
        """End the stream; return the window for its tail, if any.

        Answer what is pending, then call :meth:`close`.

        Raises:
            RuntimeError: the stream is finished already.
        """
        windows = self.flush()
        self._ledger.end_stretch()
        self._ledger.settle()
        self._phase.finished = True
        return windows

    def accept(self, window: Window, outcome: WindowResult | WindowError) -> list[Event]:
        """Take the answer to a window; windows handed out before it are given up.

        An answer to a window that was given up, or answered already, changes nothing.

        Raises:
            ValueError: the result has another frame hop or other classes than this stream.
        """
        self._check_outcome(outcome)
        self._ledger.accept(_span(window), outcome)
        return self._ledger.take_events()

    def skip(self, window: Window) -> list[Event]:
        """Give a window up. Tell so at once: the next boundary then asks for its speech."""
        self._ledger.skip(_span(window))
        return self._ledger.take_events()

    def take_events(self) -> list[Event]:
        """Return the events due: silence needs no window, so a push can make events due."""
        return self._ledger.take_events()

    def close(self, reason: GapReason = "overload") -> list[Event]:
        """End the stream for good.

        Speech whose window was not answered is a gap with ``reason``. Closing again does nothing.
        """
        if not self._phase.closed:
            if not self._phase.finished:
                self.finish()
            self._ledger.close(reason)
            self._phase.closed = True
        return self._ledger.take_events()

    def _issue(self, limit: int) -> list[Window]:
        due = self._ledger.issue(limit)
        if due is None:
            return []
        samples = self._ring.newest(due.end - due.start)
        return [Window(samples, self._ledger.current.origin + due.start, self._stream_key)]

    def _check_running(self) -> None:
        if self._phase.finished:
            raise RuntimeError("got a call on a stream that is finished, expected none")

    def _check_outcome(self, outcome: WindowResult | WindowError) -> None:
        if isinstance(outcome, WindowError):
            return
        hop, shape = self._timeline.hop_samples, outcome.logits.shape
        if outcome.hop_samples != hop:
            raise ValueError(
                f"got frames every {outcome.hop_samples} samples, expected {hop} as"
                f" timeline.frame_hop_ms {self._timeline.frame_hop_ms} says"
            )
        if len(shape) != 2 or shape[1] != self._num_classes:
            raise ValueError(f"got logits {shape}, expected (frames, {self._num_classes})")


def _span(window: Window) -> tuple[int, int]:
    return (window.start_sample, window.start_sample + len(window.samples))
