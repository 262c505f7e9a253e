"""``python -m training.devset``: what options and thresholds are chosen on.

Whole clips of :data:`training.corpora.DEV_SPEAKERS` as recorded, over the telephone and in noise; 4
s windows of natural recordings that nothing is trained on; sounds without speech. No validation
speaker.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ser_engine.frames import span_samples
from ser_engine.models.compact.front_end import FrontEnd as CompactFrontEnd
from ser_engine.models.standard import Standard, levelled
from training.augment import Augmenter, telephone
from training.clips import CLASSES, FloatArray, data_dir, read_clip
from training.corpora import DEV_SPEAKERS, HELD_OUT_NATURAL, NATURAL, read_corpus
from training.progress import Progress
from training.scenes import _loud, sound_source, target_of, trimmed
from training.shards import frozen_network

_CLIPS = 150
"""Of each corpus: as many as there are, or this many at equal distances."""
_SOUNDS = 120
_LONGEST = 96_000


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A clip or window.

    Attributes:
        group: ``emodb``, ``emodb telephone``, ``emodb noisy``, ..., ``natural``, ``sounds``.
        emotion: what is right; empty for natural speech, ``unknown`` for sounds.
        speaker: unique over corpora; for natural speech the recording.
        frozen: float16 (frames / 2, 512).
        compact: float16 (frames, 112).
        loudness: float16 (frames,).
        speech: bool (frames,).
    """

    group: str
    emotion: str
    speaker: str
    frozen: Tensor
    compact: Tensor
    loudness: Tensor
    speech: Tensor


def read_devset(path: Path) -> list[Item]:
    """Read what :func:`main` wrote."""
    return [Item(*fields) for fields in torch.load(path, weights_only=True)]


def _items(data: Path, model: Standard) -> Iterator[Item]:
    front = CompactFrontEnd()
    babble = [trimmed(read_clip(c)) for c in read_corpus(data, "ravdess")[::40]]
    augmenter = Augmenter(data / "impulse-responses", babble)

    def item(group: str, emotion: str, speaker: str, samples: FloatArray) -> Item:
        batch = torch.from_numpy(samples)[None]
        mel, loudness = levelled(model.context.log_mel(model.local(batch)), None)
        return Item(
            group,
            emotion,
            speaker,
            model.context.encoder.lower(mel, None)[0].half(),
            front(batch)[0].half(),
            loudness[0].half(),
            torch.from_numpy(_loud(samples)),
        )

    for corpus in ("emodb", "ravdess", "nemo_pl", "ased"):
        clips = [c for c in read_corpus(data, corpus) if c.speaker in DEV_SPEAKERS]
        clips = clips[:: max(1, len(clips) // _CLIPS)]
        for index, clip in enumerate(Progress(clips, f"{corpus}: {len(clips)}")):
            emotion = CLASSES[int(target_of(clip.emotion).argmax())]
            samples = read_clip(clip)[:_LONGEST]
            rng = np.random.default_rng(index)
            yield item(corpus, emotion, clip.speaker, samples)
            if index % 2 == 0:
                yield item(f"{corpus} telephone", emotion, clip.speaker, telephone(samples))
            else:
                noisy = augmenter.render(samples, rng, speed=False)
                yield item(f"{corpus} noisy", emotion, clip.speaker, noisy)
    length = span_samples(199)
    for clip in read_corpus(data, NATURAL):
        if clip.speaker.partition("/")[2] not in HELD_OUT_NATURAL:
            continue
        samples = read_clip(clip)
        for start in range(0, len(samples) - length + 1, 32_000):
            window = samples[start : start + length]
            yield item("natural", "", clip.speaker, window)
            yield item("natural telephone", "", clip.speaker, telephone(window))
    draw = sound_source(augmenter)
    for index in range(_SOUNDS):
        scene = draw(np.random.default_rng([99, index]))
        yield item("sounds", "unknown", "none", scene.samples)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.devset", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--whisper", type=Path, required=True, help="CTranslate2 model.bin")
    parser.add_argument("--out", type=Path, default=Path("results/training/devset.pt"))
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    with torch.inference_mode():
        items = list(_items(given.data, frozen_network(given.whisper)))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        [tuple(getattr(item, field.name) for field in fields(Item)) for item in items], given.out
    )
    print(f"{len(items)} items")


if __name__ == "__main__":
    main()
