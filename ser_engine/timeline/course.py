"""A channel as a whole, from the segments and gaps that tile it: shares, and the course.

A whole is not one label: "angry" may be the most frequent with a third of the speech. So it says
what share of the speech each label had, how much of it was unclear, how much of the time was
silence, the same for each quarter of the time, and where it went::

    trend of a label = (its share in the last quarter - its share in the first) / 2

which is -0.5 (from all of the speech to none of it) to 0.5.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from ser_engine.frames import samples_to_s
from ser_engine.schema import (
    Gap,
    GapReason,
    Segment,
    Shares,
    Whole,
    rounded,
)

QUARTERS = 4
_SILENCE, _MISSING, _UNCLEAR = range(3)
_FIRST_LABEL = 3
_SILENT_REASONS = ("silence", "tone", "too_short")


class Course:
    """Takes what tiles a channel, in order; a few bytes each, for a stream may last hours."""

    def __init__(self) -> None:
        self._ends = array("q")
        self._kinds = array("B")
        self._labels: list[str] = []

    def take(self, tile: Segment | Gap) -> None:
        """Add the next final segment or gap."""
        if isinstance(tile, Gap):
            self.add(tile.end_sample, None, tile.reason)
        else:
            self.add(tile.end_sample, tile.label)

    def add(self, end_sample: int, label: str | None, reason: GapReason | None = None) -> None:
        """Add what lasts from the end of the last tile to ``end_sample``.

        Args:
            end_sample: not included.
            label: None: unclear, or a gap.
            reason: of a gap.
        """
        self._ends.append(end_sample)
        self._kinds.append(self._kind(label, reason))

    def whole(self) -> Whole | None:
        """Return what is known so far; None: nothing."""
        if not self._ends:
            return None
        total = self._ends[-1]
        bounds = [total * number // QUARTERS for number in range(QUARTERS + 1)]
        samples = [[0] * (_FIRST_LABEL + len(self._labels)) for _ in range(QUARTERS)]
        start = quarter = 0
        for end, kind in zip(self._ends, self._kinds, strict=True):
            while start < end:
                # The last bound is the end of the last tile, so this never goes past it.
                while start >= bounds[quarter + 1]:
                    quarter += 1
                part_end = min(end, bounds[quarter + 1])
                samples[quarter][kind] += part_end - start
                start = part_end
        quarters = tuple(map(self._shares, samples))
        first, last = quarters[0], quarters[-1]
        # A quarter without speech has no shares that could be compared.
        names = sorted({*first.labels, *last.labels}) if first.speech_s and last.speech_s else ()
        return Whole(
            shares=self._shares([sum(column) for column in zip(*samples, strict=True)]),
            quarters=quarters,
            trend={
                name: rounded((last.labels.get(name, 0.0) - first.labels.get(name, 0.0)) / 2)
                for name in names
            },
        )

    def _kind(self, label: str | None, reason: GapReason | None) -> int:
        if reason is not None:
            return _SILENCE if reason in _SILENT_REASONS else _MISSING
        if label is None:
            return _UNCLEAR
        if label not in self._labels:
            self._labels.append(label)
        return _FIRST_LABEL + self._labels.index(label)

    def _shares(self, samples: list[int]) -> Shares:
        total, speech = sum(samples), sum(samples[_UNCLEAR:])
        return Shares(
            duration_s=samples_to_s(total),
            speech_s=samples_to_s(speech),
            labels={
                name: rounded(count / speech)
                for name, count in sorted(zip(self._labels, samples[_FIRST_LABEL:], strict=True))
                if count
            },
            unclear=rounded(samples[_UNCLEAR] / speech) if speech else 0.0,
            silence=rounded(samples[_SILENCE] / total) if total else 0.0,
            missing=rounded(samples[_MISSING] / total) if total else 0.0,
        )


def whole_of(tiles: Iterable[Segment | Gap]) -> Whole | None:
    """Return the whole of the segments and gaps of a channel, in any order."""
    course = Course()
    for tile in sorted(tiles, key=lambda each: each.start_sample):
        course.take(tile)
    return course.whole()
