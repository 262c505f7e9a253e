"""Pooling of frame logits over a trailing span.

The model is trained on the mean of its frames, and its head is linear: the mean of the frame
logits is the logit of the span. So logits are averaged, and the softmax comes after.

Source: ``inference`` of FunASR's emotion2vec model (mean over frames, projection, softmax).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LogitPool", "softmax"]

Float64Array = npt.NDArray[np.float64]


def softmax(logits: npt.NDArray[np.floating]) -> Float64Array:
    """Return the posteriors ``(..., classes)`` of ``logits`` of that shape.

    A class with the logit -inf, one the model never learned, gets 0. Where every class is -inf
    all posteriors are 0.
    """
    values = np.asarray(logits, dtype=np.float64)
    peak = values.max(axis=-1, keepdims=True)
    scaled = np.exp(values - np.where(np.isneginf(peak), 0.0, peak))
    total = scaled.sum(axis=-1, keepdims=True)
    posteriors: Float64Array = scaled / np.where(total == 0, 1.0, total)
    return posteriors


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
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
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
        oldest = np.searchsorted(starts, starts[known:] - self._span_samples, side="right")
        pooled = np.empty((len(starts) - known, self._num_classes))
        for index, first in enumerate(oldest.tolist()):
            np.add.reduce(rows[first : known + index + 1], axis=0, out=pooled[index])
        pooled /= (np.arange(known + 1, len(starts) + 1) - oldest)[:, None]
        if len(oldest):
            self._starts = starts[oldest[-1] :].copy()
            self._logits = rows[oldest[-1] :].copy()
        return pooled
