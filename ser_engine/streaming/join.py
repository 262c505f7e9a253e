"""Which frames of a window's result are used for which cells."""

from __future__ import annotations

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.events import GapReason
from ser_engine.streaming.stretch import LOST, SPEECH
from ser_engine.types import FloatArray, WindowResult

__all__ = ["join"]


def join(
    flags: bytes, first_row: int, outcome: WindowResult | WindowError, num_classes: int
) -> tuple[list[GapReason | None], FloatArray]:
    """Find each cell's frame in a window's result.

    Args:
        flags: one byte a cell, as in :attr:`Stretch.speech`.
        first_row: row of the result that belongs to the first cell. Negative where the cell lies
            before the window.
        outcome: the engine's answer.
        num_classes: size of ``classes``.

    Returns:
        A verdict a cell, None for those that are scored and otherwise why they are not; and the
        logits ``(frames, classes)`` of those that are. A frame whose logits hold NaN or +inf
        counts as an error of the engine; -inf is a class it never learned.
    """
    usable: list[bool] = []
    if isinstance(outcome, WindowResult):
        of_interest = outcome.logits[: max(0, first_row + len(flags))][max(0, first_row) :]
        # False for NaN and +inf, True for -inf.
        usable = np.all(of_interest < np.inf, axis=1).tolist()
    skipped = max(0, first_row)
    verdicts: list[GapReason | None] = []
    rows: list[int] = []
    for row, flag in enumerate(flags, start=first_row):
        if flag != SPEECH:
            verdicts.append("lost" if flag == LOST else "silence")
        elif row < 0:
            verdicts.append("overload")
        elif not (row - skipped < len(usable) and usable[row - skipped]):
            verdicts.append("error")
        else:
            verdicts.append(None)
            rows.append(row)
    if isinstance(outcome, WindowResult):
        return verdicts, outcome.logits[rows]
    return verdicts, np.empty((0, num_classes), dtype=np.float32)
