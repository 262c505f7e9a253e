"""Batches of equally long scenes, drawn from shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.scenes import LENGTHS
from training.shards import Shard, load_shard

_LENGTH_SHARES = (0.4, 0.2, 0.28, 0.12)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Scenes of one length.

    Attributes:
        frozen: float32 (batch, frames of the upper layers, 512).
        top: the same after all layers as they were published.
        compact: float32 (batch, frames, 112).
        loudness: float32 (batch, frames).
        speech: bool (batch, frames).
        first: float32 (batch, classes), right up to ``change``.
        second: float32 (batch, classes), right from there on.
        change: int64 (batch,).
        corpora: of each row.
        keys: (shard, scene) of each row.
        frames: of each row.
    """

    frozen: Tensor
    top: Tensor
    compact: Tensor
    loudness: Tensor
    speech: Tensor
    first: Tensor
    second: Tensor
    change: Tensor
    corpora: list[str]
    keys: list[tuple[str, int]]
    frames: int


class ShardSource:
    """Draws batches; the same step gives the same batch while the shards stay the same.

    Corpora are drawn as often as ``shares`` says, those without shards and the speakers ``without``
    never; ``only`` from shards of these names, None: from all.
    """

    def __init__(
        self,
        folder: Path,
        shares: Mapping[str, float],
        without: frozenset[str],
        *,
        seed: int,
        only: frozenset[str] | None = None,
    ) -> None:
        self._seed = seed
        self._shards: dict[str, Shard] = {}
        self._starts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._upper: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._scenes: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for path in sorted(folder.glob("*_[0-9][0-9][0-9]")):
            corpus = path.name.rpartition("_")[0]
            if corpus not in shares or not (path / "top.npy").exists():
                continue
            if only is not None and path.name not in only:
                continue
            shard = load_shard(path)
            self._shards[path.name] = shard
            self._starts[path.name], self._upper[path.name] = shard.starts()
            for scene, (frames, speaker) in enumerate(
                zip(shard.frames, shard.speaker, strict=True)
            ):
                if str(speaker) not in without:
                    place = (corpus, int(frames))
                    self._scenes.setdefault(place, []).append((path.name, scene))
        self._corpora = sorted({corpus for corpus, _ in self._scenes})
        if not self._corpora:
            raise ValueError(f"got no shards in {folder}, expected those of training.shards")
        weights = np.array([shares[corpus] for corpus in self._corpora])
        self._shares = weights / weights.sum()

    def batch(self, step: int, size: int) -> Batch:
        """Return the batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        frames = int(rng.choice(LENGTHS, p=_LENGTH_SHARES))
        corpora = [
            self._corpora[i] for i in rng.choice(len(self._corpora), size=size, p=self._shares)
        ]
        keys = []
        for corpus in corpora:
            scenes = self._scenes[corpus, frames]
            keys.append(scenes[rng.integers(len(scenes))])
        return self.rows(keys, corpora, frames)

    def rows(self, keys: list[tuple[str, int]], corpora: list[str], frames: int) -> Batch:
        """Return given scenes, all of ``frames`` frames."""
        upper = (frames + 1) // 2

        def cut(name: str, start: dict[str, np.ndarray], length: int) -> Tensor:
            rows = [
                getattr(self._shards[shard], name)[start[shard][scene] :][:length]
                for shard, scene in keys
            ]
            return torch.from_numpy(np.stack(rows))

        def facts(name: str) -> Tensor:
            rows = [getattr(self._shards[shard], name)[scene] for shard, scene in keys]
            return torch.from_numpy(np.stack(rows))

        return Batch(
            frozen=cut("frozen", self._upper, upper).float(),
            top=cut("top", self._upper, upper).float(),
            compact=cut("compact", self._starts, frames).float(),
            loudness=cut("loudness", self._starts, frames).float(),
            speech=cut("speech", self._starts, frames),
            first=facts("first"),
            second=facts("second"),
            change=facts("change"),
            corpora=corpora,
            keys=keys,
            frames=frames,
        )
