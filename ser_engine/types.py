"""The plain data that passes between the parts of the engine, and what scores it.

Array shapes are given with axis names: ``samples`` (16 kHz mono), ``frames`` (see
:mod:`ser_engine.frames`), ``classes`` (in the order of the model's labels) and ``dim``
(embedding size).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ser_engine.errors import WindowError
from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES, num_frames
from ser_engine.labels import LabelSet

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The audio of one forward pass.

    Attributes:
        samples: float32 ``(samples,)``, mono 16 kHz, full scale at ±1. At least 400 samples.
        start_sample: index of ``samples[0]`` on its stream's clock. Windows of one stream share
            features only where their starts differ by a multiple of 320 samples.
        stream_key: windows with the same key are taken to be successive views of one stream, so
            that features of audio they share need not be computed again. The engine compares the
            shared samples before it relies on them; a wrong key costs time, never correctness.
            None: no sharing.
        hop_samples: samples between the frames wanted: 320, or 160. The network gives one every
            320, so 160 takes a second pass over the window from its 160th sample on::

                window            [samples 0 ...                )   frames at 0, 20, 40, ... ms
                its second pass     [samples 160 ...            )   frames at 10, 30, 50, ... ms
    """

    samples: FloatArray
    start_sample: int = 0
    stream_key: str | None = None
    hop_samples: int = HOP_SAMPLES

    def pass_shifts(self) -> list[int]:
        """Return from which of its samples on each pass starts; a pass has at least one frame."""
        shifts = range(0, HOP_SAMPLES, self.hop_samples)
        return [shift for shift in shifts if num_frames(len(self.samples) - shift)]

    @property
    def end_sample(self) -> int:
        """End on its stream's clock, not included."""
        return self.start_sample + len(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """What the engine says of one window.

    Attributes:
        logits: float32 ``(frames, classes)``. The mean over frames, then softmax, is exactly the
            model's utterance result for the window: the head is linear.
        embeddings: float32 ``(frames, dim)``.
        hop_samples: samples between frames, as the window asked for. Frame ``i`` starts
            ``i * hop_samples`` samples after the window's first sample.
    """

    logits: FloatArray
    embeddings: FloatArray
    hop_samples: int = HOP_SAMPLES

    @classmethod
    def of_passes(
        cls, logits: Sequence[FloatArray], embeddings: Sequence[FloatArray], hop_samples: int
    ) -> WindowResult:
        """Put the passes of :meth:`Window.pass_shifts` together, each (frames, ·)."""
        return cls(_interleaved(logits), _interleaved(embeddings), hop_samples)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Where a model comes from and what it may be used for.

    Attributes:
        name: e.g. ``emotion2vec_plus_base``.
        source: the folder or hub repository it was read from.
        licence: licence name or link of the weights.
        sha256: hash of the weight file as published, hex.
        labels: the classes, in the order of the logits.
        embedding_dim: size of ``dim``.
        notice: one sentence users must see wherever the model is in use, or "".
        abstain_below: posterior below which the model's label is not worth believing and is not
            said (``unclear``), 0 to 1; measured when it was trained, or chosen with care. 0: the
            likeliest label is always said. See ``smoothing.abstain_below``.
        neutral_logits: mean logits of natural speech that the model calls neutral, over many
            speakers, one a class (0 for one it never learned): a voice's own are held against
            them. Empty: not known. See ``smoothing.speaker_baseline``.
        pools_speech: it was trained to be pooled over frames with speech, not over all of a
            recording. See ``offline.pooling``.
    """

    name: str
    source: str
    licence: str
    sha256: str
    labels: LabelSet
    embedding_dim: int
    notice: str = ""
    abstain_below: float = 0.0
    neutral_logits: tuple[float, ...] = ()
    pools_speech: bool = False


def _interleaved(passes: Sequence[FloatArray]) -> FloatArray:
    if len(passes) == 1:
        return np.ascontiguousarray(passes[0])
    # The first pass may have a frame more than the second, which is why they are not stacked.
    rows = np.empty((sum(map(len, passes)), passes[0].shape[1]), dtype=np.float32)
    for place, one in enumerate(passes):
        rows[place :: len(passes)] = one
    return rows


def window_fault(window: Window) -> WindowError | None:
    """Return what is wrong with a window, or None."""
    samples = window.samples
    if samples.dtype != np.float32 or samples.ndim != 1:
        return WindowError(
            f"got samples of type {samples.dtype} and shape {samples.shape}, expected float32"
            " (samples,): scale integers to ±1 and split channels"
        )
    if len(samples) < RECEPTIVE_FIELD_SAMPLES:
        return WindowError(
            f"got a window of {len(samples)} samples, expected at least"
            f" {RECEPTIVE_FIELD_SAMPLES} (25 ms)"
        )
    if not np.isfinite(samples).all():
        return WindowError("got a window with NaN or infinite samples, expected finite ones")
    return None


class Core(Protocol):
    """Anything that scores windows, blocking, called by one thread at a time.

    What a network in this process is executed by, and what a model may bring of its own: a
    reference implementation, or a service on another machine.
    """

    @property
    def info(self) -> ModelInfo:
        """The model in use."""

    @property
    def runtime_name(self) -> str:
        """How it is executed, e.g. ``openvino fp32 cpu``."""

    def warm_up(self) -> None:
        """Get ready, so that the first real window costs no more than later ones."""

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Score windows of any lengths from 400 samples on; one answer each, in order.

        Raises:
            EngineDeadError: the core cannot go on; a new one may.
        """

    def forget(self, stream_key: str) -> None:
        """Free what is kept of a stream that has ended."""
