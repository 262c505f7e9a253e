"""``python -m benchmarks.accuracy_choice --run DIR``: what a temperature, bias and threshold do.

Of a run of ``training.standard`` or ``training.distil`` that has not heard the speakers of
:data:`training.corpora.DEV_SPEAKERS`, so that they can be chosen before the validation speakers are
looked at. On those speakers and on the natural recordings that nothing is trained on, as streams,
smoothing and hysteresis included:

``neutral, emotion, changes`` of natural speech: shares of points, and changes a minute of what is
shown, as recorded and over the telephone. ``alerts``: share of speakers whose 40 s of acted anger
raise the default rule. ``to_neutral, to_angry``: median delay of the new label, and share missed.

The network runs once: what it says of a window is kept, and each row is made of that.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy_streams import (
    anger_alert_row,
    natural_row,
    transition_rows,
)
from ser_engine.config import BatchingConfig, EngineConfig, ModelConfig
from ser_engine.core.factory import engine_from_checkpoint
from ser_engine.errors import WindowError
from ser_engine.labels import NEUTRAL
from ser_engine.models.compact import COMPACT
from ser_engine.models.standard import STANDARD, Standard
from ser_engine.types import Core, FloatArray, ModelInfo, Window, WindowResult
from training.calibrate import neutral_logits, scorer
from training.clips import CORPORA, data_dir, read_clip, read_clips
from training.corpora import DEV_SPEAKERS, HELD_OUT_NATURAL, NATURAL, read_more_clips
from training.devset import read_devset
from training.export import Calibration, export, load_run
from training.head import load_standard

_TRANSITIONS = 21


class CalibratedCore:
    """Says what a network would with another temperature, bias and threshold.

    Args:
        core: the network as it was trained: temperature 1, no bias.
        answers: of ``core``, by window; filled here.
    """

    def __init__(
        self,
        core: Core,
        answers: dict[bytes, WindowResult],
        info: ModelInfo,
        calibration: Calibration,
    ) -> None:
        self.info = info
        self.runtime_name = core.runtime_name
        self._core = core
        self._answers = answers
        self._temperature = calibration.temperature
        self._bias = np.zeros(len(info.labels.names), np.float32)
        self._bias[info.labels.names.index(NEUTRAL)] = calibration.neutral_bias

    def warm_up(self) -> None:
        self._core.warm_up()

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        return [self._answer(window) for window in windows]

    def forget(self, stream_key: str) -> None:
        self._core.forget(stream_key)

    def _answer(self, window: Window) -> WindowResult | WindowError:
        key = hashlib.blake2b(window.samples.tobytes(), digest_size=16).digest()
        kept = self._answers.get(key)
        if kept is None:
            (found,) = self._core.step([window])
            if isinstance(found, WindowError):
                return found
            # Embeddings are not asked for, and would fill the memory.
            kept = replace(found, embeddings=found.embeddings[:, :0])
            self._answers[key] = kept
        return replace(kept, logits=kept.logits / np.float32(self._temperature) + self._bias)


def held_out_recordings(data: Path) -> Iterator[tuple[str, FloatArray]]:
    """Yield the natural recordings of the training split that nothing is trained on."""
    for clip in read_more_clips(data, [NATURAL], ["train"]):
        if clip.speaker.partition("/")[2] in HELD_OUT_NATURAL:
            yield clip.path.stem, read_clip(clip)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=("compact", "standard"))
    parser.add_argument("--run", type=Path, required=True, help="without the speakers held out")
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--devset", type=Path, default=Path("results/training/devset.pt"))
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0])
    parser.add_argument("--neutral-bias", type=float, nargs="+", default=[-0.8])
    parser.add_argument("--abstain-below", type=float, nargs="+", default=[0.48])
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = load_standard(given.run) if given.model == "standard" else load_run(given.run)
    built_in = STANDARD if isinstance(model, Standard) else COMPACT
    config = EngineConfig(
        model=ModelConfig(name=given.model, runtime="torch", offline=True, threads=1),
        batching=BatchingConfig(max_batch_size=1),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        export(model, Calibration(), path, {})
        core = engine_from_checkpoint(built_in.read(path), config)
    items, score = read_devset(given.devset), scorer(model)
    clips = [clip for clip in read_clips(given.data, "train") if clip.speaker in DEV_SPEAKERS]
    clips = [clip for clip in clips if clip.corpus in CORPORA]
    natural = list(held_out_recordings(given.data))
    answers: dict[bytes, WindowResult] = {}
    for values in itertools.product(given.temperature, given.neutral_bias, given.abstain_below):
        calibration = Calibration(*values)
        info = replace(
            core.info,
            abstain_below=calibration.abstain_below,
            neutral_logits=neutral_logits(items, score, calibration),
        )
        engine = CalibratedCore(core, answers, info, calibration)
        of: dict[str, float] = {}
        natural_row(engine, natural, config, calibration.abstain_below, of)
        anger_alert_row(engine, clips, config, of)
        transition_rows(engine, clips, _TRANSITIONS, config, of)
        lines = (
            f"{of[f'{line}_neutral']:.2f} / {of[f'{line}_emotion']:.3f} /"
            f" {of[f'{line}_changes_per_min']:.1f}"
            for line in ("natural", "natural_telephone")
        )
        changes = (
            f"{of[f'{name}_delay_p50_s']:.2f} s, {of[f'{name}_missed'] / of[f'{name}_streams']:.2f}"
            for name in ("angry_to_neutral", "neutral_to_angry")
        )
        print(*values, *lines, f"{of['anger_alerts_hit']:.2f}", *changes, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
