"""What one stream costs the server beside the engine.

That is decoding, resampling, speech detection, windows, pooling, smoothing and results; an engine
that answers at once takes no part in it; of a telephone platform also its JSON and the order of its
packets. ``kept_kb`` is the memory that a stream holds once its
window is full: that of its session, without the connection and without the model's own state.

    python -m benchmarks.session
"""

from __future__ import annotations

import base64
import gc
import json
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from benchmarks.report import Report, argument_parser, median
from benchmarks.speech import shared_speech_dir, some_speech
from ser_engine.config import EngineConfig, VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, num_frames
from ser_engine.labels import LabelSet
from ser_engine.raw_audio import MULAW
from ser_engine.types import FloatArray, ModelInfo, WindowResult
from stream_server.platforms.media_stream import MediaStreamDialect
from stream_server.platforms.twilio import TWILIO
from stream_server.streams.session import Session
from stream_server.streams.session_results import ChannelWindow
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.start import StreamSpec

MESSAGE_MS = 20
_KEPT_SESSIONS = 4
_SPOKEN_SAMPLES = 6 * SAMPLE_RATE_HZ
_LABELS = LabelSet.from_tokens([f"class_{number}" for number in range(9)])
_MODEL = ModelInfo("null", "nowhere", "none", "", _LABELS, 1)


@dataclass(frozen=True, slots=True)
class Case:
    """A format and audio in it.

    Attributes:
        call: the messages of a platform that carry it; none: it comes as it is.
    """

    name: str
    audio_format: AudioFormat
    data: bytes
    call: tuple[str, ...] = ()

    def messages(self) -> Iterator[AudioData]:
        """Yield the audio as a dialect hands it over."""
        if self.call:
            dialect = MediaStreamDialect(TWILIO, roles=("customer", "agent"))
            for message in self.call:
                yield from (each for each in dialect.receive(message) if type(each) is AudioData)
            return
        message_bytes = self.audio_format.bytes_per_s * MESSAGE_MS // 1000
        for start in range(0, len(self.data), message_bytes):
            yield AudioData(self.data[start : start + message_bytes])


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


def reference_ms() -> float:
    """Return milliseconds of processor time for work that no change here makes cheaper.

    Of the same kind as a session's: calls of the interpreter, JSON, small arrays.
    """
    text = json.dumps({"media": {"payload": "A" * 216, "chunk": "1"}})
    audio = np.ones(8_000, dtype=np.float32)
    began = time.process_time()
    for _ in range(100):
        for _ in range(5):
            json.loads(text)
        np.square(audio).reshape(-1, HOP_SAMPLES).sum(axis=1).tolist()
    return 1000 * (time.process_time() - began)


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
    for message in case.messages():
        session.receive(message.data, message.lost)
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
        Case("the same as Twilio's JSON", AudioFormat("mulaw", 8000, 2), codes, twilio_call(codes)),
    ]


def twilio_call(codes: bytes) -> tuple[str, ...]:
    """Return the messages that carry two interleaved channels of mu-law, 20 ms of a track each."""
    tracks, packet_bytes = ("inbound", "outbound"), 8 * MESSAGE_MS
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    start = {"streamSid": "MZ1", "callSid": "CA1", "tracks": tracks, "mediaFormat": media_format}
    messages: list[dict[str, object]] = [{"event": "start", "start": start}]
    for number in range(len(codes) // 2 // packet_bytes):
        packet = codes[2 * number * packet_bytes : 2 * (number + 1) * packet_bytes]
        for index, track in enumerate(tracks):
            media = {
                "track": track,
                "chunk": str(number + 1),
                "timestamp": str(number * MESSAGE_MS),
                "payload": base64.b64encode(packet[index::2]).decode(),
            }
            messages.append({"event": "media", "media": media})
    count = range(1, len(messages) + 1)
    return tuple(
        json.dumps({**message, "sequenceNumber": str(number), "streamSid": "MZ1"})
        for number, message in zip(count, messages, strict=True)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argument_parser("What one stream costs beside the engine.")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio of one run")
    parser.add_argument(
        "--detector", choices=("webrtc", "silero", "off"), default="webrtc", help="of speech"
    )
    parser.add_argument("--runs", type=int, default=7, help="runs of each case; the median counts")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.runs = 10.0, 3
    speech = some_speech(options.seconds)
    report = Report(
        {
            "seconds": options.seconds,
            "runs": options.runs,
            "message_ms": MESSAGE_MS,
            "detector": options.detector,
            "speech": "stand-in" if shared_speech_dir() is None else "emodb",
        }
    )
    config = EngineConfig(vad=VadConfig(detector=options.detector))
    of_reference: list[float] = []
    for case in cases(speech):
        costs, shares = [], []
        for _ in range(options.runs):
            of_reference.append(reference_ms())
            costs.append(run(case, config))
            shares.append(costs[-1] / of_reference[-1])
        kept_kb = kept_bytes(case, config) / 1000
        report.add(
            case=case.name, median_ms=median(costs), least_ms=min(costs), kept_kb=round(kept_kb)
        )
        report.summary[f"{case.name}, cpu ms per s"] = median(costs)
        report.summary[f"{case.name}, times the reference"] = median(shares)
        report.summary[f"{case.name}, kept kB"] = round(kept_kb)
    report.finish(options.json)


if __name__ == "__main__":
    main()
