"""Lay scattered runs of frames end to end, so that one pass of the local stage computes them.

A frame depends on its own 400 samples, so the audio of several runs may stand in one row. Each run
reads 80 samples beyond its last cell; one cell is left free behind it for those::

    window   ......aaaa............bb..................cccccccc
    row      aaaa_bb_cccccccc_                                   in a bucket of frames
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Placement", "bucket_of", "pack", "row_frames", "runs_of"]

_MERGE_GAP_FRAMES = 1
"""Runs of frames this close are computed as one: the frame between is as cheap as the seam."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A run of frames in a row.

    Attributes:
        first: index of its first frame in the window.
        stop: index behind its last frame.
        offset: index of its first frame in the row.
    """

    first: int
    stop: int
    offset: int


def runs_of(needed: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return [first, stop) of each run of True in (frames,); runs a frame apart are joined."""
    runs: list[tuple[int, int]] = []
    for index in np.flatnonzero(needed).tolist():
        if runs and index - runs[-1][1] <= _MERGE_GAP_FRAMES:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def pack(runs: Sequence[tuple[int, int]], capacity_frames: int) -> list[list[Placement]]:
    """Lay runs into rows of at most ``capacity_frames``, in order; long runs are cut."""
    rows: list[list[Placement]] = []
    for run_first, stop in runs:
        first = run_first
        while first < stop:
            offset = row_frames(rows[-1]) + 1 if rows else 0
            if not rows or offset >= capacity_frames:
                rows.append([])
                offset = 0
            end = min(stop, first + capacity_frames - offset)
            rows[-1].append(Placement(first, end, offset))
            first = end
    return rows


def row_frames(row: Sequence[Placement]) -> int:
    """Return the frames a row takes."""
    return row[-1].offset + row[-1].stop - row[-1].first


def bucket_of(frames: int, buckets: Sequence[int]) -> int:
    """Return the smallest of the ascending ``buckets`` that holds ``frames``."""
    return next(bucket for bucket in buckets if bucket >= frames)
