"""How far kept local features move the posteriors, and how many have to be refreshed.

Streams of real speech from each corpus slide through the engine in steps of 0.5 s, once with every
window computed from its samples and once for each tolerance. Reported are the largest differences
of posteriors from exact ones: of whole windows, as published (pooled over the last 1.5 s) and of
single frames.

    python -m benchmarks.features
    python -m benchmarks.features --quick       a tiny network, one short stream a corpus

Needs the recordings; weights are random in the size of emotion2vec+ base. ``summary`` holds the
figures of the default tolerance.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.random_checkpoint import write_random_checkpoint
from benchmarks.report import Report, argument_parser
from benchmarks.speech import CORPORA, corpus_stream, shared_speech_dir
from ser_engine.config import ModelConfig, SmoothingConfig, TimelineConfig
from ser_engine.core.engine import EngineCore
from ser_engine.core.features import FeatureExtractor
from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.frames import FRAME_RATE_HZ, SAMPLE_RATE_HZ, num_frames
from ser_engine.models.emotion2vec import build
from ser_engine.models.emotion2vec.checkpoint import Emotion2vecCheckpoint
from ser_engine.models.emotion2vec.folder import load_folder
from ser_engine.models.normalisation import FirstLayer
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray, Window, WindowResult

TIMELINE = TimelineConfig()
POOLED_FRAMES = SmoothingConfig().span_ms * FRAME_RATE_HZ // 1000
DEFAULT = ModelConfig().feature_tolerance
TOLERANCES = (0.01, 0.03, DEFAULT, 0.3, 2.0)
"""2 is the largest deviation there can be: nothing is ever refreshed."""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--streams", type=int, default=2, help="streams a corpus")
    parser.add_argument("--duration", type=float, default=16.0, help="seconds of each")
    options = parser.parse_args(arguments)
    speech = shared_speech_dir()
    if speech is None:
        sys.exit("got no recordings beside the checkout, expected ../shared/data/emotional-speech")
    size = "tiny" if options.quick else "base"
    streams = 1 if options.quick else options.streams
    duration_s = 8.0 if options.quick else options.duration
    report = Report({"size": size, "streams": streams, "duration_s": duration_s})
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = load_folder(write_random_checkpoint(Path(folder) / size, size))
        model = build(checkpoint.sizes, checkpoint.tensors)
    layer, runtime = model.first_layer(), TorchRuntime(model)
    for corpus in CORPORA:
        audio = [corpus_stream(speech, corpus, duration_s, seed) for seed in range(streams)]
        exact = [_scored(_engine(checkpoint, runtime, layer, None), each) for each in audio]
        for tolerance in TOLERANCES:
            engine = _engine(checkpoint, runtime, layer, tolerance)
            found = [_scored(engine, each) for each in audio]
            _compare(report, corpus, tolerance, found, exact, engine)
    report.finish(options.json)


def _compare(
    report: Report,
    corpus: str,
    tolerance: float,
    found: list[list[FloatArray]],
    exact: list[list[FloatArray]],
    engine: EngineCore,
) -> None:
    differences = {"window": 0.0, "published": 0.0, "frame": 0.0}
    for ours, theirs in zip(chain(*found), chain(*exact), strict=True):
        for name, frames in (("window", len(ours)), ("published", POOLED_FRAMES)):
            moved = softmax(ours[-frames:].mean(axis=0)) - softmax(theirs[-frames:].mean(axis=0))
            differences[name] = max(differences[name], float(np.abs(moved).max()))
        moved = softmax(ours) - softmax(theirs)
        differences["frame"] = max(differences["frame"], float(np.abs(moved).max()))
    stats = engine.extractor.stats
    refreshed = stats.refreshed / max(1, stats.refreshed + stats.reused)
    report.add(
        corpus=corpus,
        tolerance=tolerance,
        refreshed_share=refreshed,
        **{f"{name}_posterior_max_diff": value for name, value in differences.items()},
    )
    if tolerance == DEFAULT:
        report.summary[f"{corpus}_refreshed_share"] = refreshed
        for name, value in differences.items():
            report.summary[f"{corpus}_{name}_posterior_max_diff"] = value


def _scored(engine: EngineCore, audio: FloatArray) -> list[FloatArray]:
    """Return the frame logits of every window of a stream, windows at its beginning included."""
    key = str(id(audio))
    logits: list[FloatArray] = []
    for end in range(TIMELINE.step_samples, len(audio) + 1, TIMELINE.step_samples):
        start = max(0, end - TIMELINE.window_samples)
        (result,) = engine.step([Window(audio[start:end], start, key)])
        assert isinstance(result, WindowResult), result
        logits.append(result.logits)
    return logits


def _engine(
    checkpoint: Emotion2vecCheckpoint,
    runtime: TorchRuntime,
    layer: FirstLayer | None,
    tolerance: float | None,
) -> EngineCore:
    step_frames = TIMELINE.step_samples * FRAME_RATE_HZ // SAMPLE_RATE_HZ
    window_frames = num_frames(TIMELINE.window_samples)
    extractor = FeatureExtractor(
        runtime=runtime,
        layer=layer,
        feature_dim=checkpoint.sizes.embed_dim,
        tolerance=tolerance,
        buckets=(step_frames, 2 * step_frames, 4 * step_frames, window_frames),
        max_bytes=1 << 30,
    )
    return EngineCore(checkpoint.info, runtime, extractor)


if __name__ == "__main__":
    main()
