"""From frame logits to one stable label, or to none: pooling, softmax, hysteresis.

**Pooling** over a trailing span. The model is trained on the mean of its frames, and its head is
linear: the mean of the frame logits is the logit of the span. So logits are averaged, and the
softmax comes after.
Source: ``inference`` of FunASR's emotion2vec model (mean over frames, projection, softmax).

**Hysteresis.** The present label stays until another one is clearly there, for long enough. With
*q* the posterior of a frame, *p* the present label and *c* the strongest class, the frame speaks
for a change to *c* where *c* is not *p* and

- ``q[c] >= activation_threshold`` (another one is clearly there), or
- ``q[p] < deactivation_threshold`` (the present one is gone).

The label follows when frames of speech that all speak for the same change last ``min_dwell_ms``.
Silence between them neither adds to that time nor ends it.

**Dating.** A change is dated back to its first frame, since that is when it happened; the dwell
time is only what it took to be sure. So nothing may be called certain past the first frame of a
change in doubt, and :attr:`Decision.doubt_since` says where that is.

**First label.** With no present label the strongest class is reported at once and settles when
it has been the strongest for ``min_dwell_ms``; it then counts from where it began to be.

**Doubt.** ``unclear`` is one more state beside the classes: nothing is said there. With *t* the
``abstain_below`` in effect and *m* its margin:

- A class takes over, and is the first label, only where ``q[c] >= t + m``.
- The present label is lost where ``q[p] < t``, until ``q[p] >= t + m``. No frame where it is lost
  carries the label (:attr:`Decision.is_lost`).
- When it has been lost for ``min_dwell_ms`` and no class is about to follow, the state is unclear,
  dated back like any change; a class then has to last as long to take over.

::

    q[p]       above t   below, short   above t + m   below t for long     q[c] above t + m
    at frames  p p p p   . . .          p p p p p     . . . . . . . . .    . . .  c c c
    segments   [------------ p ---------------------)[---- unclear -------)[----- c ---

So each frame that has the label of an emotion is at ``t`` or above, and at the edge nothing
flickers. With *t* = 0 nothing is ever unclear.

**Neutral** is what is left where nothing else is heard. It takes over at its own, lower threshold
(:func:`ser_engine.labels.least_posterior`), without a margin, and is lost only when it has been
below that for 2 s of speech: held to the rule of emotions, it and doubt would take turns in
ordinary talk. It outlasts a pause too, after which other labels are forgotten: the first frames of
an utterance are pooled over so little that they are in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ser_engine.config import SmoothingConfig
from ser_engine.frames import ms_to_samples
from ser_engine.labels import NEUTRAL, least_posterior

Float64Array = npt.NDArray[np.float64]


def softmax(logits: npt.NDArray[np.floating]) -> Float64Array:
    """Return the posteriors ``(..., classes)`` of ``logits`` of that shape.

    A class with the logit -inf, one the model never learned, gets 0. Where every class is -inf
    all posteriors are 0.
    """
    # In float64: posteriors are compared and published with six decimals.
    values = np.asarray(logits, dtype=np.float64)
    # The peak is taken out, or large logits would overflow; -inf - -inf would be NaN.
    peak = np.maximum.reduce(values, axis=-1, keepdims=True)
    posteriors: Float64Array = np.exp(values - np.maximum(peak, _LEAST_PEAK))
    total = np.add.reduce(posteriors, axis=-1, keepdims=True)
    posteriors /= np.maximum(total, _LEAST_TOTAL)
    return posteriors


# Each replaces a value that only rows of -inf have: the peak of others is a logit, and their total
# is 1 at least, for the peak itself adds exp(0).
_LEAST_PEAK = np.finfo(np.float64).min
_LEAST_TOTAL = 0.5


class LogitPool:
    """Mean of the logits of the frames in a trailing span of time.

    Only frames that are pushed count: time without speech adds nothing and still ages what is
    there, so the pool starts afresh after a silence as long as the span::

        frames    a  b  c  .  .  d
        pooled    a  ab abc      bcd     (span of five frames)

    Every mean is taken over its own rows, not over a running sum: a result does not depend on
    how the frames were grouped into calls, and rounding does not build up over hours.
    """

    def __init__(self, span_samples: int, num_classes: int) -> None:
        self._span_samples = span_samples
        self._num_classes = num_classes
        self._starts = np.empty(0, dtype=np.int64)
        self._logits = np.empty((0, self._num_classes), dtype=np.float64)

    def __len__(self) -> int:
        """Return how many frames are held: never more than the span."""
        return len(self._starts)

    def push(
        self, start_samples: npt.NDArray[np.int64], logits: npt.NDArray[np.floating]
    ) -> Float64Array:
        """Add frames and return the pooled logits at each of them.

        Args:
            start_samples: ``(frames,)``, increasing, after all earlier ones.
            logits: ``(frames, classes)``, finite or -inf.

        Returns:
            ``(frames, classes)``: row ``i`` is the mean over the frames that start in
            ``(start_samples[i] - span, start_samples[i]]``.
        """
        known = len(self._starts)
        starts = np.concatenate([self._starts, start_samples])
        rows = np.concatenate([self._logits, np.asarray(logits, dtype=np.float64)])
        oldest = starts.searchsorted(starts[known:] - self._span_samples, side="right")
        ends = np.arange(known + 1, len(starts) + 1)
        # One reduction a frame, each over its own rows, always in the same order. Between an end
        # and the next first row reduceat() gives the one row at the end, which nobody asked for;
        # the last end is that of all rows, which it does not take.
        bounds = np.empty(2 * len(ends), dtype=np.intp)
        bounds[::2], bounds[1::2] = oldest, ends
        pooled: Float64Array = np.empty((0, self._num_classes))
        if len(ends):
            pooled = np.add.reduceat(rows, bounds[:-1], axis=0)[::2] / (ends - oldest)[:, None]
        # Copies: slices would keep the arrays of all earlier calls alive.
        if len(oldest):
            self._starts = starts[oldest[-1] :].copy()
            self._logits = rows[oldest[-1] :].copy()
        return pooled


_FAINT_SAMPLES = ms_to_samples(2000)

UNCLEAR = -1
"""The state in which no class is believed, where others have a class index."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The label at one frame.

    Attributes:
        label: class index, or :data:`UNCLEAR`.
        settled: False until a first label has lasted ``min_dwell_ms``.
        changed_at: start sample the new label is dated back to, at the frame where a settled
            label gives way to another; otherwise None.
        doubt_since: start sample of the first frame of a change that has not lasted yet, or None.
        is_lost: whether ``label`` is too weak to be said at this frame, though it is not over yet.
    """

    label: int
    settled: bool
    changed_at: int | None = None
    doubt_since: int | None = None
    is_lost: bool = False

    def said(self) -> int:
        """Return the class that may be said of this very frame, or :data:`UNCLEAR`."""
        return UNCLEAR if self.is_lost else self.label


@cache
def _undoubted(label: int, settled: bool) -> Decision:
    """Return the decision at almost every frame; one object serves all streams."""
    return Decision(label, settled)


class LabelTracker:
    """Follows the label of one channel, frame by frame.

    Args:
        abstain_below: posterior below which nothing is said, as it is in effect: see
            :meth:`~ser_engine.config.SmoothingConfig.abstain_threshold`.
        labels: names of the classes, among which neutral is looked for.
    """

    def __init__(
        self, config: SmoothingConfig, abstain_below: float = 0.0, labels: Sequence[str] = ()
    ) -> None:
        self._activation = config.activation_threshold
        self._deactivation = config.deactivation_threshold
        self._keep = abstain_below
        # Without a threshold there is no edge to flicker at: the margin would make one.
        self._believe = min(1.0, abstain_below + config.abstain_margin) if abstain_below else 0.0
        self._neutral = labels.index(NEUTRAL) if NEUTRAL in labels else None
        self._neutral_keep = least_posterior(NEUTRAL, abstain_below)
        self._faint_samples = 0  # speech in which a present neutral is below its threshold
        self._dwell_samples = ms_to_samples(config.min_dwell_ms)
        self._span_samples = ms_to_samples(config.span_ms)
        self._label: int | None = None
        self._candidate: int | None = None  # the class that frames speak for
        self._candidate_since = 0
        self._candidate_samples = 0
        self._lost_since: int | None = None
        self._lost_samples = 0
        self._last_end = 0
        self._doubted: Decision | None = None  # the last decision in doubt

    def push(self, start_sample: int, end_sample: int, posterior: Sequence[float]) -> Decision:
        """Take the slot of the next speech frame and its smoothed posterior ``(classes,)``.

        While a decision stays the same it is the same object: whoever takes frames in bulk need
        not compare more.
        """
        if start_sample - self._last_end >= self._span_samples:
            # No frame before such a pause is in the pool any more: forget the label with them.
            self._label = self._neutral if self._label == self._neutral else None
            self._candidate = self._lost_since = None
            self._faint_samples = 0
        self._last_end = end_sample
        strongest = posterior.index(max(posterior))
        # Speech only: start to end would count the silence between the frames.
        num_samples = end_sample - start_sample
        if self._label is None:
            return self._first(start_sample, num_samples, strongest, posterior[strongest])
        present = self._label
        is_lost = self._is_lost(start_sample, num_samples, posterior)
        before = self._candidate
        if not self._speaks_for(strongest, posterior):
            self._candidate = None
            if not is_lost:
                return _undoubted(present, True)
        else:
            self._follow(strongest, start_sample, num_samples)
        doubt_since = self._doubt_since()
        if self._candidate is not None and self._candidate_samples >= self._dwell_samples:
            # Frames at which the old label was lost before this one was there belong to the new
            # one: such a sliver is how a change sounds, not a doubt of its own.
            return self._change(strongest, doubt_since)
        # A class that has begun to speak gets its time, unless another one cuts it short.
        is_nobody_next = self._candidate is None or before not in (None, self._candidate)
        if is_lost and self._lost_samples >= self._dwell_samples and is_nobody_next:
            return self._change(UNCLEAR, doubt_since)
        last = self._doubted
        if last is None or (last.label, last.doubt_since, last.is_lost) != (
            present,
            doubt_since,
            is_lost,
        ):
            self._doubted = last = Decision(present, True, None, doubt_since, is_lost)
        return last

    def push_steady(
        self, start_samples: npt.NDArray[np.int64], hop_samples: int, posteriors: Float64Array
    ) -> Decision | None:
        """Take successive slots ``(slots, classes)`` as :meth:`push` does, if nothing changes.

        Most slots are like that, and looked at together they cost a third.

        Returns:
            The decision at each of them; None: none was taken.
        """
        label = self._label
        if label is None or label == UNCLEAR:
            return None
        if label == self._neutral:
            needed = self._neutral_keep
        else:
            needed = self._keep if self._lost_since is None else self._believe
        end_sample = int(start_samples[-1]) + hop_samples
        if end_sample - self._last_end - len(start_samples) * hop_samples >= self._span_samples:
            return None
        if posteriors[:, label].min() < needed or np.count_nonzero(
            posteriors.argmax(axis=1) == label
        ) < len(posteriors):
            return None
        self._last_end = end_sample
        self._candidate = self._lost_since = None
        self._faint_samples = 0
        return _undoubted(label, True)

    def _first(self, start_sample: int, num_samples: int, strongest: int, most: float) -> Decision:
        """Decide where there is no present label."""
        needed = self._needed(strongest)
        if strongest == self._candidate:
            needed = min(needed, self._keep)
        if most < needed:
            # Doubt needs no time to settle: it is what there is before anything is believed.
            self._label, self._candidate = UNCLEAR, None
            return _undoubted(UNCLEAR, True)
        self._follow(strongest, start_sample, num_samples)
        lasted = self._candidate_samples >= self._dwell_samples
        # Shown at once, so that the first point has a label; it may still change.
        if lasted:
            self._label, self._candidate = strongest, None
        return _undoubted(strongest, lasted)

    def _is_lost(self, start_sample: int, num_samples: int, posterior: Sequence[float]) -> bool:
        """Whether the present label, if there is one, is too weak at this frame."""
        present = self._label
        if present is None or present == UNCLEAR:
            self._lost_since = None
            return False
        if present == self._neutral:
            is_faint = posterior[present] < self._neutral_keep
            self._faint_samples = self._faint_samples + num_samples if is_faint else 0
            if self._faint_samples <= _FAINT_SAMPLES:
                self._lost_since = None
                return False
            needed = self._neutral_keep
        else:
            needed = self._keep if self._lost_since is None else self._believe
        if posterior[present] >= needed:
            self._lost_since = None
            return False
        if self._lost_since is None:
            self._lost_since, self._lost_samples = start_sample, 0
        self._lost_samples += num_samples
        return True

    def _speaks_for(self, strongest: int, posterior: Sequence[float]) -> bool:
        """Whether the frame speaks for a change to its strongest class."""
        present = self._label
        if present is None or strongest == present:
            return False
        if posterior[strongest] < self._needed(strongest):
            return False
        return (
            present == UNCLEAR
            or posterior[strongest] >= self._activation
            or posterior[present] < self._deactivation
        )

    def _needed(self, label: int) -> float:
        """Return the posterior at which a class is believed that was not before."""
        return self._neutral_keep if label == self._neutral else self._believe

    def _follow(self, strongest: int, start_sample: int, num_samples: int) -> None:
        if strongest != self._candidate:
            self._candidate = strongest
            self._candidate_since, self._candidate_samples = start_sample, 0
        self._candidate_samples += num_samples

    def _doubt_since(self) -> int | None:
        lost_since = self._lost_since
        if self._candidate is None:
            return lost_since
        return (
            self._candidate_since if lost_since is None else min(lost_since, self._candidate_since)
        )

    def _change(self, label: int, changed_at: int | None) -> Decision:
        self._label, self._candidate, self._lost_since = label, None, None
        self._faint_samples = 0
        return Decision(label, settled=True, changed_at=changed_at)
