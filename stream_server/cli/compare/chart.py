"""What the page draws of a channel, no finer than a screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ser_engine.frames import HOP_SAMPLES, samples_to_s
from ser_engine.offline import Result
from stream_server.cli.compare.grid import Cells, labels_of, posteriors_of, runs

__all__ = ["chart"]

_MOST_COLUMNS = 600
_LEAST_PER_COLUMN = 10
"""Cells of a column of the areas: single frames flicker."""


def chart(results: Mapping[str, Result]) -> dict[str, Any]:
    """Return a channel's chart.

    Args:
        results: of each granularity, ``frame`` among them.

    Returns:
        ``times`` (s, middles of columns), ``series`` (mean posterior of each class of the frames in
        a column) and ``ribbons`` (of each granularity its runs: start, end, label).
    """
    names = results["frame"].labels
    rows = posteriors_of(results["frame"])
    per_column = max(_LEAST_PER_COLUMN, -(-len(rows) // _MOST_COLUMNS))
    starts = np.arange(0, len(rows), per_column)
    sums = np.add.reduceat(rows, starts, axis=0)
    means = sums / np.diff(np.append(starts, len(rows)))[:, None]
    middles = starts + per_column / 2
    return {
        "times": [round(float(each) * HOP_SAMPLES / 16_000, 3) for each in middles],
        "series": {
            label: [round(value, 4) for value in means[:, place].tolist()]
            for place, label in enumerate(names)
        },
        "ribbons": {name: _ribbon(labels_of(result), names) for name, result in results.items()},
    }


def _ribbon(cells: Cells, names: tuple[str, ...]) -> list[list[Any]]:
    found = list(runs(cells, names))
    if len(found) > _MOST_COLUMNS:
        # Of each column its most frequent label.
        per_column = -(-len(cells) // _MOST_COLUMNS)
        columns = [cells[start : start + per_column] for start in range(0, len(cells), per_column)]
        most = [np.bincount(column + 1).argmax() - 1 for column in columns]
        found = list(runs(np.repeat(most, per_column)[: len(cells)], names))
    end_s = samples_to_s(len(cells) * HOP_SAMPLES)
    return [[run.start_s, min(run.end_s, end_s), run.label] for run in found]
