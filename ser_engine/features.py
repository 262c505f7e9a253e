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

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ser_engine.frames import HOP_SAMPLES, num_frames, span_samples
from ser_engine.models.checkpoint import Emotion2vecSizes
from ser_engine.models.compact.sizes import CompactSizes
from ser_engine.normalisation import FirstLayer, Normalisation, deviation, normalisation_of
from ser_engine.runtimes.base import Runtime

__all__ = ["FeatureExtractor", "FeatureRequest", "FeatureStats"]

_MERGE_GAP_FRAMES = 2
"""Runs of frames this close are computed as one: a run's first frame costs as much as two."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRequest:
    """One window's samples.

    Attributes:
        samples: float32 (samples,), at least 400, raw, on the runtime's device.
        start_sample: index of the first sample on the stream's clock.
        stream_key: names the stream whose features may be kept, or None.
    """

    samples: Tensor
    start_sample: int
    stream_key: tuple[str, int] | None


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
class _Kept:
    """The last window of a stream.

    Attributes:
        samples: raw, (samples,).
        start_sample: index of the first one on the stream's clock.
        features: (frames, dim).
        used: what each frame was normalised with, (frames,).
    """

    samples: Tensor
    start_sample: int
    features: Tensor
    used: Normalisation


@dataclass(slots=True, eq=False)
class _Work:
    """A window in the making.

    Attributes:
        request: the window.
        wanted: its normalisation.
        features: (frames, dim), filled in as they are had.
        used: what each frame is normalised with, (frames,).
        needed: bool (frames,), those still to be computed.
    """

    request: FeatureRequest
    wanted: Normalisation
    features: Tensor
    used: Normalisation
    needed: Tensor


class FeatureExtractor:
    """Computes local features for windows and keeps those of the streams it has seen.

    Args:
        runtime: what runs the local stage.
        layer: the network's first convolution; None: its local features depend on samples alone,
            so kept ones always serve.
        sizes: of the network.
        tolerance: largest deviation a kept feature may have, see
            :func:`ser_engine.normalisation.deviation`. None: nothing is kept.
        buckets: numbers of frames the local stage is run with; the largest bounds its memory.
        max_bytes: memory for kept features; the stream used longest ago goes first.
    """

    def __init__(
        self,
        runtime: Runtime,
        layer: FirstLayer | None,
        sizes: Emotion2vecSizes | CompactSizes,
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
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._kept_bytes = 0

    def extract(self, requests: Sequence[FeatureRequest]) -> list[Tensor]:
        """Return the features (frames, dim) of each window, in order."""
        works = [self._plan(request) for request in requests]
        self._compute(works)
        for work in works:
            self._keep(work)
        return [work.features for work in works]

    def warm_up(self) -> None:
        """Run the local stage once in each shape it will be asked for."""
        for bucket in self._buckets:
            self._runtime.local(torch.zeros(1, span_samples(bucket), device=self._runtime.device))

    def forget(self, stream: str) -> None:
        """Drop what is kept of a stream that has ended."""
        for key in [key for key in self._kept if key[0] == stream]:
            self._drop(key)

    def _plan(self, request: FeatureRequest) -> _Work:
        frames = num_frames(len(request.samples))
        device = request.samples.device
        wanted = normalisation_of(request.samples, self._sizes.normalize)
        work = _Work(
            request,
            wanted,
            torch.zeros(frames, self._sizes.feature_dim, device=device),
            Normalisation(wanted.mean.expand(frames).clone(), wanted.scale.expand(frames).clone()),
            torch.ones(frames, dtype=torch.bool, device=device),
        )
        kept = self._kept.get(request.stream_key) if request.stream_key else None
        if kept is None or self._tolerance is None or not self._take_over(work, kept):
            self.stats.computed += frames
        return work

    def _take_over(self, work: _Work, kept: _Kept) -> bool:
        """Fill in kept frames that still serve; False where the windows share no frames."""
        request = work.request
        offset = request.start_sample - kept.start_sample
        if offset < 0 or offset % HOP_SAMPLES:
            return False
        shared_samples = min(len(kept.samples) - offset, len(request.samples))
        shared = num_frames(shared_samples)
        if not shared or not torch.equal(
            kept.samples[offset : offset + shared_samples], request.samples[:shared_samples]
        ):
            return False
        first = offset // HOP_SAMPLES
        old = slice(first, first + shared)
        used = Normalisation(kept.used.mean[old], kept.used.scale[old])
        serves = torch.ones_like(used.mean, dtype=torch.bool)
        if self._layer is not None:
            moved = deviation(self._layer, request.samples[:shared_samples], used, work.wanted)
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
            rows = torch.stack([_normalised(work, start, bucket) for work, start in pieces])
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

    def _keep(self, work: _Work) -> None:
        key = work.request.stream_key
        if key is None or self._tolerance is None:
            return
        self._drop(key)
        kept = _Kept(work.request.samples, work.request.start_sample, work.features, work.used)
        self._kept[key] = kept
        self._kept_bytes += _bytes_of(kept)
        while self._kept_bytes > self._max_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, int]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._kept_bytes -= _bytes_of(kept)


def _normalised(work: _Work, first: int, frames: int) -> Tensor:
    start, length = first * HOP_SAMPLES, span_samples(frames)
    samples = work.request.samples[start : start + length].double()
    scaled = ((samples - work.wanted.mean) * work.wanted.scale).float()
    return F.pad(scaled, (0, length - len(scaled)))


def _runs(needed: np.ndarray) -> list[tuple[int, int]]:
    """Return [first, stop) of each run of True, runs with small gaps joined."""
    runs: list[tuple[int, int]] = []
    for index in np.flatnonzero(needed).tolist():
        if runs and index - runs[-1][1] <= _MERGE_GAP_FRAMES:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _bytes_of(kept: _Kept) -> int:
    tensors = (kept.samples, kept.features, kept.used.mean, kept.used.scale)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
