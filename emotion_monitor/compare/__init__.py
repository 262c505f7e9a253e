"""Granularities compared: one recording analysed in every way, with time and memory measured.

Here is what they are compared on: results of every granularity on one grid of 20 ms cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_engine.files import (
    FrameResult,
    Result,
    StreamResult,
    UtteranceResult,
)
from ser_engine.frames import HOP_SAMPLES, samples_to_s
from ser_engine.schema import Segment

Cells = npt.NDArray[np.int64]
_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Run:
    """Cells in a row with one label."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Where the emotion turns: ``at_s`` is where the later one begins."""

    at_s: float
    before: str
    after: str


def labels_of(result: Result) -> Cells:
    """Return the index of each cell's likeliest class, ``(cells,)``; −1 without speech.

    Unclear or not: granularities are compared by what they hear, not by what they would say.
    """
    num_cells = _num_cells(result)
    match result:
        case UtteranceResult():
            return np.full(num_cells, int(result.posteriors.argmax()))
        case FrameResult():
            winners = result.posteriors.argmax(axis=1)[:: HOP_SAMPLES // result.hop_samples]
            cells = np.full(num_cells, _NOTHING)
            count = min(num_cells, len(winners))
            cells[:count] = winners[:count]
            # The encoder has no frame for the last few milliseconds.
            cells[count:] = winners[-1]
            return cells
        case StreamResult():
            cells = np.full(num_cells, _NOTHING)
            for segment in result.segments:
                cells[_cells(segment)] = result.labels.index(segment.best)
            return cells


def posteriors_of(result: Result) -> npt.NDArray[np.float64]:
    """Return the posteriors at each cell, ``(cells, classes)``; NaN where there are none."""
    num_cells = _num_cells(result)
    rows = np.full((num_cells, len(result.labels)), np.nan)
    match result:
        case UtteranceResult():
            rows[:] = result.posteriors
        case FrameResult():
            native = result.posteriors[:: HOP_SAMPLES // result.hop_samples][:num_cells]
            rows[: len(native)] = native
            rows[len(native) :] = native[-1]
        case StreamResult():
            for point in result.points:
                start, end = point.start_sample // HOP_SAMPLES, -(-point.end_sample // HOP_SAMPLES)
                rows[start:end] = point.posteriors
    return rows


def agreement(one: Cells, other: Cells) -> float | None:
    """Return in what share of the time two have one label; None: they never both have any."""
    count = min(len(one), len(other))
    both = (one[:count] != _NOTHING) & (other[:count] != _NOTHING)
    return float((one[:count] == other[:count])[both].mean()) if both.any() else None


def difference(one: Result, other: Result) -> float:
    """Return the largest difference of a posterior, 0 to 1; 1 where only one of them has any."""
    first, second = posteriors_of(one), posteriors_of(other)
    count = min(len(first), len(second))
    if not count:
        return 0.0
    first, second = first[:count], second[:count]
    if (np.isnan(first) != np.isnan(second)).any():
        return 1.0
    return float(np.nan_to_num(np.abs(first - second)).max())


def runs(cells: Cells, names: tuple[str, ...]) -> Iterator[Run]:
    """Yield the runs of cells; those without a label are left out."""
    if not len(cells):
        return
    bounds = np.flatnonzero(np.diff(cells)) + 1
    starts, ends = [0, *bounds.tolist()], [*bounds.tolist(), len(cells)]
    for start, end in zip(starts, ends, strict=True):
        if cells[start] != _NOTHING:
            yield Run(
                samples_to_s(start * HOP_SAMPLES),
                samples_to_s(end * HOP_SAMPLES),
                names[cells[start]],
            )


def turns(cells: Cells, names: tuple[str, ...]) -> list[Turn]:
    """Return where a label gives way to another one, a pause between them or not."""
    found = list(runs(cells, names))
    return [
        Turn(after.start_s, before.label, after.label)
        for before, after in itertools.pairwise(found)
        if before.label != after.label
    ]


def _num_cells(result: Result) -> int:
    return -(-result.num_samples // HOP_SAMPLES)


def _cells(segment: Segment) -> slice:
    return slice(segment.start_sample // HOP_SAMPLES, -(-segment.end_sample // HOP_SAMPLES))


SEEN_DIFFERENCE = 0.1
