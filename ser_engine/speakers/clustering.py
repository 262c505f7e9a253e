"""Grouping voice embeddings as they come, without knowing how many voices there are.

A vector joins the group whose mean points most nearly the same way, if that is near enough, else it
begins a group of its own. Groups whose means have come near each other become one. So each group
takes the same memory however long somebody speaks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ser_engine.types import FloatArray

__all__ = ["OnlineClustering"]


class OnlineClustering:
    """Groups of vectors.

    Args:
        threshold: smallest cosine between a vector and its group's mean, −1 to 1.
        max_groups: beyond these a vector joins the nearest group, however far that is.
    """

    def __init__(self, threshold: float, max_groups: int) -> None:
        self._threshold = threshold
        self._max_groups = max_groups
        self._sums: list[npt.NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._merged_into: list[int] = []

    def add(self, vector: FloatArray) -> int:
        """Put a vector of length 1 into a group; return the group's number, see :meth:`find`."""
        best, cosine = self._nearest(vector)
        if best is None or (cosine < self._threshold and len(self._living()) < self._max_groups):
            self._sums.append(vector.astype(np.float64))
            self._counts.append(1)
            self._merged_into.append(len(self._merged_into))
            return len(self._sums) - 1
        self._sums[best] += vector
        self._counts[best] += 1
        self._merge_what_is_near(best)
        return best

    def find(self, group: int) -> int:
        """Return the number of the group that ``group`` is part of by now."""
        while self._merged_into[group] != group:
            group = self._merged_into[group]
        return group

    def dissolve_smaller_than(self, count: int) -> None:
        """Let groups of fewer vectors become part of their nearest; the largest one stays."""
        for group in sorted(self._living(), key=lambda each: self._counts[each]):
            others = [each for each in self._living() if each != group]
            if self._counts[group] >= count or not others:
                return
            mean = self._mean(group)
            self._merge(group, max(others, key=lambda each: float(mean @ self._mean(each))))

    def _nearest(self, vector: FloatArray) -> tuple[int | None, float]:
        cosines = {group: float(vector @ self._mean(group)) for group in self._living()}
        if not cosines:
            return None, -1.0
        best = max(cosines, key=lambda group: cosines[group])
        return best, cosines[best]

    def _merge_what_is_near(self, group: int) -> None:
        for other in self._living():
            if other != group and float(self._mean(group) @ self._mean(other)) >= self._threshold:
                # The older number stays, so that speakers are named in the order they appear.
                older, younger = sorted((group, other))
                self._merge(younger, older)
                group = older

    def _merge(self, group: int, target: int) -> None:
        self._sums[target] += self._sums[group]
        self._counts[target] += self._counts[group]
        self._merged_into[group] = target

    def _living(self) -> list[int]:
        return [group for group, target in enumerate(self._merged_into) if group == target]

    def _mean(self, group: int) -> npt.NDArray[np.float64]:
        total = self._sums[group]
        length = float(np.linalg.norm(total))
        mean: npt.NDArray[np.float64] = total / length if length else total
        return mean
