"""``python -m training.stats``: what the head sees of each scene, at some of its frames.

The head of the standard model sees frames through statistics of the frames about them
(:func:`ser_engine.models.standard.statistics`). A scene is therefore kept as those of a
dozen of its frames, which is a twentieth of it, and a head trains on it in seconds.

With ``--whisper``, whole clips too, as they were recorded, pauses at their ends left in: the
corpora ``emodb_clips`` and so on of :mod:`training.head`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ser_engine.models.standard import StandardSizes, levelled, statistics
from training.clips import data_dir, read_clip
from training.corpora import read_corpus
from training.progress import Progress
from training.scenes import _loud, target_of
from training.shards import frozen_network, load_shard

FRAMES_A_SCENE = 8
_CLIP_CORPORA = ("emodb", "ravdess", "nemo_pl")
_LONGEST_CLIP_SAMPLES = 96_000


def write_stats(path: Path, source: str = "top") -> None:
    """Write ``stats.npz`` of a shard.

    near: float16 (scenes, 8, 1024) at frames of speech evenly apart, of each part where a scene
    changes; whole: float16 (scenes, 1024); second: bool (scenes, 8), which lie in the second part;
    the first and second targets, corpus and speaker of the scene.
    """
    shard = load_shard(path)
    span = StandardSizes().span_frames
    starts = np.concatenate([[0], np.cumsum(shard.frames)])
    uppers = np.concatenate([[0], np.cumsum((shard.frames + 1) // 2)])
    frames_of = getattr(shard, source)
    near_rows, whole_rows, seconds = [], [], []
    with torch.inference_mode():
        for index, count in enumerate(shard.frames):
            frames = torch.tensor(
                np.array(frames_of[uppers[index] : uppers[index + 1]]), dtype=torch.float32
            )[None]
            loudness = torch.tensor(
                np.array(shard.loudness[starts[index] : starts[index + 1]])
            ).float()
            near, whole = statistics(frames, loudness[None], span)
            speech = np.flatnonzero(shard.speech[starts[index] : starts[index + 1]])
            if not len(speech):
                speech = np.arange(count)
            chosen = speech[np.linspace(0, len(speech) - 1, FRAMES_A_SCENE).round().astype(int)]
            near_rows.append(near[0, chosen // 2].half().numpy())
            whole_rows.append(whole[0, 0].half().numpy())
            seconds.append(chosen >= shard.change[index])
    np.savez(
        path / "stats.partial.npz",
        near=np.stack(near_rows),
        whole=np.stack(whole_rows),
        second=np.stack(seconds),
        first_target=shard.first,
        second_target=shard.second,
        speaker=shard.speaker,
    )
    (path / "stats.partial.npz").rename(path / "stats.npz")


def write_clips(path: Path, corpus: str, data: Path, whisper: Path) -> None:
    """Write ``stats.npz`` of the whole training clips of a corpus into a folder.

    Classes are made as frequent as each other by repeating clips.
    """
    model = frozen_network(whisper)
    near_rows, whole_rows, targets, speakers = [], [], [], []
    with torch.inference_mode():
        for clip in Progress(read_corpus(data, corpus), f"clips of {corpus}"):
            samples = read_clip(clip)[:_LONGEST_CLIP_SAMPLES]
            local = model.local(torch.from_numpy(samples)[None])
            mel, loudness = levelled(model.context.log_mel(local), None)
            frames = model.context.encoder(mel, None)
            near, whole = statistics(frames, loudness, StandardSizes().span_frames)
            speech = np.flatnonzero(_loud(samples))
            if not len(speech):
                continue
            chosen = speech[np.linspace(0, len(speech) - 1, FRAMES_A_SCENE).round().astype(int)]
            near_rows.append(near[0, chosen // 2].half().numpy())
            whole_rows.append(whole[0, 0].half().numpy())
            targets.append(target_of(clip.emotion))
            speakers.append(clip.speaker)
    classes = np.stack(targets).argmax(axis=1)
    most = np.bincount(classes).max()
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [
            np.resize(rng.permutation(np.flatnonzero(classes == each)), most)
            for each in np.unique(classes)
        ]
    )
    path.mkdir(parents=True, exist_ok=True)
    np.savez(
        path / "stats.npz",
        near=np.stack(near_rows)[rows],
        whole=np.stack(whole_rows)[rows],
        second=np.zeros((len(rows), FRAMES_A_SCENE), bool),
        first_target=np.stack(targets)[rows],
        second_target=np.stack(targets)[rows],
        speaker=np.array(speakers)[rows],
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.stats", description=__doc__)
    parser.add_argument("--shards", type=Path, default=Path("results/training/shards"))
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--whisper", type=Path, help="CTranslate2 model.bin: whole clips too")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    for corpus in _CLIP_CORPORA if given.whisper else ():
        folder = given.shards / f"{corpus}_clips_000"
        if not folder.exists():
            write_clips(folder, corpus, given.data, given.whisper)
    paths = [p for p in sorted(given.shards.glob("*_[0-9][0-9][0-9]")) if (p / "top.npy").exists()]
    for path in Progress([p for p in paths if not (p / "stats.npz").exists()], "stats"):
        write_stats(path)


if __name__ == "__main__":
    main()
