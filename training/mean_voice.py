"""``python -m training.mean_voice --weights FILE``: what vectors of all voices have in common.

Over the telephone the vectors of two people are more alike than wideband ones of the same person
often are, for both hold the line. Their mean over many people, half of it over the telephone, taken
off, one threshold fits either. It is made of the natural recordings of the training split.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from ser_engine.config import EngineConfig
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.speakers import Diariser
from ser_engine.speakers.campplus import MEAN_VOICE, CamPlusPlus
from ser_engine.timeline import make_detector
from ser_engine.types import FloatArray
from training.augment import landline
from training.clips import data_dir
from training.corpora import NATURAL, read_more_clips

_SECONDS_A_RECORDING = 20


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.mean_voice", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="of CAM++")
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    given = parser.parse_args(argv)
    model = CamPlusPlus(given.weights, mean_voice=None)
    means = []
    for clip in read_more_clips(given.data, [NATURAL], ["train"]):
        samples, _ = soundfile.read(
            clip.path, frames=_SECONDS_A_RECORDING * SAMPLE_RATE_HZ, dtype="float32"
        )
        for heard in (samples, landline(samples)):
            if pieces := _pieces(heard):
                means.append(np.mean(model.embed(pieces), axis=0))
    np.save(MEAN_VOICE, np.mean(means, axis=0).astype(np.float32))


def _pieces(samples: FloatArray) -> list[FloatArray]:
    diariser = Diariser(make_detector(EngineConfig().vad), threshold=0, max_speakers=1)
    return [piece.samples for piece in [*diariser.push(samples), *diariser.finish()]]


if __name__ == "__main__":
    main()
