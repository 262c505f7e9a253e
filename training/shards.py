"""``python -m training.shards``: draw scenes and keep what the frozen layers make of them.

A shard is some hundred scenes of one corpus, with the frames of the standard model's frozen lower
layers, the compact model's features, and what is right. Shards are drawn one by one from their
number, so the work can be stopped, started again and made longer at any time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ser_engine.models.compact.front_end import FrontEnd as CompactFrontEnd
from ser_engine.models.standard import Standard, StandardSizes, levelled
from training.augment import Augmenter
from training.clips import Clip, data_dir, read_clip
from training.corpora import ACTED, HELD_OUT_NATURAL, NATURAL, PROMPTS, read_corpus, read_prompts
from training.progress import Progress
from training.scenes import Material, Scene, SceneSource, sound_source, trimmed
from training.whisper import load_encoder

SOUNDS = "sounds"
SHARD_SCENES = 250
_PROMPT_SECONDS_A_VOICE = 240.0


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Scenes of one corpus, one after another.

    Attributes:
        frozen: float16 (all frames at the rate of the upper layers, 512), after the frozen layers.
        top: the same after all layers as they were published; what a head alone is trained on.
        compact: float16 (all frames, 112).
        loudness: float16 (all frames,).
        speech: bool (all frames,).
        frames: int64 (scenes,), frames of each.
        first: float32 (scenes, classes).
        second: float32 (scenes, classes).
        change: int64 (scenes,).
        speaker: (scenes,).
    """

    frozen: npt.NDArray[np.float16]
    top: npt.NDArray[np.float16]
    compact: npt.NDArray[np.float16]
    loudness: npt.NDArray[np.float16]
    speech: npt.NDArray[np.bool_]
    frames: npt.NDArray[np.int64]
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    change: npt.NDArray[np.int64]
    speaker: npt.NDArray[np.str_]

    def starts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where scenes begin and the last ends: in all frames, in the upper layers'."""
        return _starts(self.frames), _starts((self.frames + 1) // 2)


def _starts(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])


def load_shard(path: Path) -> Shard:
    """Read a shard; large arrays stay on disk until they are used.

    Raises:
        FileNotFoundError: :func:`write_top` has not been there yet.
    """
    small = np.load(path / "small.npz")
    large = {
        name: np.load(path / f"{name}.npy", mmap_mode="r")
        for name in ("frozen", "top", "compact", "loudness", "speech")
    }
    return Shard(**large, **{name: small[name] for name in small.files})


def frozen_network(whisper: Path) -> Standard:
    """Return the network as published, with a head that has learned nothing."""
    sizes = StandardSizes()
    model = Standard(sizes)
    model.context.encoder.load_state_dict(load_encoder(whisper, sizes).state_dict())
    return model.eval().requires_grad_(False)


def write_shard(path: Path, scenes: Sequence[Scene], model: Standard) -> None:
    """Write a shard; scenes of one length go through the network together."""
    compact_front = CompactFrontEnd()
    kept: list[dict[str, npt.NDArray[np.generic]]] = [{} for _ in scenes]
    by_length: dict[int, list[int]] = {}
    for index, scene in enumerate(scenes):
        by_length.setdefault(len(scene.samples), []).append(index)
    with torch.inference_mode():
        for group in by_length.values():
            for start in range(0, len(group), 8):
                part = group[start : start + 8]
                samples = torch.from_numpy(np.stack([scenes[i].samples for i in part]))
                mel, loudness = levelled(model.context.log_mel(model.local(samples)), None)
                frozen = model.context.encoder.lower(mel, None).half().numpy()
                compact = compact_front(samples).half().numpy()
                for place, i in enumerate(part):
                    kept[i] = {
                        "frozen": frozen[place],
                        "compact": compact[place],
                        "loudness": loudness[place].half().numpy(),
                    }
    partial = path.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name in ("frozen", "compact", "loudness"):
        np.save(partial / f"{name}.npy", np.concatenate([one[name] for one in kept]))
    np.save(partial / "speech.npy", np.concatenate([scene.speech for scene in scenes]))
    np.savez(
        partial / "small.npz",
        frames=np.array([len(scene.speech) for scene in scenes], np.int64),
        first=np.stack([scene.first for scene in scenes]),
        second=np.stack([scene.second for scene in scenes]),
        change=np.array([scene.change for scene in scenes], np.int64),
        speaker=np.array([scene.speaker for scene in scenes]),
    )
    partial.rename(path)


