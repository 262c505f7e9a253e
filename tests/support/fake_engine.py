"""Engines and detectors whose answers a test can compute by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES
from ser_engine.labels import LabelSet
from ser_engine.timeline.speech import NO_POWERS, SlotCutter, sound_powers
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult

LABELS = LabelSet.from_tokens(["生气/angry", "开心/happy", "中立/neutral", "<unk>"])

FrameLogits = Callable[[FloatArray, Window], FloatArray]


def square(num_samples: int, level: float) -> FloatArray:
    """A tone of 500 Hz at 16 kHz whose samples all have one magnitude: ``(samples,)``.

    A constant would be an offset, which is no sound.
    """
    signs = 1 - 2 * (np.arange(num_samples) // 16 % 2)
    return (signs * level).astype(np.float32)


def logits_of_audio(frames: FloatArray, window: Window) -> FloatArray:
    """Logits that depend on each frame's 400 samples and on nothing else.

    Samples of a magnitude of 0.1 are angry, 0.2 happy, 0.3 neutral, each with much certainty.
    """
    level = np.abs(frames).mean(axis=1)
    centres = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
    logits: FloatArray = -80 * np.abs(level[:, None] - centres)
    return logits


def logits_of_position(frames: FloatArray, window: Window) -> FloatArray:
    """Logits that name the window: its start and end, and the frame's row in it."""
    rows = np.zeros((len(frames), len(LABELS)), dtype=np.float32)
    rows[:, 0] = window.start_sample
    rows[:, 1] = window.start_sample + len(window.samples)
    rows[:, 2] = np.arange(len(frames))
    return rows


class FakeEngine:
    """Looks like an engine; computes with ``frame_logits``.

    Attributes:
        windows: every window that was run.
        fail_when: windows it answers with an error.
    """

    def __init__(self, frame_logits: FrameLogits = logits_of_audio) -> None:
        self.info = ModelInfo("fake", "nowhere", "none", "", LABELS, 2, notice="A fake model.")
        self.windows: list[Window] = []
        self.fail_when: Callable[[Window], bool] = lambda window: False
        self._frame_logits = frame_logits

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        return [self.run(window) for window in windows]

    def run(self, window: Window) -> WindowResult | WindowError:
        self.windows.append(window)
        if self.fail_when(window):
            return WindowError("got a window it was told to fail on")
        frames = np.lib.stride_tricks.sliding_window_view(window.samples, RECEPTIVE_FIELD_SAMPLES)
        frames = frames[:: window.hop_samples]
        logits = self._frame_logits(frames, window)
        embeddings = np.stack([frames[:, 0], frames[:, -1]], axis=1).copy()
        return WindowResult(logits, embeddings, window.hop_samples)


class LevelDetector:
    """Speech is where a slot holds a sample that is not zero."""

    def __init__(self) -> None:
        self.powers = NO_POWERS
        self._cutter = SlotCutter()

    def skip(self, num_samples: int) -> None:
        self._cutter.clear()

    def push(self, samples: FloatArray) -> list[bool]:
        slots = self._cutter.push(samples)
        self.powers = sound_powers(slots)
        return [bool(level) for level in np.abs(slots).max(axis=1, initial=0.0)]
