"""Local features of windows, computed anew only where that is needed.

Successive windows of a stream share most of their audio, and a local feature depends on 400
samples only. What is in the way of keeping it is the window's normalisation, which moves with the
window; :mod:`ser_engine.normalisation` tells from the samples how much a move shows. A kept
feature is used while that stays within a tolerance, and computed again under the present
normalisation when it does not. In speech few frames need it; they lie in pauses.

::

    window   |------kept frames------------------|--new--|
    compute        [run]          [run]          [  run  ]     runs, cut into buckets of frames

With tolerance 0 every frame whose normalisation moved at all is computed again, and each window
is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ser_engine.feature_store import FeatureStore, KeptWindow, StoreKey
from ser_engine.frames import HOP_SAMPLES, num_frames, span_samples
from ser_engine.models.checkpoint import Emotion2vecSizes
from ser_engine.normalisation import FirstLayer, Normalisation, deviation, normalisation_of
from ser_engine.runtimes.base import Runtime, group_by_length
from ser_engine.types import FloatArray

__all__ = ["FeatureExtractor", "FeatureRequest", "FeatureStats"]

_MERGE_GAP_FRAMES = 2
"""Runs of frames this close are computed as one: a run's first frame costs as much as two."""


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
        samples: its samples on the runtime's device.
        wanted: its normalisation.
        features: (frames, dim), filled in as they are had.
        used: what each frame is normalised with, (frames,).
        needed: bool (frames,), those still to be computed.
    """

    request: FeatureRequest
    key: StoreKey
    samples: Tensor
    wanted: Normalisation
    features: Tensor
    used: Normalisation
    needed: Tensor


class FeatureExtractor:
    """Computes local features for windows and keeps those of the streams it has seen.

    Args:
        runtime: what runs the local stage.
        layer: the network's first convolution.
        sizes: of the network.
        tolerance: largest deviation a kept feature may have, see
            :func:`ser_engine.normalisation.deviation`. None: nothing is kept.
        buckets: numbers of frames the local stage is run with; the largest bounds its memory.
        max_bytes: memory for kept features; the stream used longest ago goes first.
    """

    def __init__(
        self,
        runtime: Runtime,
        layer: FirstLayer,
        sizes: Emotion2vecSizes,
        *,
        tolerance: float | None,
        buckets: Sequence[int],
        max_bytes: int,
    ) -> None:
        self.stats = FeatureStats()
        self._runtime = runtime
        self._layer = layer
        self._sizes = sizes
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
            wanted = normalisation_of(samples, self._sizes.normalize)
            frames = num_frames(samples.shape[1])
            self.stats.computed += frames * len(group)
            rows = torch.zeros(len(group), frames, self._sizes.embed_dim, device=samples.device)
            for first, bucket in self._pieces(0, frames, frames):
                found = self._runtime.local(_normalised(samples, wanted, first, bucket))
                stop = min(first + bucket, frames)
                rows[:, first:stop] = found[:, : stop - first]
            features.update(zip(group, rows, strict=True))
        return [features[index] for index in range(len(requests))]

    def _incremental(self, requests: Sequence[FeatureRequest]) -> list[Tensor]:
        """Compute the frames that are new or have moved, and keep the windows for the next."""
        works = [
            self._plan(request, request.stream_key) for request in requests if request.stream_key
        ]
        self._compute(works)
        for work in works:
            request = work.request
            kept = KeptWindow(work.samples, request.start_sample, work.features, work.used)
            self._store.put(work.key, kept)
        return [work.features for work in works]

    def _plan(self, request: FeatureRequest, key: StoreKey) -> _Work:
        device = self._runtime.device
        # A copy: the caller may go on writing into its array.
        samples = torch.tensor(request.samples, device=device)
        frames = num_frames(len(samples))
        wanted = normalisation_of(samples, self._sizes.normalize)
        work = _Work(
            request,
            key,
            samples,
            wanted,
            torch.zeros(frames, self._sizes.embed_dim, device=device),
            Normalisation(wanted.mean.expand(frames).clone(), wanted.scale.expand(frames).clone()),
            torch.ones(frames, dtype=torch.bool, device=device),
        )
        kept = self._store.get(key)
        if kept is None or not self._take_over(work, kept):
            self.stats.computed += frames
        return work

    def _take_over(self, work: _Work, kept: KeptWindow) -> bool:
        """Fill in kept frames that still serve; False where the windows share no frames."""
        samples = work.samples
        offset = work.request.start_sample - kept.start_sample
        if offset < 0 or offset % HOP_SAMPLES:
            return False
        shared_samples = min(len(kept.samples) - offset, len(samples))
        shared = num_frames(shared_samples)
        if not shared or not torch.equal(
            kept.samples[offset : offset + shared_samples], samples[:shared_samples]
        ):
            return False
        first = offset // HOP_SAMPLES
        old = slice(first, first + shared)
        used = Normalisation(kept.used.mean[old], kept.used.scale[old])
        moved = deviation(self._layer, samples[:shared_samples], used, work.wanted)
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
        """Run the local stage over the needed frames of all windows, a batch a bucket."""
        batches: dict[int, list[tuple[_Work, int]]] = {}
        for work in works:
            for first, stop in _runs(work.needed.cpu().numpy()):
                for start, bucket in self._pieces(first, stop, len(work.needed)):
                    batches.setdefault(bucket, []).append((work, start))
        for bucket, pieces in batches.items():
            rows = torch.stack(
                [_normalised(work.samples, work.wanted, start, bucket) for work, start in pieces]
            )
            for (work, start), features in zip(pieces, self._runtime.local(rows), strict=True):
                stop = min(start + bucket, len(work.needed))
                work.features[start:stop] = features[: stop - start]
                work.used.mean[start:stop] = work.wanted.mean
                work.used.scale[start:stop] = work.wanted.scale

    def _pieces(self, first: int, stop: int, frames: int) -> list[tuple[int, int]]:
        """Cover frames [first, stop) of a window by pieces (start, bucket).

        Pieces stay within a window that is long enough, so that the frames computed beside the
        needed ones are real ones too.
        """
        pieces = []
        while first < stop:
            bucket = next((b for b in self._buckets if b >= stop - first), self._buckets[-1])
            start = max(0, min(first, frames - bucket))
            pieces.append((start, bucket))
            first = start + bucket
        return pieces


def _normalised(samples: Tensor, wanted: Normalisation, first: int, frames: int) -> Tensor:
    """Cut the samples of some frames out of windows (..., samples) and normalise them."""
    start, length = first * HOP_SAMPLES, span_samples(frames)
    cut = samples[..., start : start + length].double()
    scaled = ((cut - wanted.mean[..., None]) * wanted.scale[..., None]).float()
    return F.pad(scaled, (0, length - scaled.shape[-1]))


def _runs(needed: np.ndarray) -> list[tuple[int, int]]:
    """Return [first, stop) of each run of True, runs with small gaps joined."""
    runs: list[tuple[int, int]] = []
    for index in np.flatnonzero(needed).tolist():
        if runs and index - runs[-1][1] <= _MERGE_GAP_FRAMES:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
