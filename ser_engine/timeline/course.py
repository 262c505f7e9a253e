"""How a channel has been: as a whole, and lately.

:class:`Course` makes the whole of the segments and gaps that tile a channel: shares, and where it
went.

A whole is not one label: "angry" may be the most frequent with a third of the speech. So it says
what share of the speech each label had, how much of it was unclear, how much of the time was
silence or of somebody who is left out, the same for each quarter of the time, and where it went::

    trend of a label = (its share in the last quarter - its share in the first) / 2

which is -0.5 (from all of the speech to none of it) to 0.5.

:class:`StateTracker` makes the lasting state of its points: people and programs that look now and
then want to know "angry for five minutes" or "was angry two minutes ago"; the label of a point
changes with a sentence.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable

from msgspec import UNSET
from msgspec.structs import replace

from ser_engine.frames import samples_to_s
from ser_engine.schema import (
    Gap,
    GapReason,
    LastingState,
    Point,
    Segment,
    Shares,
    Whole,
    rounded,
)

QUARTERS = 4
_SILENCE, _MISSING, _LEFT_OUT, _UNCLEAR = range(4)
_FIRST_LABEL = 4
_SILENT_REASONS = ("silence", "tone", "music", "too_short")

STATE_SPEECH_S = 30.0
"""Speech that a state is made of: with its pauses half a minute to a minute of a conversation."""
_ENOUGH_SPEECH_S = 6.0
_BEGINS_AT, _HOLDS_AT = 0.6, 0.4


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
        """Add what lasts from the end of the last tile to ``end_sample``."""
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
            if reason == "left_out":
                return _LEFT_OUT
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
            left_out=rounded(samples[_LEFT_OUT] / total) if samples[_LEFT_OUT] else UNSET,
        )


def whole_of(tiles: Iterable[Segment | Gap]) -> Whole | None:
    """Return the whole of the segments and gaps of a channel, in any order."""
    course = Course()
    for tile in sorted(tiles, key=lambda each: each.start_sample):
        course.take(tile)
    return course.whole()


class StateTracker:
    """Follows one channel.

    A label becomes the state when it has 60 % of the last 30 s of speech (or of 6 s and more, as
    long as there was less), and stays so down to 40 %; below that another label, or
    none, is the state. It began where the oldest speech of it that counts lies. Silence changes
    nothing.

    Attributes:
        state: as of the last point.
    """

    def __init__(self) -> None:
        self.state = LastingState()
        self._points: deque[tuple[str | None, float, float]] = deque()  # label, start, speech, s
        self._speech_s: dict[str | None, float] = {}

    def point(self, point: Point) -> LastingState:
        """Take the next point; return the state."""
        speech_s = (point.end_s - point.start_s) * point.speech_share
        self._points.append((point.label, point.start_s, speech_s))
        self._speech_s[point.label] = self._speech_s.get(point.label, 0.0) + speech_s
        total_s = math.fsum(self._speech_s.values())
        # The oldest point goes only if the others have enough without it.
        while total_s - self._points[0][2] > STATE_SPEECH_S:
            label, _, oldest_s = self._points.popleft()
            self._speech_s[label] -= oldest_s
            total_s -= oldest_s
        state = self.state
        if state.label is not None:
            if self._share(state.label, total_s) >= _HOLDS_AT:
                return state
            state = LastingState(before=state.label, before_until_s=round(point.start_s, 2))
        best = max(self._speech_s, key=self._speech_s.__getitem__)
        is_long = total_s >= _ENOUGH_SPEECH_S
        if best is not None and is_long and self._share(best, total_s) >= _BEGINS_AT:
            since_s = next(start_s for label, start_s, _ in self._points if label == best)
            state = replace(state, label=best, since_s=round(since_s, 2))
        self.state = state
        return state

    def _share(self, label: str, total_s: float) -> float:
        return self._speech_s.get(label, 0.0) / total_s if total_s else 0.0
