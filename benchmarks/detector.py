"""What Silero's speech detector costs a stream: alone, and heard together with others.

Audio is pushed in blocks of half a second, as a server does. All variants take turns, and the
median of their ratios counts: on a shared machine times mean little. ``--against COMMIT`` lets the
detector of another commit take turns with them. Set ``OPENBLAS_NUM_THREADS=1``, as servers do.

    python -m benchmarks.detector
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.report import Report, argument_parser, median
from benchmarks.speech import shared_speech_dir, some_speech
from ser_engine.config import VadConfig
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.timeline import SpeechDetector, make_detector, silero
from ser_engine.types import FloatArray

_BLOCK = SAMPLE_RATE_HZ // 2
_SHIFT = 1_234
"""Samples by which streams lie apart, so that their blocks hold different chunks."""


def alone_ms(detector: SpeechDetector, speech: FloatArray) -> float:
    """Return milliseconds of processor time for a second of one stream."""
    began = time.thread_time()
    for start in range(0, len(speech), _BLOCK):
        detector.push(speech[start : start + _BLOCK])
    return 1000 * (time.thread_time() - began) / (len(speech) / SAMPLE_RATE_HZ)


def together_ms(num_streams: int, speech: FloatArray, *, network_only: bool = False) -> float:
    """Return the same of each of many streams."""
    detectors = [silero.SileroDetector(VadConfig()) for _ in range(num_streams)]
    streams = [np.roll(speech, -_SHIFT * index) for index in range(num_streams)]
    for index, (detector, stream) in enumerate(zip(detectors, streams, strict=True)):
        detector.push(stream[: 37 * index])
    spent_s, blocks = 0.0, len(speech) // _BLOCK - 1
    for block in range(blocks):
        parts = [
            stream[37 * index + block * _BLOCK :][:_BLOCK] for index, stream in enumerate(streams)
        ]
        began = time.thread_time()
        silero.hear_together(zip(detectors, parts, strict=True))
        middle = time.thread_time()
        for detector, part in zip(detectors, parts, strict=True):
            detector.push(part)
        spent_s += (middle if network_only else time.thread_time()) - began
    return 1000 * spent_s / (blocks * _BLOCK / SAMPLE_RATE_HZ) / num_streams


def detector_of(commit: str) -> ModuleType:
    """Return the module of another commit, on this one's other modules."""
    path = Path(silero.__file__)
    name = f"{path.parent.relative_to(Path.cwd())}/{path.name}"
    source = subprocess.run(
        ["git", "show", f"{commit}:{name}"], check=True, capture_output=True, text=True
    ).stdout
    spec = importlib.util.spec_from_loader("silero_before", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Where its weights are looked for.
    module.__file__ = str(path)
    sys.modules["silero_before"] = module
    exec(compile(source, f"{commit}:{name}", "exec"), module.__dict__)
    return module


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argument_parser("What the speech detector costs a stream.")
    parser.add_argument("--seconds", type=float, default=20.0, help="audio of one run")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each variant")
    parser.add_argument("--streams", type=int, default=32, help="streams that are heard together")
    parser.add_argument("--against", metavar="COMMIT", help="whose detector takes turns, too")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.rounds = 4.0, 5
    speech = some_speech(options.seconds)
    config = VadConfig()
    variants: dict[str, Callable[[], float]] = {
        "webrtc": lambda: alone_ms(make_detector(VadConfig(detector="webrtc")), speech),
        "alone": lambda: alone_ms(silero.SileroDetector(config), speech),
        "together": lambda: together_ms(options.streams, speech[: 4 * SAMPLE_RATE_HZ]),
        "together, network": lambda: together_ms(
            options.streams, speech[: 4 * SAMPLE_RATE_HZ], network_only=True
        ),
    }
    if options.against:
        before = detector_of(options.against)
        variants["before"] = lambda: alone_ms(before.SileroDetector(config), speech)
    costs: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, variant in variants.items():
            costs[name].append(variant())
    report = Report(
        {
            "seconds": options.seconds,
            "rounds": options.rounds,
            "streams": options.streams,
            "against": options.against,
            "speech": "stand-in" if shared_speech_dir() is None else "emodb",
        }
    )
    references = ["webrtc", "before"] if options.against else ["webrtc"]
    for name, each in costs.items():
        report.add(variant=name, median_ms=median(each), least_ms=min(each))
        report.summary[f"{name}, least ms per s"] = min(each)
        for reference in references:
            shares = [cost / of for cost, of in zip(each, costs[reference], strict=True)]
            report.summary[f"{name}, times {reference}"] = median(shares)
    report.finish(options.json)


if __name__ == "__main__":
    main()
