"""The pipeline of one channel: audio in, windows out; the engine's answers in, events out.

::

    push     audio -> slots of 20 ms: speech, silence or lost            (speech, slots)
             every step slots fall due, and a window if one holds speech (_issue)
    accept   the window's logits -> join -> pool -> label -> segments    (_score, segments)

**Due.** Boundaries lie every ``step_samples`` of the stream's clock, counted from its start or
from the end of the last gap of all channels: chunking does not matter, and channels share them.
At boundary *t* the slots become due that end at ``t - look_ahead`` or before. Speech among them
needs a window, the last ``window_samples``; without any they are a gap at once. Where
``min_new_speech_ms`` is set, speech that has just begun is due with the next boundary::

    t - window            t - step            t
        [-------------- window ---------------]
        ...-- due before ----)[-- due at t --)[look-ahead]

**Join.** A frame's logits come from the first answered window that was due for it, which holds it
with the look-ahead to its right; at a flush, before a gap and at the end, without.

**Skipping.** The slots of a window that is given up are scored by the next one that is answered,
whose point says ``widened``; speech that lies before that window is a gap, ``overload``. With
window *w*, step *s*, look-ahead *l*: ``floor((w - l) / s) - 1`` in a row can be skipped at no loss.

**Accounting.** Every sample is in exactly one final segment or gap.
"""

from __future__ import annotations

import numpy as np

from ser_engine.config import EngineConfig, VadConfig
from ser_engine.errors import WindowError
from ser_engine.frames import SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.schema import Event, GapReason
from ser_engine.timeline.audio import ChannelAudio, check_audio
from ser_engine.timeline.segments import Smoother
from ser_engine.timeline.silero import SileroDetector
from ser_engine.timeline.slots import DueWindow, Slots, check_answer, join
from ser_engine.timeline.speech import EverythingIsSpeech, SpeechDetector, WebRtcDetector
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult

MAX_UNANSWERED_SAMPLES = 600 * SAMPLE_RATE_HZ
"""Audio that may wait for answers, 10 minutes: beyond, the oldest windows are given up, so that a
caller who never answers does not exhaust the memory. Push longer audio in pieces."""


def make_detector(config: VadConfig) -> SpeechDetector:
    """Return a new detector for one channel."""
    match config.detector:
        case "off":
            return EverythingIsSpeech()
        case "webrtc":
            return WebRtcDetector(config)
    return SileroDetector(config)


