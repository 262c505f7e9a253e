"""Score live audio within a program of your own, without a server.

    python -m examples.embed_live_scoring call.wav
    arecord -f S16_LE -r 16000 -t raw | python -m examples.embed_live_scoring -

Audio comes in chunks of any length, 16 kHz mono; what is printed comes as soon as it is known.
For a recording as a whole, ``ser_engine.analyze`` is shorter.
"""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ser_engine import ChannelStream, EngineConfig, Event, Gap, Point, Segment, Window, open_engine

RATE_HZ = 16_000


def chunks(file: BinaryIO, samples: int = RATE_HZ // 10) -> Iterator[npt.NDArray[np.float32]]:
    """Yield raw 16-bit little-endian audio as float32, full scale at ±1."""
    while data := file.read(2 * samples):
        whole = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        yield whole.astype(np.float32) / np.float32(32768)


def timeline(audio: Iterable[npt.NDArray[np.float32]], config: EngineConfig) -> Iterator[Event]:
    """Yield the points, segments and gaps of a channel as they are known."""
    engine = open_engine(config)
    stream = ChannelStream(config, engine.info, "channel 0")

    def score(windows: list[Window]) -> Iterator[Event]:
        for window in windows:
            # With many channels, score the windows of all of them in one step.
            (outcome,) = engine.step([window])
            yield from stream.accept(window, outcome)

    for chunk in audio:
        yield from score(stream.push(chunk))
        yield from stream.take_events()  # Silence takes no window, but has a gap.
    yield from score(stream.finish())
    yield from stream.close()


def describe(event: Event) -> str:
    """Return one line for a person; "" for a segment or gap that goes on and is said again."""
    match event:
        case Point():
            label = event.label or f"unclear, perhaps {event.best}"
            return f"{event.end_sample / RATE_HZ:7.2f} s  {label}  {event.confidence:.0%}"
        case Segment(final=True):
            return f"{event.end_sample / RATE_HZ:7.2f} s  = {event.label or 'unclear'}"
        case Gap(final=True):
            return f"{event.end_sample / RATE_HZ:7.2f} s  ({event.reason})"
        case _:
            return ""


def main(path: str) -> None:
    """Print the timeline of a WAV file (16 kHz, 16 bits, mono), or of raw audio on ``-``."""
    config = EngineConfig()
    if path == "-":
        audio = chunks(sys.stdin.buffer)
    else:
        with wave.open(path) as file:
            if (file.getframerate(), file.getsampwidth(), file.getnchannels()) != (RATE_HZ, 2, 1):
                sys.exit(f"{path}: expected 16 kHz, 16 bits, mono; use ser_engine.analyze")
            raw = file.readframes(file.getnframes())
        whole = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
        audio = iter(np.array_split(whole, max(1, len(whole) // 1600)))
    for event in timeline(audio, config):
        if line := describe(event):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
