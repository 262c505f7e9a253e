"""Grouping vectors of voices without knowing how many voices there are.

The two groups that are most alike become one, again and again, while their vectors' mean cosine is
above a threshold: agglomerative clustering with average linkage. A group is the sum of its vectors
and their number, for the mean cosine of two groups is the dot product of their sums over the
product of their numbers. So it does not matter when groups are merged, and an hour takes no more
memory than a few minutes: beyond :data:`_MOST_GROUPS` the most alike are merged at once.
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
import numpy.typing as npt

from ser_engine.types import FloatArray

_MOST_GROUPS = 800
"""Of vectors 0.75 s apart, 10 minutes of speech."""
_MOST_LIVE_GROUPS = 64
"""While people speak, all are grouped for every vector: that takes 2 ms of these."""


class Clustering:
    """Groups of vectors that come one by one.

    Args:
        threshold: smallest mean cosine of the vectors of two groups that become one, −1 to 1.
        max_groups: where more are left, the most alike become one, however little that is.
    """

    def __init__(self, threshold: float, max_groups: int) -> None:
        self._threshold = threshold
        self._max_groups = max_groups
        self._sums: list[npt.NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._group_of: list[int] = []  # of each vector, an index of the two lists

    def add(self, vector: FloatArray) -> None:
        """Take the next vector, of length 1."""
        self._group_of.append(len(self._sums))
        self._sums.append(vector.astype(np.float64))
        self._counts.append(1)
        if len(self._sums) > _MOST_GROUPS:
            # With a threshold of 1 the number of groups alone decides when to stop.
            self._become(_merged(self._sums, self._counts, 1.0, _MOST_GROUPS // 2))

    def groups(self, smallest: int) -> list[int]:
        """Return the group of each vector, numbered in the order of their first.

        Args:
            smallest: groups of fewer vectors join their nearest; the largest group stays.
        """
        into = _merged(self._sums, self._counts, self._threshold, self._max_groups)
        into = self._without_small(into, smallest)
        numbers: dict[int, int] = {}
        return [numbers.setdefault(into[group], len(numbers)) for group in self._group_of]

    def _become(self, into: list[int]) -> None:
        """Keep merged groups; ``into`` names one of each that become one."""
        kept = sorted(set(into))
        place = {group: index for index, group in enumerate(kept)}
        sums, counts = self._totals(into)
        self._sums = [sums[group] for group in kept]
        self._counts = [counts[group] for group in kept]
        self._group_of = [place[into[group]] for group in self._group_of]

    def _totals(self, into: list[int]) -> tuple[dict[int, npt.NDArray[np.float64]], dict[int, int]]:
        sums: dict[int, npt.NDArray[np.float64]] = {}
        counts: dict[int, int] = {}
        for total, count, group in zip(self._sums, self._counts, into, strict=True):
            sums[group] = sums.get(group, 0) + total
            counts[group] = counts.get(group, 0) + count
        return sums, counts

    def _without_small(self, into: list[int], smallest: int) -> list[int]:
        sums, counts = self._totals(into)
        large = [group for group in sums if counts[group] >= smallest]
        # In a short recording all may be small: then the largest stays.
        large = large or sorted(counts, key=lambda group: -counts[group])[:1]
        nearest = {
            group: group
            if group in large
            else max(large, key=lambda each: float(sums[group] @ sums[each]) / counts[each])
            for group in sums
        }
        return [nearest[group] for group in into]


def _merged(
    sums: list[npt.NDArray[np.float64]], counts: list[int], threshold: float, most: int
) -> list[int]:
    """Return for each group the one it becomes part of, the older of two being kept.

    Groups are merged down to ``most``, and further while two are as alike as ``threshold``.
    """
    into = list(range(len(sums)))
    if len(sums) < 2:
        return into
    vectors, sizes = np.array(sums), np.array(counts, dtype=np.float64)
    # The mean cosine of all pairs, for the vectors have length 1.
    alike = vectors @ vectors.T / np.outer(sizes, sizes)
    np.fill_diagonal(alike, -np.inf)
    best, best_of = alike.max(axis=1), alike.argmax(axis=1)
    for left in range(len(sums), 1, -1):
        # The best of each row is kept up to date, so that no round looks through the whole matrix.
        first = int(best.argmax())
        if best[first] < threshold and left <= most:
            break
        kept, gone = sorted((first, int(best_of[first])))
        into[gone] = kept
        # Average linkage (Lance and Williams): the new mean is that of both, by their numbers.
        share = sizes[kept] / (sizes[kept] + sizes[gone])
        row = share * alike[kept] + (1 - share) * alike[gone]
        row[[kept, gone]] = -np.inf
        sizes[kept] += sizes[gone]
        alike[kept] = alike[:, kept] = row
        alike[gone] = alike[:, gone] = -np.inf
        # Rows whose best was one of the two look again; others may like the new one better.
        stale = np.flatnonzero((best_of == kept) | (best_of == gone))
        stale = np.union1d(stale, [kept, gone])
        best[stale], best_of[stale] = alike[stale].max(axis=1), alike[stale].argmax(axis=1)
        better = row > best
        best[better], best_of[better] = row[better], kept
    return [_root(into, group) for group in range(len(into))]


def _root(into: list[int], group: int) -> int:
    while into[group] != group:
        group = into[group]
    return group


class LiveVoices:
    """Numbers voices while vectors come; a number that was given is never taken back.

    At each question all that was heard so far is grouped as a recording's vectors are. A group has
    the number that most of its vectors were given, so a voice keeps its own as groups change. Of
    vectors that were heard long ago only sums are left, :data:`_MOST_LIVE_GROUPS` at most.

    Args:
        threshold: smallest mean cosine of the vectors of two groups that are one voice.
        max_voices: of more, the most alike are one.
        smallest: vectors that make a new voice; the first voice needs one.

    Attributes:
        same_as: by number of a voice that turned out to be another one: the number of that.
    """

    def __init__(self, threshold: float, max_voices: int, smallest: int) -> None:
        self.same_as: dict[int, int] = {}
        self._threshold = threshold
        self._max_voices = max_voices
        self._smallest = smallest
        self._sums: list[npt.NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._given: list[Counter[int]] = []  # of each group, the numbers that were given
        self._waiting: deque[int] = deque()  # groups of the vectors that have no number yet
        self._num_voices = 0

    def add(self, vector: FloatArray) -> None:
        """Take the next vector, of length 1."""
        self._waiting.append(len(self._sums))
        self._sums.append(vector.astype(np.float64))
        self._counts.append(1)
        self._given.append(Counter())
        if len(self._sums) > _MOST_LIVE_GROUPS:
            self._shrink()

    def next_voice(self) -> int | None:
        """Return the number of the oldest vector without one, from 0; None: it is not known."""
        into = _merged(self._sums, self._counts, self._threshold, self._max_voices)
        sizes: Counter[int] = Counter()
        given: dict[int, Counter[int]] = {}
        for group, count, numbers in zip(into, self._counts, self._given, strict=True):
            sizes[group] += count
            given.setdefault(group, Counter()).update(numbers)
        voices = self._voices_of(given)
        self._notice_same(given, voices)
        micro = self._waiting.popleft()
        group = into[micro]
        if group not in voices:
            is_room = self._num_voices < self._max_voices
            # The first piece of a stream cannot wait for more of its voice: it is the first voice.
            if not self._num_voices or (is_room and sizes[group] >= self._smallest):
                voices[group] = self._num_voices
                self._num_voices += 1
            else:
                return None
        self._given[micro][voices[group]] += 1
        return voices[group]

    def _voices_of(self, given: dict[int, Counter[int]]) -> dict[int, int]:
        """Return the number of each group that has one; each number is one group's."""
        claims = [
            (count, -number, -group)
            for group, numbers in given.items()
            for number, count in numbers.items()
        ]
        voices: dict[int, int] = {}
        taken: set[int] = set()
        # The largest claim first, so that a voice stays with most of what it was given for; among
        # equal ones the older number, then the older group.
        for _, number, group in sorted(claims, reverse=True):
            if -group not in voices and -number not in taken:
                voices[-group] = -number
                taken.add(-number)
        return voices

    def _notice_same(self, given: dict[int, Counter[int]], voices: dict[int, int]) -> None:
        self.same_as = {
            number: voice
            for group, numbers in given.items()
            for number in numbers
            if (voice := voices.get(group, number)) != number and number not in voices.values()
        }

    def _shrink(self) -> None:
        into = _merged(self._sums, self._counts, 1.0, _MOST_LIVE_GROUPS // 2)
        kept = sorted(set(into))
        place = {group: index for index, group in enumerate(kept)}
        sums = [np.zeros_like(self._sums[0]) for _ in kept]
        counts, given = [0] * len(kept), [Counter[int]() for _ in kept]
        for index, group in enumerate(into):
            sums[place[group]] += self._sums[index]
            counts[place[group]] += self._counts[index]
            given[place[group]].update(self._given[index])
        self._sums, self._counts, self._given = sums, counts, given
        self._waiting = deque(place[into[group]] for group in self._waiting)