class ChannelStream:
    """See the module's text. Methods return all windows or events that are due, in order, once.

    After :meth:`finish` those that take audio raise RuntimeError.

    Args:
        config: windows, smoothing and speech detection.
        model: that makes the logits: its classes, and when they are worth believing.
        stream_key: passed on in every window.
        detector: of this channel alone. None: as ``config.vad`` says.
        details: give points their frames.

    Attributes:
        audio: the clock, how far it is to the next boundary, and where lost audio is announced.
    """

    def __init__(
        self,
        config: EngineConfig,
        model: ModelInfo,
        stream_key: str,
        *,
        detector: SpeechDetector | None = None,
        details: bool = False,
    ) -> None:
        timeline = config.timeline
        self._hop = hop = timeline.hop_samples
        self._look_ahead_samples = timeline.look_ahead_samples
        self._shortest_onset = -(-ms_to_samples(timeline.min_new_speech_ms) // hop)
        self._longest_wait = timeline.longest_wait_samples // hop
        self._provisional_below = ms_to_samples(timeline.provisional_below_ms)
        self._num_classes = len(model.labels)
        self._stream_key = stream_key
        self._details = details
        detector = detector or make_detector(config.vad)
        self.audio = ChannelAudio(detector, timeline.window_samples, timeline.step_samples)
        # A silence can be turned into speech only while it is not due, so the look-ahead is the
        # longest one that is known to be short before it is published.
        min_silence_ms = min(config.vad.min_silence_ms, timeline.look_ahead_ms)
        self._slots = Slots(hop, timeline.window_samples, ms_to_samples(min_silence_ms) // hop)
        self._smoother = Smoother(config.smoothing, model)
        self._events: list[Event] = []
        self._is_finished = self._is_closed = False

    @property
    def accounted_samples(self) -> int:
        """Stream time up to which every slot is scored or in a gap, published or still open."""
        return self._slots.oldest.accounted_sample

    @property
    def pending_windows(self) -> int:
        """Windows that were neither answered nor given up."""
        return self._slots.pending_windows

    def push(self, samples: FloatArray, *, of_16_bits: bool = False) -> list[Window]:
        """Take the next audio, float32 ``(samples,)``, mono 16 kHz, full scale ±1, any number.

        Args:
            of_16_bits: each was made of a number of 16 bits, so that nothing has to be checked.

        Raises:
            AudioError: it is no such array, or holds NaN or infinity. None of it is taken.
        """
        self._check_running()
        if not of_16_bits:
            check_audio(samples)
        windows: list[Window] = []
        while len(samples):
            # Cut at boundaries, so that a window never depends on where a chunk ended.
            until_due = self.audio.until_due
            windows += self._hear(samples[:until_due], of_16_bits)
            samples = samples[until_due:]
        # Silence is published without a window, as soon as nothing before it waits for an answer.
        self._settle()
        while self._slots.open_samples > MAX_UNANSWERED_SAMPLES and self.pending_windows:
            self._slots.give_up_oldest()
            self._settle()
        return windows

    def flush(self) -> list[Window]:
        """Make every complete frame due now, without look-ahead; it is not scored again."""
        self._check_running()
        windows = self._end_lost() + self._issue(self._slots.current.complete_slots)
        self._settle()
        return windows

    def gap(self, reason: GapReason, num_samples: int) -> list[Window]:
        """Flush, then let time pass without audio, of 0 samples or more.

        What comes after has no left context, and boundaries count from there. The label and the
        pooled frames are kept, as over a silence, for the length of the smoothing span.
        """
        self._check_running()
        if num_samples < 0:
            raise ValueError(f"got a gap of {num_samples} samples, expected 0 or more")
        if num_samples == 0:
            return []
        # First the losses of this channel alone, so that its gaps come in order.
        windows = self._end_lost() + self._end_run(reason, num_samples)
        self.audio.pass_gap(num_samples)
        self._settle()
        return windows

    def finish(self) -> list[Window]:
        """End the audio. Answer what is pending, then call :meth:`close`."""
        windows = self.flush()
        # What is too short for a frame is accounted for with the end of its run.
        self._slots.end_run()
        self._settle()
        self._is_finished = True
        return windows

    def accept(self, window: Window, outcome: WindowResult | WindowError) -> list[Event]:
        """Take the answer to a window; windows handed out before it are given up.

        An answer to a window that was given up, or answered already, changes nothing.

        Raises:
            ValueError: the result has another frame hop or other classes than this stream.
        """
        check_answer(outcome, self._hop, self._num_classes)
        self._slots.give_up_before(window)
        # Earlier runs end here: their gaps come before what this answer makes.
        self._settle()
        # A flush right at a boundary issues a second window of the same span: one answer to both.
        while due := self._slots.take(window):
            self._score(due, outcome)
        self._settle()
        return self.take_events()

    def skip(self, window: Window) -> list[Event]:
        """Give a window up. Do so at once: its speech then falls to the next boundary."""
        self._slots.give_up(window)
        self._settle()
        return self.take_events()

    def take_events(self) -> list[Event]:
        """Return the events due: silence needs no window, so a push can make events due."""
        events, self._events = self._events, []
        return events

    def close(self, reason: GapReason = "overload") -> list[Event]:
        """End the stream, once; speech without an answer is a gap with ``reason``."""
        if not self._is_closed:
            if not self._is_finished:
                self.finish()
            # No answer is waited for any more; what has one already is published as it is.
            self._slots.give_up_all()
            self._settle(reason)
            self._smoother.finish()
            self._events += self._smoother.take()
            self._is_closed = True
        return self.take_events()

    # -- audio -> slots -> windows -----------------------------------------------------------------

    def _hear(self, part: FloatArray, of_16_bits: bool) -> list[Window]:
        heard, run = self.audio.hear(part, of_16_bits=of_16_bits), self._slots.current
        if heard.states is not None:
            run.hear(heard.num_samples, heard.states, is_lost=heard.is_lost)
        if heard.lost_samples:
            return self._end_run("lost", heard.lost_samples)
        if heard.is_boundary:
            # Complete frames alone would do, but a frame near the window's edge hears half a word:
            # the look-ahead is the right context that it waits for.
            ripe = run.ripe_slots(self._look_ahead_samples)
            if self._shortest_onset:
                ripe = run.without_onset(ripe, self._shortest_onset, self._longest_wait)
            return self._issue(ripe)
        return []

    def _issue(self, limit: int) -> list[Window]:
        """Make the slots before ``limit`` due; return the window that takes, if any."""
        run = self._slots.current
        due = run.issue(limit)
        if due is None:
            return []
        samples = self.audio.newest(due.end - due.start)
        return [Window(samples, run.origin + due.start, self._stream_key, self._hop)]

    def _end_lost(self) -> list[Window]:
        num_samples = self.audio.take_lost()
        return self._end_run("lost", num_samples) if num_samples else []

    def _end_run(self, reason: GapReason, gap_samples: int) -> list[Window]:
        # No window reaches across the end of a run: what is complete is due now.
        windows = self._issue(self._slots.current.complete_slots)
        self._slots.end_run(reason, gap_samples)
        self.audio.end_run(gap_samples)
        return windows

    # -- answers -> join -> pool -> label -> segments ----------------------------------------------

    def _score(self, due: DueWindow, outcome: WindowResult | WindowError) -> None:
        """Account for every slot that is due with the answer to its window."""
        run, hop = self._slots.oldest, self._hop
        first, start = run.accounted, run.accounted_sample
        # Before the window's own slots lie silent ones, or those of windows that were given up.
        widened = run.has_speech(first, due.previous)
        # Row k of the answer is the frame of the slot k after the window's first.
        first_of_window = due.start // hop
        reasons, rows = join(run.account(due.limit), first - first_of_window, outcome)
        logits = outcome.logits[rows] if isinstance(outcome, WindowResult) else _NOTHING
        found = self._smoother.slots(start, hop, reasons, logits)
        self._events += self._smoother.take()
        if not found.labels:
            # Gaps say why, and a point would have nothing to say.
            return
        # A point covers what its window can see: silence published before does not belong to it.
        first_of_point = max(first if widened else due.previous, first_of_window)
        start, end = (run.origin + slot * hop for slot in (first_of_point, due.limit))
        is_provisional = due.end - due.start < self._provisional_below
        self._events.append(
            found.point(start, end, is_provisional, widened, with_frames=self._details)
        )

    def _settle(self, of_speech: GapReason = "overload") -> None:
        """Publish what comes next and no window will score."""
        for start, end, reason, is_slots in self._slots.settle(of_speech):
            if reason is None:
                self._smoother.extend(end)
            else:
                self._smoother.gap(start, end, reason, self._hop if is_slots else 0)
        self._events += self._smoother.take()

    def _check_running(self) -> None:
        if self._is_finished:
            raise RuntimeError("stream already finished")


_NOTHING = np.empty((0, 0), dtype=np.float32)
