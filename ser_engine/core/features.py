"""Local features of windows, computed anew only where that is needed.

Successive windows of a stream share most of their audio, and a local feature depends on 400
samples only. What is in the way of keeping it is the window's normalisation, which moves with the
window; :mod:`ser_engine.models.normalisation` tells from the samples how much a move shows. A
kept feature is used while that stays within a tolerance, and computed again under the present
normalisation when it does not. The frames that need it lie in pauses.

::

    window    |------kept frames------------------|--new--|
    computed        [run]          [run]          [  run  ]

With tolerance 0 every frame whose normalisation moved at all is computed again, and each window
is exact. A network that takes samples as they are has no normalisation: of each window only the
new frames are computed, at its end.

The runs to compute are laid end to end in rows, so that one pass of the local stage computes them.
Each run reads 80 samples beyond its last slot of 320; one slot is left free behind it for those::

    window   ......aaaa............bb..................cccccccc
    row      aaaa_bb_cccccccc_                                   in a bucket of frames
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ser_engine.core.runtimes import Runtime, group_by_length
from ser_engine.frames import HOP_SAMPLES, num_frames, span_samples
from ser_engine.models.normalisation import (
    FirstLayer,
    Normalisation,
    deviation,
    normalisation_of,
)
from ser_engine.types import FloatArray

# Runs of frames this close are computed as one: the frame between is as cheap as the seam.
_MERGE_GAP_FRAMES = 1


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
            # One slot free: a frame reads 400 samples, 80 of them behind its slot of 320.
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


StoreKey = tuple[str, int]
"""A stream's key and the shift of the pass in samples: 0, or 160 for the second one."""


Prints = npt.NDArray[np.uint64]
"""One number for each :data:`PRINT_SAMPLES` of a window."""

PRINT_SAMPLES = 80
"""Hops and what frames read are multiples of it."""


def prints_of(samples: FloatArray) -> Prints:
    """Return numbers of ``(samples,)`` by which the same audio is known again.

    They take 6 KB a window instead of 256 KB. That others have the same number has a chance of 1 in
    2**64.
    """
    count = len(samples) // PRINT_SAMPLES
    words = np.ascontiguousarray(samples[: count * PRINT_SAMPLES]).view(np.uint64)
    # So that no bit of a sample is only in the highest one, where two would cancel each other.
    mixed = words * _MIXER
    mixed ^= mixed >> np.uint64(32)
    prints: Prints = mixed.reshape(count, -1) @ _WEIGHTS
    return prints


