"""FunASR itself, as the reference the other runtimes are held against, and the folders it reads.

FunASR runs one window at a time from its samples and scores it as a whole. Its frame features are
at hand, though, and its head is linear, so the head applied to each frame gives frame logits whose
mean is FunASR's own utterance logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ser_engine.errors import CheckpointError, RuntimeUnavailableError, WindowError, how_to_install
from ser_engine.types import ModelInfo, Window, WindowResult, window_fault

CONFIG_FILE = "config.yaml"
TOKENS_FILE = "tokens.txt"
WEIGHTS_FILE = "model.pt"
PUBLISHED_FILES = (CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE)


def is_published_folder(folder: Path) -> bool:
    """Return whether the three files of a published model are there."""
    return all((folder / name).is_file() for name in PUBLISHED_FILES)


class FunasrEngine:
    """Scores windows by ``funasr.AutoModel.generate``.

    Args:
        info: the model; its source must be a published folder.
    """

    def __init__(self, info: ModelInfo, device: str, threads: int) -> None:
        if not is_published_folder(Path(info.source)):
            raise CheckpointError(
                f"got a model from {info.source}, expected a published folder"
                f" ({', '.join(PUBLISHED_FILES)}): the funasr runtime reads no other"
            )
        try:
            from funasr import AutoModel
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"the funasr runtime needs the package funasr; {how_to_install('funasr')}"
            ) from error
        self.info = info
        self.runtime_name = f"funasr fp32 {device}"
        self.auto_model: Any = AutoModel(
            model=info.source,
            device=device,
            ncpu=threads,
            # Or it asks a package index for a newer version of itself at every start, and prints
            # bars and logs into a program's output.
            disable_update=True,
            disable_pbar=True,
            disable_log=True,
        )
        rows = list(info.labels.head_rows)
        head = self.auto_model.model.proj
        self._weight = head.weight.detach().cpu().numpy()[rows]
        self._bias = head.bias.detach().cpu().numpy()[rows]

    def warm_up(self) -> None:
        self.step([Window(np.zeros(16_000, dtype=np.float32))])

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        return [window_fault(window) or self._score(window) for window in windows]

    def _score(self, window: Window) -> WindowResult:
        with torch.inference_mode():
            passes = [
                self.auto_model.generate(
                    window.samples[shift:], granularity="frame", extract_embedding=True
                )[0]["feats"]
                for shift in window.pass_shifts()
            ]
        logits = [embeddings @ self._weight.T + self._bias for embeddings in passes]
        return WindowResult.of_passes(logits, passes, window.hop_samples)

    def forget(self, stream_key: str) -> None:
        """Do nothing: no features are kept."""
