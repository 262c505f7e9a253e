"""The accounting of one channel: which slots are known, due and accounted for.

A slot is the 320 samples (160 where frames are 10 ms apart) that one encoder frame stands for. A
contiguous run is audio without interruption. No window reaches across the end of a run, so every
run counts slots and windows from its own first sample; only ``origin`` is on the stream's clock::

    slots     0   1   2   3   4   5   6   7   8   9  10  11
             [---accounted---)[--- due ----)[-- not due --)
                              |             |             |
                          accounted      horizon        heard
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES
from ser_engine.schema import GapReason
from ser_engine.types import Window, WindowResult

SILENCE, SPEECH, LOST, TONE, MUSIC = range(5)
"""State of a slot. LOST: its audio never came, and silence stands in its place. TONE: of the
telephone network, or a pause between such tones. MUSIC: a sound without speech that is music."""

TONE_KNOWN_AFTER_SLOTS = 9
"""Length of a tone when a detector first calls a slot TONE: the slots before it belong to it too,
whatever they were called. That is less than the default look-ahead, so nothing of it is due."""

# Slots since the last speech where there was none: longer than any silence.
_NO_SPEECH_YET = 1 << 62


def date_tone_back(states: bytearray, first: int = 0, each: int = 1) -> None:
    """Call the slots before a tone TONE that it was not known for yet.

    Args:
        states: of the slots before the one that is TONE.
        first: index of the first that may be changed.
        each: slots of ``states`` for one that a detector judges.
    """
    if states and states[-1] == TONE:
        return
    for slot in range(max(first, len(states) - (TONE_KNOWN_AFTER_SLOTS - 1) * each), len(states)):
        if states[slot] != LOST:
            states[slot] = TONE


def add_states(states: bytearray, new: Sequence[int]) -> None:
    """Add the states of a detector to those before; a tone is dated back."""
    for state in new:
        if state == TONE:
            date_tone_back(states)
        states.append(state)


@dataclass(frozen=True, slots=True)
class DueWindow:
    """A window that was handed out; samples and slots count from the start of its run."""

    start: int  # first sample
    end: int  # end, not included
    previous: int  # horizon before it was due: its own slots begin here
    limit: int  # horizon it was issued for: its own slots end here


@dataclass(slots=True)
class Run:
    """State of one contiguous run."""

    origin: int  # its first sample on the stream's clock
    hop: int  # samples of a slot, 320 or 160
    window_samples: int  # longest window
    min_silence: int = 0  # silences of fewer slots between speech count as speech
    heard: int = 0  # samples so far
    accounted: int = 0  # slots before this one are published
    horizon: int = 0  # slots before this one are due
    silent: int = _NO_SPEECH_YET  # slots since the last speech
    slots: bytearray = field(default_factory=bytearray)  # a state each, from ``accounted`` on
    lost: deque[int] = field(default_factory=deque)  # 320-sample slots to come that are lost
    pending: deque[DueWindow] = field(default_factory=deque)  # without an answer, oldest first
    closed: bool = False  # no more audio comes
    gap_reason: GapReason | None = None  # of the time without audio that follows
    gap_samples: int = 0  # its length

    @property
    def end_sample(self) -> int:
        """End of the audio heard, on the clock."""
        return self.origin + self.heard

    @property
    def accounted_sample(self) -> int:
        """End of what is published, on the clock."""
        return self.origin + self.accounted * self.hop

    @property
    def open_samples(self) -> int:
        """Samples heard and not accounted for."""
        return self.heard - self.accounted * self.hop

    @property
    def complete_slots(self) -> int:
        """Slots whose frame has all the 400 samples it reads."""
        if self.heard < RECEPTIVE_FIELD_SAMPLES:
            return 0
        return (self.heard - RECEPTIVE_FIELD_SAMPLES) // self.hop + 1

    def ripe_slots(self, look_ahead: int) -> int:
        """Return how many slots are complete and ended ``look_ahead`` samples ago or more."""
        return max(0, min(self.complete_slots, (self.heard - look_ahead) // self.hop))

    @property
    def window_start(self) -> int:
        """First sample of a window that ends now.

        It is a multiple of 320: the engine reuses features of earlier windows on that grid only.
        """
        return -(-max(0, self.heard - self.window_samples) // HOP_SAMPLES) * HOP_SAMPLES

    def hear(self, num_samples: int, states: Sequence[int], *, is_lost: bool = False) -> None:
        """Take the detector's states of the 320-sample slots that ``num_samples`` completed.

        Args:
            states: SILENCE, SPEECH, TONE or MUSIC, one a slot; False and True are the first two.
            is_lost: silence was heard in the place of lost audio.
        """
        if is_lost:
            # A slot is lost where its middle is: holes of less than half a slot cost nothing.
            first, limit = (
                -(-(at - HOP_SAMPLES // 2) // HOP_SAMPLES)
                for at in (self.heard, self.heard + num_samples)
            )
            self.lost.extend(range(first, limit))
        self.heard += num_samples
        each = HOP_SAMPLES // self.hop
        for state in states:
            if self.lost and (self.accounted + len(self.slots)) // each == self.lost[0]:
                self.lost.popleft()
                self.slots.extend((LOST,) * each)
                # A loss is not a short silence, so it is never turned into speech.
                self.silent = _NO_SPEECH_YET
                continue
            if state == TONE:
                # Nor is a tone, which began before it was known for one.
                self.silent = _NO_SPEECH_YET
                date_tone_back(self.slots, max(0, self.horizon - self.accounted), each)
            elif state in (SILENCE, MUSIC):
                self.silent += each
            else:
                if 0 < self.silent < self.min_silence:
                    # The silence turned out to be short. What is due of it stays silence: it may
                    # be published already.
                    known = len(self.slots)
                    first = max(known - self.silent, self.horizon - self.accounted)
                    self.slots[first:] = bytes((SPEECH,)) * (known - first)
                self.silent = 0
            self.slots.extend((state,) * each)

    def has_speech(self, first: int, limit: int) -> bool:
        """Return whether a slot of ``[first, limit)`` that is not accounted for holds speech."""
        offsets = (max(0, slot - self.accounted) for slot in (first, limit))
        return self.slots.find(SPEECH, *offsets) >= 0

    @property
    def _unclaimed(self) -> int:
        """The first slot that no pending window will account for."""
        return self.pending[-1].limit if self.pending else self.accounted

    def without_onset(self, limit: int, shortest: int, longest_wait: int) -> int:
        """Return ``limit``, or the slot before it where speech began too lately for a window.

        Args:
            limit: slots before this one could be due.
            shortest: slots of speech that are worth a window.
            longest_wait: slots before ``limit`` at most that the speech may have begun.
        """
        if self.has_speech(self._unclaimed, self.horizon):
            # Of a window that was given up: it has waited already.
            return limit
        offset = max(0, self.horizon - self.accounted)
        first = self.slots.find(SPEECH, offset, limit - self.accounted)
        num_speech = self.slots.count(SPEECH, offset, limit - self.accounted)
        # What has waited lies a step further back, and so waits no more.
        if 0 < num_speech < shortest and self.accounted + first >= limit - longest_wait:
            return self.accounted + first
        return limit

    def account(self, limit: int) -> bytes:
        """Account for the slots before ``limit``; return their states."""
        # The bytearray holds only what is open, so a stream of hours takes no more memory.
        count = limit - self.accounted
        states = bytes(self.slots[:count])
        del self.slots[:count]
        self.accounted = limit
        return states

    def issue(self, limit: int) -> DueWindow | None:
        """Make the slots before ``limit`` due; return the window they need, if any."""
        previous = self.horizon
        if limit <= previous:
            # A flush went as far already, or the run is shorter than a frame.
            return None
        self.horizon = limit
        # Speech of a window that was given up needs another one.
        if not self.has_speech(self._unclaimed, limit):
            return None
        due = DueWindow(self.window_start, self.heard, previous, limit)
        self.pending.append(due)
        return due

    def find(self, window: Window) -> DueWindow | None:
        """Return the oldest pending window with the place of ``window`` on the clock."""
        start = window.start_sample - self.origin
        span = (start, start + len(window.samples))
        return next((due for due in self.pending if (due.start, due.end) == span), None)


class Slots:
    """All runs of one channel; slots are accounted for strictly in order.

    Args:
        hop_samples: samples of a slot, 320 or 160.
        window_samples: longest window.
        min_silence: silences of fewer slots between speech count as speech.
    """

    def __init__(self, hop_samples: int, window_samples: int, min_silence: int) -> None:
        self._hop = hop_samples
        self._window_samples = window_samples
        self._min_silence = min_silence
        self._runs = deque([self._run_from(0)])

    @property
    def oldest(self) -> Run:
        """The run whose slots are accounted for next."""
        return self._runs[0]

    @property
    def current(self) -> Run:
        """The run that audio is added to."""
        return self._runs[-1]

    @property
    def open_samples(self) -> int:
        """Samples heard and not accounted for."""
        return sum(run.open_samples for run in self._runs)

    @property
    def pending_windows(self) -> int:
        """Windows without an answer."""
        return sum(len(run.pending) for run in self._runs)

    def end_run(self, reason: GapReason | None = None, gap_samples: int = 0) -> None:
        """Close the current run; begin one after a gap."""
        run = self.current
        before = self._runs[-2] if len(self._runs) > 1 else None
        if not run.heard and before is not None and before.gap_reason == reason:
            # Gaps of one reason with no audio between are one gap.
            before.gap_samples += gap_samples
            run.origin += gap_samples
            return
        # It stays until its windows are answered: what follows the gap waits for that.
        run.closed, run.gap_reason, run.gap_samples = True, reason, gap_samples
        self._runs.append(self._run_from(run.end_sample + gap_samples))

    def give_up(self, window: Window) -> None:
        """Expect no answer to a window."""
        for run in self._runs:
            if due := run.find(window):
                run.pending.remove(due)
                return

    def give_up_before(self, window: Window) -> None:
        """Expect no answer to the windows before one that is pending."""
        holder = next((run for run in self._runs if run.find(window)), None)
        if holder is None:
            return
        for run in self._runs:
            if run is holder:
                break
            run.pending.clear()
        # The same span may be pending twice: find() returns the older one, which is kept.
        due = holder.find(window)
        while holder.pending[0] is not due:
            holder.pending.popleft()

    def give_up_oldest(self) -> None:
        """Expect no answer to the oldest window."""
        for run in self._runs:
            if run.pending:
                run.pending.popleft()
                return

    def give_up_all(self) -> None:
        """Expect no answers."""
        for run in self._runs:
            run.pending.clear()

    def take(self, window: Window) -> DueWindow | None:
        """Take a window that is answered, the oldest one, from those that are pending."""
        due = self.oldest.find(window)
        if due is not None:
            self.oldest.pending.remove(due)
        return due

    def settle(self, of_speech: GapReason) -> Iterator[tuple[int, int, GapReason | None, bool]]:
        """Account for the slots that come next and that no window will score.

        Yields:
            Start and end on the clock, why there is no result, and whether it is whole slots. No
            reason: samples that are too few for a frame and belong to the slot before them.
        """
        while not (run := self.oldest).pending:
            # Speech that lies before any window to come will not be scored for certain.
            out_of_reach = run.horizon if run.closed else run.window_start // self._hop
            yield from self._unscored(run, min(out_of_reach, run.horizon), of_speech)
            # With speech, silence waits too: the window that scores the speech accounts for both.
            if not run.has_speech(run.accounted, run.horizon):
                yield from self._unscored(run, run.horizon, of_speech)
            if not run.closed:
                return
            # Up to 399 samples are left: the last frame read them, or there is no frame at all.
            if run.complete_slots:
                yield run.accounted_sample, run.end_sample, None, False
            elif run.heard:
                yield run.origin, run.end_sample, "too_short", False
            if run.gap_reason is not None:
                yield run.end_sample, run.end_sample + run.gap_samples, run.gap_reason, False
            self._runs.popleft()

    def _unscored(
        self, run: Run, limit: int, of_speech: GapReason
    ) -> Iterator[tuple[int, int, GapReason | None, bool]]:
        if limit <= run.accounted:
            return
        at = run.accounted_sample
        for state, slots in groupby(run.account(limit)):
            end = at + self._hop * len(list(slots))
            yield at, end, gap_reason(state) or of_speech, True
            at = end

    def _run_from(self, origin: int) -> Run:
        return Run(origin, self._hop, self._window_samples, self._min_silence)


def gap_reason(state: int) -> GapReason | None:
    """Return why a slot has no result; None: it is speech."""
    return _REASONS[state]


_REASONS: tuple[GapReason | None, ...] = ("silence", None, "lost", "tone", "music")


def check_answer(outcome: WindowResult | WindowError, hop_samples: int, num_classes: int) -> None:
    """Refuse a result with other frames or classes than the stream's.

    Raises:
        ValueError: it is one.
    """
    if isinstance(outcome, WindowError):
        return
    shape = outcome.logits.shape
    if outcome.hop_samples != hop_samples:
        raise ValueError(
            f"got frames every {outcome.hop_samples} samples, expected {hop_samples} as"
            " timeline.frame_hop_ms says"
        )
    if len(shape) != 2 or shape[1] != num_classes:
        raise ValueError(f"got logits {shape}, expected (frames, {num_classes})")


def join(
    states: bytes, first_row: int, outcome: WindowResult | WindowError
) -> tuple[list[GapReason | None], list[int]]:
    """Find the frame of each slot in the answer to a window.

    Args:
        states: of the slots.
        first_row: row of the answer that belongs to the first slot; negative where the slot lies
            before the window.

    Returns:
        Why a slot has no result, or None, for each; and the rows of those that have one. A row
        with NaN or +inf is an error of the engine; -inf is a class the model never learned.
    """
    skipped = max(0, first_row)
    usable: list[bool] = []
    if isinstance(outcome, WindowResult):
        of_interest = outcome.logits[skipped : max(0, first_row + len(states))]
        # One comparison for both: False for NaN and +inf, True for -inf.
        is_usable = of_interest < np.inf
        if len(is_usable) == len(states) == states.count(SPEECH) and is_usable.all():
            # As in most windows: speech from end to end, and a frame for each slot.
            return [None] * len(states), list(range(first_row, first_row + len(states)))
        usable = np.all(is_usable, axis=1).tolist()
    reasons: list[GapReason | None] = []
    rows: list[int] = []
    for row, state in enumerate(states, start=first_row):
        reason = gap_reason(state)
        if reason is not None:
            reasons.append(reason)
        elif row < 0:
            # Windows were given up until none reached back to this slot.
            reasons.append("overload")
        elif not (row - skipped < len(usable) and usable[row - skipped]):
            reasons.append("error")
        else:
            reasons.append(None)
            rows.append(row)
    return reasons, rows
