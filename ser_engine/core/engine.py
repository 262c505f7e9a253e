"""The engine's inner loop: windows in, frame logits and embeddings out.

``EngineCore.step`` is blocking and synchronous. It knows windows, not sessions: a window's
``stream_key`` only says that features may be shared with the window before. One thread calls it;
:mod:`ser_engine.core` is the asyncio shell that collects the windows of many streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ser_engine.core.features import FeatureExtractor, FeatureRequest
from ser_engine.core.runtimes import Runtime
from ser_engine.errors import EngineDeadError, WindowError
from ser_engine.types import ModelInfo, Window, WindowResult, window_fault


class EngineCore:
    """Scores windows with a two-stage runtime.

    Args:
        extractor: local features, kept or not.
        warm_up_frames: lengths of the windows to be ready for, in frames.
        max_batch_size: largest number of windows a step is warmed up for.
    """

    def __init__(
        self,
        info: ModelInfo,
        runtime: Runtime,
        extractor: FeatureExtractor,
        *,
        warm_up_frames: Sequence[int] = (199,),
        max_batch_size: int = 1,
    ) -> None:
        self.info = info
        self.runtime_name = runtime.name
        self.extractor = extractor
        self._runtime = runtime
        self._warm_up_frames = tuple(warm_up_frames)
        self._max_batch_size = max_batch_size

    def warm_up(self) -> None:
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
        shifts = [window.pass_shifts() for window in windows]
        requests = [
            FeatureRequest(
                window.samples[shift:],
                window.start_sample + shift,
                None if window.stream_key is None else (window.stream_key, shift),
            )
            for window, of_window in zip(windows, shifts, strict=True)
            for shift in of_window
        ]
        outputs = iter(self._runtime.context(self.extractor.extract(requests)))
        results: list[WindowResult | WindowError] = []
        for window, of_window in zip(windows, shifts, strict=True):
            passes = [next(outputs) for _ in of_window]
            logits = [one.logits.cpu().numpy() for one in passes]
            # -inf is a class that was never trained; NaN and +inf come of overflowing arithmetic,
            # which bf16 and fp16 may do on one loud window, and must not reach a pooled result.
            if not all((one < np.inf).all() for one in logits):
                results.append(WindowError("got logits that are not numbers from the network"))
                continue
            embeddings = [one.embeddings.cpu().numpy() for one in passes]
            results.append(WindowResult.of_passes(logits, embeddings, window.hop_samples))
        return results
