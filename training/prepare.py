"""``python -m training.prepare``: decode, augment and describe every training clip, once.

Writes one folder that training reads. Each clip of the training speakers is rendered several
times (:mod:`training.augment`); rendering 0 is the recording itself. Nothing of the validation
speakers is read. Can be stopped and started again: renderings that are there are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ser_engine.models.compact import CompactSizes
from ser_engine.models.compact.front_end import NUM_MELS, FrontEnd
from training.augment import Augmenter
from training.clips import Clip, FloatArray, data_dir, read_clip, read_clips
from training.progress import Progress

_NOISE_CLIPS, _NOISE_SAMPLES = 400, 5 * 16_000
_TRIM = 9.2
"""Frames more than 40 dB below the loud ones are silence; in natural logarithms of power."""


def describe(front_end: FrontEnd, samples: FloatArray) -> FloatArray:
    """Return the features of samples (samples,), float16 (frames, 112)."""
    with torch.inference_mode():
        features = front_end(torch.from_numpy(samples)[None])[0]
    result: FloatArray = features.numpy().astype(np.float16)
    return result


def prepare(data: Path, out: Path, renderings: int, seed: int, limit: int | None = None) -> None:
    """Write the folder ``out``. ``limit``: only so many clips, for a try."""
    clips = read_clips(data, "train")[:limit]
    out.mkdir(parents=True, exist_ok=True)
    front_end = FrontEnd()
    recordings = [_levelled(read_clip(clip)) for clip in Progress(clips, "decode")]
    augmenter = Augmenter(data / "impulse-responses", recordings[::7])
    for number in range(renderings):
        target = out / f"rendering_{number}.npz"
        if target.exists():
            continue
        rendered = []
        for index, samples in enumerate(Progress(recordings, f"rendering {number}")):
            rng = np.random.default_rng([seed, number, index])
            version = samples if number == 0 else augmenter.render(samples, rng)
            rendered.append(describe(front_end, version))
        _save(target, rendered)
    if not (out / "noise.npz").exists():
        rngs = [np.random.default_rng([seed, 10_000, i]) for i in range(_NOISE_CLIPS)]
        made = [augmenter.background(_NOISE_SAMPLES, rng) for rng in Progress(rngs, "noise")]
        _save(out / "noise.npz", [describe(front_end, samples) for samples in made])
    (out / "clips.json").write_text(json.dumps([_facts(clip) for clip in clips]))


def _levelled(samples: FloatArray) -> FloatArray:
    """Bring a recording to -26 dBFS: one of the corpora is 15 dB quieter than the others."""
    return samples * np.float32(0.05 / (np.sqrt(np.mean(samples**2)) + 1e-6))


def _save(target: Path, rendered: list[FloatArray]) -> None:
    bounds = [_speech_bounds(features) for features in rendered]
    partial = target.with_suffix(".partial.npz")
    np.savez(
        partial,
        features=np.concatenate(rendered),
        lengths=np.array([len(features) for features in rendered], dtype=np.int64),
        bounds=np.array(bounds, dtype=np.int64),
    )
    partial.rename(target)


def _speech_bounds(features: FloatArray) -> tuple[int, int]:
    """Return [first, stop) of the frames between the first and the last loud one."""
    energy = np.logaddexp.reduce(features[:, :NUM_MELS].astype(np.float32), axis=1)
    loud = np.flatnonzero(energy > np.quantile(energy, 0.95) - _TRIM)
    return max(0, int(loud[0]) - 2), min(len(energy), int(loud[-1]) + 3)


def _facts(clip: Clip) -> dict[str, str]:
    return {"corpus": clip.corpus, "speaker": clip.speaker, "emotion": clip.emotion}


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.prepare", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--out", type=Path, default=Path("results/training/prepared"))
    parser.add_argument("--renderings", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    prepare(given.data, given.out, given.renderings, given.seed, given.limit)
    print(
        f"{given.out}: {CompactSizes().feature_dim} features a frame, {given.renderings} renderings"
    )


if __name__ == "__main__":
    main()
