"""The engine's inner loop: windows in, frame logits and embeddings out.

``EngineCore.step`` is blocking and synchronous. It knows windows, not sessions: a window's
``stream_key`` only says that features may be shared with the window before. One thread calls it;
:mod:`ser_engine.core` is the asyncio shell that collects the windows of many streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ser_engine.core.features import FeatureExtractor, FeatureRequest
from ser_engine.core.runtimes.base import Runtime
from ser_engine.errors import EngineDeadError, WindowError
from ser_engine.frames import HOP_SAMPLES, num_frames
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult, window_fault


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


class EngineCore:
    """Scores windows with a two-stage runtime.

    Args:
        info: the model in use.
        runtime: what executes it.
        extractor: local features, kept or not.
        hop_samples: 320, or 160 for a second pass over each window from its 160th sample on,
            interleaved: frames every 10 ms, each computed like any other.
        warm_up_frames: lengths of the windows to be ready for, in frames.
        max_batch_size: largest number of windows a step is warmed up for.
    """

    def __init__(
        self,
        info: ModelInfo,
        runtime: Runtime,
        extractor: FeatureExtractor,
        *,
        hop_samples: int = HOP_SAMPLES,
        warm_up_frames: Sequence[int] = (199,),
        max_batch_size: int = 1,
    ) -> None:
        self.info = info
        self.runtime_name = runtime.name
        self.extractor = extractor
        self._runtime = runtime
        self._hop_samples = hop_samples
        self._warm_up_frames = tuple(warm_up_frames)
        self._max_batch_size = max_batch_size

    def warm_up(self) -> None:
        """See :meth:`Core.warm_up`."""
        self.extractor.warm_up()
        self._runtime.warm_up(self._warm_up_frames, self._max_batch_size)

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Score windows of any lengths from 400 samples on.

        A window that cannot be scored is answered by a WindowError in its place. Where a batch
        fails as a whole, its windows are run one by one, so that only the guilty one fails.

        Raises:
            EngineDeadError: the accelerator is lost to this process; a new one may have it again.
        """
        answers: dict[int, WindowResult | WindowError] = {
            index: fault for index, window in enumerate(windows) if (fault := window_fault(window))
        }
        good = [index for index in range(len(windows)) if index not in answers]
        try:
            scored = self._score_apart([windows[index] for index in good])
        except torch.AcceleratorError as error:
            raise EngineDeadError(f"the accelerator failed: {error}") from error
        answers.update(zip(good, scored, strict=True))
        return [answers[index] for index in range(len(windows))]

    def forget(self, stream_key: str) -> None:
        """See :meth:`Core.forget`."""
        self.extractor.forget(stream_key)

    def _score_apart(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Score windows together, or one by one where they fail together."""
        try:
            return self._score(windows)
        except torch.AcceleratorError:
            raise
        except RuntimeError as error:
            if len(windows) == 1:
                return [WindowError(f"the network failed on this window: {error}")]
        return [answer for window in windows for answer in self._score_apart([window])]

    @torch.inference_mode()
    def _score(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        if not windows:
            return []
        shifts = range(0, HOP_SAMPLES, self._hop_samples)
        requests = [
            request
            for window in windows
            for shift in shifts
            if (request := self._request(window, shift)) is not None
        ]
        outputs = self._runtime.context(self.extractor.extract(requests))
        passes = iter(outputs)
        results: list[WindowResult | WindowError] = []
        for window in windows:
            of_window = [
                next(passes) for shift in shifts if _can_score(len(window.samples) - shift)
            ]
            logits = _interleave([output.logits for output in of_window])
            embeddings = _interleave([output.embeddings for output in of_window])
            if np.isnan(logits).any() or np.isposinf(logits).any():
                results.append(WindowError("got logits that are not numbers from the network"))
            else:
                results.append(WindowResult(logits, embeddings, self._hop_samples))
        return results

    @staticmethod
    def _request(window: Window, shift: int) -> FeatureRequest | None:
        samples = window.samples[shift:]
        if not _can_score(len(samples)):
            return None
        key = (window.stream_key, shift) if window.stream_key is not None else None
        return FeatureRequest(samples, window.start_sample + shift, key)


def _can_score(num_samples: int) -> bool:
    return num_frames(num_samples) > 0


def _interleave(passes: Sequence[Tensor]) -> FloatArray:
    """Join passes (frames, ·) whose frames alternate in time; the first may have one more."""
    arrays = [one.cpu().numpy() for one in passes]
    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0])
    joined = np.empty((sum(len(a) for a in arrays), arrays[0].shape[1]), dtype=np.float32)
    for place, array in enumerate(arrays):
        joined[place :: len(arrays)] = array
    return joined
