"""A voice judged against its own neutral.

Voices differ at rest: one sounds a little sad, another a little angry, in every neutral sentence. A
channel therefore keeps a running mean of the pooled logits where it was said to be neutral, and
half of what sets that mean apart from the average speaker's (:attr:`ModelInfo.neutral_logits`) is
taken off all its logits::

    pooled ──▶ minus share x (mean of own neutral - neutral of all) ──▶ softmax, label
       └─────── where the label is neutral, once a span ──▶ mean of own neutral

- Nothing is taken off before three spans were neutral: a customer who is angry from the first word
  is judged as before.
- Only frames that were called neutral with a posterior of a half or more move the mean, so that
  anger does not become normal by lasting.
- The mean forgets: it follows about the last minute of neutral speech, and so a change of speaker.

The head of a model is linear, so this equals a baseline of its embeddings. Measured, for the
built-in models, by their cards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ser_engine.labels import NEUTRAL

Float64Array = npt.NDArray[np.float64]

SHARE = 0.5
"""How much of a voice's difference is taken off: all of it would take emotions for the voice."""
LEAST_SPANS = 3
LEAST_POSTERIOR = 0.5
REMEMBERED_SPANS = 50


class SpeakerBaseline:
    """Of one channel; the pooled logits come in order.

    Args:
        neutral_logits: of the average speaker, ``(classes,)``. Empty: nothing is ever taken off.
        span_samples: speech between two looks; longer than what is pooled, or they overlap.
    """

    def __init__(
        self, labels: Sequence[str], neutral_logits: Sequence[float], span_samples: int
    ) -> None:
        self._neutral = labels.index(NEUTRAL) if neutral_logits else -1
        self._average = np.array(neutral_logits, dtype=np.float64)
        self._span_samples = span_samples
        self.left_samples = span_samples  # speech for which what is taken off stays as it is
        self._own = np.zeros(len(neutral_logits))
        self._spans = 0

    def centred(self, pooled: Float64Array) -> Float64Array:
        """Return pooled logits ``(frames, classes)`` without what is the voice's own."""
        if self._spans < LEAST_SPANS:
            return pooled
        return pooled - SHARE * (self._own - self._average)

    def hear(
        self, num_samples: int, pooled: Float64Array, label: int, posteriors: Sequence[float]
    ) -> None:
        """Go on by speech.

        Args:
            num_samples: no more than :attr:`left_samples`.
            pooled: logits ``(classes,)`` at its last frame, as they were pooled.
            label: class index of what is said there, below 0 for nothing.
            posteriors: there, one a class.
        """
        self.left_samples -= num_samples
        if self.left_samples > 0:
            return
        self.left_samples = self._span_samples
        if label != self._neutral or label < 0 or posteriors[label] < LEAST_POSTERIOR:
            return
        self._spans = min(self._spans + 1, REMEMBERED_SPANS)
        # A class that was never learned stays at -inf, whatever is taken off.
        known = np.where(np.isfinite(pooled), pooled, self._average)
        self._own += (known - self._own) / self._spans