_MIXER = np.uint64(0x9E3779B97F4A7C15)
_WEIGHTS = np.random.default_rng(0).integers(1 << 63, size=PRINT_SAMPLES // 2, dtype=np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class KeptWindow:
    """The local features of a window.

    Attributes:
        prints: of its samples.
        start_sample: index of the first one on the stream's clock.
        features: (frames, dim), on the runtime's device.
        used: what each frame was normalised with, (frames,); None: it was not.
    """

    prints: Prints
    start_sample: int
    features: Tensor
    used: Normalisation | None

    @property
    def num_bytes(self) -> int:
        """Memory this holds."""
        used = () if self.used is None else (self.used.mean, self.used.scale)
        num_bytes: int = self.prints.nbytes
        for tensor in (self.features, *used):
            num_bytes += tensor.numel() * tensor.element_size()
        return num_bytes

    def frames_shared(self, prints: Prints, start_sample: int) -> tuple[int, int]:
        """Return how many frames a window has in common with this one, and the first of them.

        The frames are the window's first; the number of the first is that in this window.
        """
        offset = start_sample - self.start_sample
        # Frames lie on a grid of hops from the window's start: any other offset shares none.
        if offset < 0 or offset % HOP_SAMPLES:
            return 0, 0
        first = offset // PRINT_SAMPLES
        kept = self.prints[first : first + len(prints)]
        # Samples are compared, the clock is not trusted: a key may come back with other audio, and
        # a window that was skipped, or audio that was lost, changes what lies at a place.
        if not np.array_equal(kept, prints[: len(kept)]):
            return 0, 0
        return num_frames(len(kept) * PRINT_SAMPLES), offset // HOP_SAMPLES


class FeatureStore:
    """Keeps one window a stream and pass; over its limit, drops the one used longest ago.

    Args:
        max_bytes: memory all windows together may hold; a single one is kept whatever it holds.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._windows: OrderedDict[StoreKey, KeptWindow] = OrderedDict()
        self._num_bytes = 0

    def get(self, key: StoreKey) -> KeptWindow | None:
        """Return what is kept under ``key``."""
        return self._windows.get(key)

    def put(self, key: StoreKey, window: KeptWindow) -> None:
        """Keep a window in place of the one before it."""
        self._drop(key)
        self._windows[key] = window
        self._num_bytes += window.num_bytes
        # The last one stays, however large: dropped at once it would never serve, and be computed
        # whole at every step.
        while self._num_bytes > self._max_bytes and len(self._windows) > 1:
            self._drop(next(iter(self._windows)))

    def forget(self, stream: str) -> None:
        """Drop what is kept of a stream."""
        for key in [key for key in self._windows if key[0] == stream]:
            self._drop(key)

    def _drop(self, key: StoreKey) -> None:
        window = self._windows.pop(key, None)
        if window is not None:
            self._num_bytes -= window.num_bytes


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRequest:
    """One window's samples.

    Attributes:
        samples: float32 (samples,), at least 400, raw.
        start_sample: index of the first sample on the stream's clock.
        stream_key: names the stream whose features may be kept, or None.
    """

    samples: FloatArray
    start_sample: int
    stream_key: StoreKey | None


@dataclass(slots=True)
class FeatureStats:
    """Frames asked for and how they were had.

    Attributes:
        computed: frames that were new.
        refreshed: kept frames that were computed again for a normalisation that had moved.
        reused: kept frames used as they were.
    """

    computed: int = 0
    refreshed: int = 0
    reused: int = 0


@dataclass(slots=True, eq=False)
class _Work:
    """A window in the making.

    Attributes:
        request: the window.
        key: what its features are kept under.
        prints: of its samples.
        samples: its samples on the runtime's device.
        wanted: its normalisation.
        features: (frames, dim), filled in as they are had.
        used: what each frame is normalised with, (frames,).
        needed: bool (frames,), those still to be computed.
    """

    request: FeatureRequest
    key: StoreKey
    prints: Prints
    samples: Tensor
    wanted: Normalisation
    features: Tensor
    used: Normalisation
    needed: Tensor


_Row = tuple[Tensor, list[Placement], Tensor]
"""Features (frames, dim) to be filled in, runs of their frames, and the samples of those runs."""


class FeatureExtractor:
    """Computes local features for windows and keeps those of the streams it has seen.

    Args:
        runtime: what runs the local stage.
        layer: the network's first convolution; None: it takes raw samples, so kept features
            always serve.
        feature_dim: size of a local feature.
        tolerance: largest deviation a kept feature may have, see
            :func:`ser_engine.models.normalisation.deviation`. None: nothing is kept.
        buckets: numbers of frames the local stage is run with: few, as runtimes prepare for each;
            the largest bounds its memory.
        max_bytes: memory for kept features; the stream used longest ago goes first.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        layer: FirstLayer | None,
        feature_dim: int,
        tolerance: float | None,
        buckets: Sequence[int],
        max_bytes: int,
    ) -> None:
        self.stats = FeatureStats()
        self._runtime = runtime
        self._layer = layer
        self._feature_dim = feature_dim
        self._tolerance = tolerance
        self._buckets = sorted({bucket for bucket in buckets if bucket > 0})
        self._store = FeatureStore(max_bytes)

    def extract(self, requests: Sequence[FeatureRequest]) -> list[Tensor]:
        """Return the features (frames, dim) of each window, in order, on the runtime's device."""
        keeping = self._tolerance is not None
        followed = [i for i, request in enumerate(requests) if keeping and request.stream_key]
        single = sorted(set(range(len(requests))) - set(followed))
        features = dict(
            zip(followed, self._incremental([requests[i] for i in followed]), strict=True)
        )
        features.update(zip(single, self._whole([requests[i] for i in single]), strict=True))
        return [features[i] for i in range(len(requests))]

    def warm_up(self) -> None:
        """Run the local stage once in each shape it will be asked for."""
        for bucket in self._buckets:
            self._runtime.local(torch.zeros(1, span_samples(bucket), device=self._runtime.device))

    def forget(self, stream: str) -> None:
        """Drop what is kept of a stream that has ended."""
        self._store.forget(stream)

    def _whole(self, requests: Sequence[FeatureRequest]) -> list[Tensor]:
        """Compute every frame; windows of equal length go through the runtime together."""
        features: dict[int, Tensor] = {}
        for group in group_by_length([request.samples for request in requests]):
            stacked = np.stack([requests[index].samples for index in group])
            samples = torch.from_numpy(stacked).to(self._runtime.device)
            if self._layer is not None:
                samples = normalisation_of(samples).apply(samples)
            frames = num_frames(samples.shape[1])
            self.stats.computed += frames * len(group)
            rows = torch.zeros(len(group), frames, self._feature_dim, device=samples.device)
            for placements in pack([(0, frames)], self._buckets[-1]):
                found = self._runtime.local(self._lay_out(samples, placements))
                _put_back(rows, found, placements)
            features.update(zip(group, rows, strict=True))
        return [features[index] for index in range(len(requests))]

    def _incremental(self, requests: Sequence[FeatureRequest]) -> list[Tensor]:
        """Compute the frames that are new or have moved, and keep the windows for the next."""
        if self._layer is None:
            return self._new_only(requests)
        works = [
            self._plan(request, request.stream_key, self._layer)
            for request in requests
            if request.stream_key
        ]
        self._compute(works)
        for work in works:
            request = work.request
            kept = KeptWindow(work.prints, request.start_sample, work.features, work.used)
            self._store.put(work.key, kept)
        return [work.features for work in works]

    def _new_only(self, requests: Sequence[FeatureRequest]) -> list[Tensor]:
        """The same for a network that takes samples as they are, so that nothing moves.

        In few operations: each gives Python's lock away, and a busy server is slow to give it back.
        """
        device = self._runtime.device
        windows: list[tuple[StoreKey, KeptWindow]] = []
        rows: list[_Row] = []
        for request in requests:
            key, samples = request.stream_key, request.samples
            assert key is not None, "windows without a stream are computed whole"
            prints, kept = prints_of(samples), self._store.get(key)
            frames, shared, first = num_frames(len(samples)), 0, 0
            if kept is not None:
                shared, first = kept.frames_shared(prints, request.start_sample)
            features = torch.empty(frames, self._feature_dim, device=device)
            if kept is not None and shared:
                features[:shared] = kept.features[first : first + shared]
            self.stats.reused += shared
            self.stats.computed += frames - shared
            # A copy: PyTorch warns of arrays that may not be written.
            new = torch.tensor(samples[shared * HOP_SAMPLES :], device=device)
            for placements in pack([(0, frames - shared)], self._buckets[-1]):
                rows.append((features[shared:], placements, self._lay_out(new, placements)))
            windows.append((key, KeptWindow(prints, request.start_sample, features, None)))
        self._run(rows)
        # Not before: what a pass that failed left out must not be taken for features.
        for key, window in windows:
            self._store.put(key, window)
        return [window.features for _, window in windows]

    def _plan(self, request: FeatureRequest, key: StoreKey, layer: FirstLayer) -> _Work:
        device = self._runtime.device
        # A copy: PyTorch warns of arrays that may not be written.
        samples = torch.tensor(request.samples, device=device)
        frames = num_frames(len(samples))
        wanted = normalisation_of(samples)
        work = _Work(
            request,
            key,
            prints_of(request.samples),
            samples,
            wanted,
            torch.zeros(frames, self._feature_dim, device=device),
            Normalisation(wanted.mean.expand(frames).clone(), wanted.scale.expand(frames).clone()),
            torch.ones(frames, dtype=torch.bool, device=device),
        )
        kept = self._store.get(key)
        if kept is None or not self._take_over(work, kept, layer):
            self.stats.computed += frames
        return work

    def _take_over(self, work: _Work, kept: KeptWindow, layer: FirstLayer) -> bool:
        """Fill in kept frames that still serve; False where the windows share no frames."""
        shared, first = kept.frames_shared(work.prints, work.request.start_sample)
        if not shared or kept.used is None:
            return False
        old = slice(first, first + shared)
        used = Normalisation(kept.used.mean[old], kept.used.scale[old])
        moved = deviation(layer, work.samples[: span_samples(shared)], used, work.wanted)
        serves = moved <= (self._tolerance or 0.0)
        work.features[:shared] = kept.features[old]
        work.used.mean[:shared] = torch.where(serves, used.mean, work.wanted.mean)
        work.used.scale[:shared] = torch.where(serves, used.scale, work.wanted.scale)
        work.needed[:shared] = ~serves
        refreshed = shared - int(serves.sum())
        self.stats.reused += shared - refreshed
        self.stats.refreshed += refreshed
        self.stats.computed += len(work.needed) - shared
        return True

    def _compute(self, works: Sequence[_Work]) -> None:
        """Compute the needed frames of all windows."""
        rows: list[_Row] = []
        for work in works:
            normalised = work.wanted.apply(work.samples)
            # Waits for a GPU: which frames have moved decides the shapes of the pass.
            for placements in pack(runs_of(work.needed.cpu().numpy()), self._buckets[-1]):
                rows.append((work.features, placements, self._lay_out(normalised, placements)))
                for placed in placements:
                    work.used.mean[placed.first : placed.stop] = work.wanted.mean
                    work.used.scale[placed.first : placed.stop] = work.wanted.scale
        self._run(rows)

    def _run(self, rows: Sequence[_Row]) -> None:
        """Run the local stage over rows, a batch a bucket, and put back what it gives."""
        for group in group_by_length([row for _, _, row in rows]):
            found = self._runtime.local(torch.stack([rows[index][2] for index in group]))
            for index, computed in zip(group, found, strict=True):
                features, placements, _ = rows[index]
                _put_back(features, computed, placements)

    def _lay_out(self, samples: Tensor, placements: Sequence[Placement]) -> Tensor:
        """Cut the samples of some runs of frames out of (..., samples), laid end to end.

        They are as the network wants them.
        """
        bucket = bucket_of(row_frames(placements), self._buckets)
        row = samples.new_zeros(*samples.shape[:-1], span_samples(bucket))
        for placed in placements:
            length = span_samples(placed.stop - placed.first)
            source, target = placed.first * HOP_SAMPLES, placed.offset * HOP_SAMPLES
            row[..., target : target + length] = samples[..., source : source + length]
        return row


def _put_back(features: Tensor, row: Tensor, placements: Sequence[Placement]) -> None:
    """Copy what was computed in a row (..., frames, dim) to its place in the window."""
    for placed in placements:
        end = placed.offset + placed.stop - placed.first
        features[..., placed.first : placed.stop, :] = row[..., placed.offset : end, :]