def write_top(path: Path, model: Standard) -> None:
    """Run the published upper layers over a shard's frames, scene by scene of a length."""
    frames = np.load(path / "small.npz")["frames"]
    upper = (frames + 1) // 2
    starts = np.concatenate([[0], np.cumsum(upper)])
    frozen = np.load(path / "frozen.npy", mmap_mode="r")
    top = np.empty_like(frozen)
    with torch.inference_mode():
        for length in np.unique(upper):
            group = np.flatnonzero(upper == length)
            for first in range(0, len(group), 8):
                part = group[first : first + 8]
                rows = np.stack([frozen[starts[i] :][:length] for i in part])
                found = model.context.encoder.upper(torch.from_numpy(rows).float(), None)
                for i, one in zip(part, found.half().numpy(), strict=True):
                    top[starts[i] :][:length] = one
    np.save(path / "top.partial.npy", top)
    (path / "top.partial.npy").rename(path / "top.npy")


def scene_drawer(
    corpus: str, data: Path, babble: Sequence[Clip]
) -> Callable[[np.random.Generator], Scene]:
    """Return what draws scenes of a corpus."""
    voices = [trimmed(read_clip(clip)) for clip in babble]
    augmenter = Augmenter(data / "impulse-responses", [voice for voice in voices if len(voice)])
    if corpus == SOUNDS:
        return sound_source(augmenter)
    material = list(_material(corpus, data))
    return SceneSource(material, augmenter, continuous=corpus in (NATURAL, PROMPTS)).draw


def _material(corpus: str, data: Path) -> Iterator[Material]:
    if corpus == PROMPTS:
        rng = np.random.default_rng(0)
        for number, samples in enumerate(read_prompts(_PROMPT_SECONDS_A_VOICE, rng)):
            if len(speech := trimmed(samples)) > 16_000:
                yield Material(speech, f"prompts/{number}", "")
        return
    for clip in Progress(read_corpus(data, corpus), f"decode {corpus}"):
        if corpus == NATURAL and clip.speaker.partition("/")[2] in HELD_OUT_NATURAL:
            continue
        if len(speech := trimmed(read_clip(clip))) >= 4_000:
            yield Material(speech, clip.speaker, clip.emotion)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.shards", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--whisper", type=Path, required=True, help="CTranslate2 model.bin")
    parser.add_argument("--out", type=Path, default=Path("results/training/shards"))
    parser.add_argument("--corpora", nargs="+", default=[*ACTED, NATURAL, PROMPTS, SOUNDS])
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=8, help="of each corpus")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tops", action="store_true", help="only complete shards that are there")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = frozen_network(given.whisper)
    if given.tops:
        paths = sorted(given.out.glob("*_[0-9][0-9][0-9]"))
        for path in Progress([p for p in paths if not (p / "top.npy").exists()], "tops"):
            write_top(path, model)
        return
    babble = read_corpus(given.data, "ravdess")[::20] + read_corpus(given.data, "nemo_pl")[::40]
    for corpus in given.corpora:
        numbers = [
            number
            for number in range(given.first, given.first + given.shards)
            if not (given.out / f"{corpus}_{number:03d}").exists()
        ]
        if not numbers:
            continue
        draw = scene_drawer(corpus, given.data, babble)
        for number in Progress(numbers, f"shards of {corpus}"):
            key = [given.seed, sum(map(ord, corpus)), number]
            rng = np.random.default_rng(key)
            scenes = [draw(rng) for _ in range(SHARD_SCENES)]
            path = given.out / f"{corpus}_{number:03d}"
            write_shard(path, scenes, model)
            write_top(path, model)


if __name__ == "__main__":
    main()
