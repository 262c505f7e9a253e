"""What one stream costs the server beside the engine.

That is decoding, resampling, speech detection, windows, pooling, smoothing and results; an engine
that answers at once takes no part in it. ``kept_kb`` is the memory that a stream holds once its
window is full: that of its session, without the connection and without the model's own state.

    python -m benchmarks.session
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from benchmarks.report import Report, argument_parser, median
from benchmarks.speech import corpus_stream, shared_speech_dir, stand_in_speech
from ser_engine.config import EngineConfig
from ser_engine.frames import SAMPLE_RATE_HZ, num_frames
from ser_engine.labels import LabelSet
from ser_engine.raw_audio import MULAW
from ser_engine.types import FloatArray, ModelInfo, WindowResult
from stream_server.streams.session import ChannelWindow, Session
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.start import StreamSpec

MESSAGE_MS = 20
_KEPT_SESSIONS = 4
_SPOKEN_SAMPLES = 6 * SAMPLE_RATE_HZ
_LABELS = LabelSet.from_tokens([f"class_{number}" for number in range(9)])
_MODEL = ModelInfo("null", "nowhere", "none", "", _LABELS, 1)


@dataclass(frozen=True, slots=True)
class Case:
    """A format and audio in it."""

    name: str
    audio_format: AudioFormat
    data: bytes


class NullEngine:
    """Answers with logits that were drawn before: one class is heard for some seconds at a time."""

    def __init__(self, config: EngineConfig) -> None:
        frames = num_frames(config.timeline.window_samples)
        noise = np.random.default_rng(0).normal(0, 0.3, (frames, 9)).astype(np.float32)
        self._logits = [noise + 2 * np.eye(9, dtype=np.float32)[spoken] for spoken in (4, 0, 6)]
        self._embeddings = np.zeros((frames, 1), dtype=np.float32)

    def answer(self, session: Session, windows: Sequence[ChannelWindow]) -> None:
        """Answer windows at once."""
        for channel, window in windows:
            frames = num_frames(len(window.samples))
            logits = self._logits[window.end_sample // _SPOKEN_SAMPLES % len(self._logits)]
            result = WindowResult(logits[:frames], self._embeddings[:frames])
            session.answer(channel, window, result)


def run(case: Case, config: EngineConfig) -> float:
    """Stream ``case`` once; return milliseconds of processor time a second of audio."""
    session = new_session(case, config)
    began = time.process_time()
    stream(session, case, NullEngine(config))
    spent_s = time.process_time() - began
    return 1000 * spent_s / (len(case.data) / case.audio_format.bytes_per_s)


def kept_bytes(case: Case, config: EngineConfig) -> float:
    """Return the memory of a session that has heard all of ``case``."""
    engine = NullEngine(config)
    # What the first session makes for all of them is not counted.
    stream(new_session(case, config), case, engine)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        sessions = [new_session(case, config) for _ in range(_KEPT_SESSIONS)]
        for session in sessions:
            stream(session, case, engine)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(sessions)


def new_session(case: Case, config: EngineConfig) -> Session:
    """Return a session for the format of ``case``."""
    channels = (ChannelSpec(),) * case.audio_format.num_channels
    return Session(
        stream_id="benchmark",
        spec=StreamSpec(case.audio_format, channels),
        model=_MODEL,
        engine_config=config,
        analyse_roles=("speaker",),
    )


def stream(session: Session, case: Case, engine: NullEngine) -> None:
    """Send all of ``case`` in messages."""
    message_bytes = case.audio_format.bytes_per_s * MESSAGE_MS // 1000
    for start in range(0, len(case.data), message_bytes):
        session.receive(case.data[start : start + message_bytes])
        while session.has_backlog:
            engine.answer(session, session.advance())
            session.take_results()


def cases(speech: FloatArray) -> list[Case]:
    """Return the formats to measure, with ``speech`` ``(samples,)`` in them."""
    pcm = np.rint(np.clip(speech, -1, 1) * 32_767).astype("<i2").tobytes()
    telephone = soxr.resample(speech, SAMPLE_RATE_HZ, 8000)
    both = np.stack([telephone, np.roll(telephone, len(telephone) // 2)], axis=1)
    order = np.argsort(MULAW, kind="stable")
    edges = (MULAW[order][1:] + MULAW[order][:-1]) / 2
    codes = order[np.searchsorted(edges, both.ravel())].astype(np.uint8).tobytes()
    return [
        Case("16 kHz pcm_s16le mono", AudioFormat("pcm_s16le", 16_000, 1), pcm),
        Case("8 kHz mulaw stereo", AudioFormat("mulaw", 8000, 2), codes),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argument_parser("What one stream costs beside the engine.")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio of one run")
    parser.add_argument("--runs", type=int, default=7, help="runs of each case; the median counts")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.runs = 10.0, 3
    folder = shared_speech_dir()
    speech = (
        stand_in_speech(options.seconds)
        if folder is None
        else corpus_stream(folder, "emodb", options.seconds)
    )
    report = Report(
        {
            "seconds": options.seconds,
            "runs": options.runs,
            "message_ms": MESSAGE_MS,
            "speech": "stand-in" if folder is None else "emodb",
        }
    )
    config = EngineConfig()
    for case in cases(speech):
        costs = [run(case, config) for _ in range(options.runs)]
        kept_kb = kept_bytes(case, config) / 1000
        report.add(
            case=case.name, median_ms=median(costs), least_ms=min(costs), kept_kb=round(kept_kb)
        )
        report.summary[f"{case.name}, cpu ms per s"] = median(costs)
        report.summary[f"{case.name}, kept kB"] = round(kept_kb)
    report.finish(options.json)


if __name__ == "__main__":
    main()
