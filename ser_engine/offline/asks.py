"""What an analysis asks the engine for, and windows that are asked for twice.

::

    window            [samples 0 ...                )   frames at 0, 20, 40, ... ms
    its second pass     [samples 160 ...            )   frames at 10, 30, 50, ... ms
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.frames import HALF_HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES
from ser_engine.types import FloatArray, Window, WindowResult

__all__ = ["Ask", "Outcome", "ask_twice"]

Outcome = WindowResult | WindowError


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A window, and who is told what the engine says of it."""

    window: Window
    deliver: Callable[[Outcome], None]


def ask_twice(ask: Ask) -> list[Ask]:
    """Return what asks for frames every 10 ms of an engine that gives them every 20 ms."""
    window = ask.window
    if len(window.samples) < RECEPTIVE_FIELD_SAMPLES + HALF_HOP_SAMPLES:
        return [Ask(window, lambda outcome: ask.deliver(_interleaved([outcome])))]
    key = None if window.stream_key is None else f"{window.stream_key}/shifted"
    shifted = Window(window.samples[HALF_HOP_SAMPLES:], window.start_sample + HALF_HOP_SAMPLES, key)
    outcomes: list[Outcome | None] = [None, None]

    def taker(place: int) -> Callable[[Outcome], None]:
        def take(outcome: Outcome) -> None:
            outcomes[place] = outcome
            known = [each for each in outcomes if each is not None]
            if len(known) == len(outcomes):
                ask.deliver(_interleaved(known))

        return take

    return [Ask(window, taker(0)), Ask(shifted, taker(1))]


def _interleaved(outcomes: list[Outcome]) -> Outcome:
    results: list[WindowResult] = []
    for outcome in outcomes:
        if isinstance(outcome, WindowError):
            return outcome
        results.append(outcome)
    return WindowResult(
        _joined([result.logits for result in results]),
        _joined([result.embeddings for result in results]),
        HALF_HOP_SAMPLES,
    )


def _joined(passes: list[FloatArray]) -> FloatArray:
    """Join passes (frames, ·) whose frames alternate in time; the first may have one more."""
    if len(passes) == 1:
        return passes[0]
    rows = np.empty((sum(map(len, passes)), passes[0].shape[1]), dtype=np.float32)
    for place, one in enumerate(passes):
        rows[place :: len(passes)] = one
    return rows
