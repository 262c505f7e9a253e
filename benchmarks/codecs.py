"""Recorded speech through every codec and container, held against its samples.

    python -m benchmarks.codecs CALL.wav … --json benchmarks/results/codecs.json

Two channels go through a server's real socket: as samples first, then in each encoding, split at
random. Encodings of one channel carry the first. A recording of one channel is cut in two halves,
which become two channels; recordings follow one another.

An encoder delays what it is given, and not every container says by how much. The samples that an
encoding is held against are delayed as much as it, so that what is measured is what a codec does to
the voice, and not a shift in time. Held against their timeline are the share of 20 ms slots with
the same label or gap, and of boundaries that have one within a step. ``band`` is the agreement with
samples at the codec's rate, of those that carry less than 8 kHz: without what the narrow band does,
which a telephone call has anyway. FFmpeg has no encoder for AMR-WB and G.729, so these are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from websockets.asyncio.client import connect

from ser_engine.files.audio import read_audio
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.types import FloatArray
from stream_server.decoding import child
from stream_server.wire.codecs import CODECS
from tests.support.live_lab import receive_all, send, start
from tests.support.media_files import live_messages
from tests.support.whole_server import whole_server

STEREO = ("webm", "ogg", "mp4", "flac", "mp3", "aac", "wav", "opus")
MONO = ("amr-nb", "amr", "g722")
NARROW = ("amr-nb", "amr")
STEP_SAMPLES = SAMPLE_RATE_HZ // 2
_MAX_DELAY_SAMPLES = SAMPLE_RATE_HZ // 4

Tile = tuple[int, int, str | None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("calls", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", nargs="+", choices=(*STEREO, *MONO))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    call = np.concatenate([_two_channels(path) for path in options.calls])
    call = np.ascontiguousarray(call[: round(options.seconds * SAMPLE_RATE_HZ)])
    found = asyncio.run(_measure(call, options.only or (*STEREO, *MONO)))
    table = {"seconds": len(call) / SAMPLE_RATE_HZ, "model": "compact", "encodings": found}
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


async def _measure(call: FloatArray, wanted: Sequence[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        roles = "stream_server.streams.analyse_roles=[speaker,customer]"
        async with whole_server(Path(folder), roles) as server:
            url = f"ws://127.0.0.1:{server.ingest_port}/"
            for channels, encodings in ((2, STEREO), (1, MONO)):
                audio = call[:, :channels]
                as_samples: dict[tuple[int, bool], list[list[Tile]]] = {}
                for encoding in [each for each in encodings if each in wanted]:
                    messages = live_messages(encoding, audio)
                    delay = _delay_samples(audio, decoded(encoding, messages, channels))
                    seen = await _stream(url, _split(encoding, messages), encoding, channels)
                    figures = {"delay_ms": round(delay / SAMPLE_RATE_HZ * 1000, 1)}
                    for is_narrow in (False, True) if encoding in NARROW else (False,):
                        if (delay, is_narrow) not in as_samples:
                            as_samples[delay, is_narrow] = await _stream(
                                url,
                                [_samples(audio, delay, is_narrow)],
                                "pcm_s16le",
                                channels,
                                8000 if is_narrow else SAMPLE_RATE_HZ,
                            )
                        compared = _compare(as_samples[delay, is_narrow], seen)
                        figures |= {"band": compared["label_agreement"]} if is_narrow else compared
                    found[encoding] = figures
                    print(encoding, figures, flush=True)
    return found


def _two_channels(path: Path) -> FloatArray:
    audio: FloatArray = np.asarray(read_audio(path).T, np.float32)
    if audio.shape[1] >= 2:
        return audio[:, :2]
    half = len(audio) // 2
    halves: FloatArray = np.stack([audio[:half, 0], audio[half : 2 * half, 0]], axis=1)
    return halves


def _samples(audio: FloatArray, delay: int, is_narrow: bool) -> bytes:
    """Return 16-bit samples that come as late as those of an encoding."""
    silence = np.zeros((max(delay, 0), audio.shape[1]), np.float32)
    late = np.concatenate([silence, audio[max(-delay, 0) :]])
    if is_narrow:
        late = soxr.resample(late, SAMPLE_RATE_HZ, 8000)
    data: bytes = np.round(np.clip(late, -1, 1) * 32_767).astype("<i2").tobytes()
    return data


def decoded(encoding: str, messages: list[bytes], channels: int) -> FloatArray:
    """Return what the server decodes, ``(samples, channels)`` at 16 kHz."""
    pipe = _Messages(messages)
    codec = CODECS[encoding]
    job = {
        "rate_hz": SAMPLE_RATE_HZ,
        "channels": channels,
        "container": codec.container,
        "decoder": codec.decoder,
        "decoder_hz": codec.decoder_hz,
        "packet_bytes": codec.packet_bytes,
    }
    child.main(job, pipe)
    values: FloatArray = np.frombuffer(pipe.samples, "<i2").astype(np.float32)
    values /= 32_768
    return values.reshape(-1, channels)


class _Messages(child.Pipe):
    """A stream of messages, and what is decoded of it."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = iter(messages)
        self.samples = bytearray()

    def receive(self) -> tuple[bytes, bytes]:
        data = next(self._messages, None)
        return (b"E", b"") if data is None else (b"D", data)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        if kind == b"S":
            self.samples += payload
        elif kind == b"L":
            raise SystemExit("a hole in what is whole")
        elif kind == b"X":
            raise SystemExit(payload.decode())


def _delay_samples(audio: FloatArray, late: FloatArray) -> int:
    """Return by how much one channel comes later than the other: where they agree best."""
    size = 1 << (max(len(audio), len(late)) + _MAX_DELAY_SAMPLES - 1).bit_length()
    spectra = [np.fft.rfft(each[:, 0], size) for each in (audio, late)]
    agreement = np.fft.irfft(np.conj(spectra[0]) * spectra[1], size)
    near = np.concatenate([agreement[-_MAX_DELAY_SAMPLES:], agreement[: _MAX_DELAY_SAMPLES + 1]])
    return int(near.argmax()) - _MAX_DELAY_SAMPLES


def _split(encoding: str, messages: list[bytes]) -> list[bytes]:
    if encoding == "opus":
        return messages
    data, cut = b"".join(messages), random.Random(encoding)
    pieces, at = [], 0
    while at < len(data):
        size = cut.randrange(1, 8000)
        pieces.append(data[at : at + size])
        at += size
    return pieces


async def _stream(
    url: str, messages: list[bytes], encoding: str, channels: int, rate_hz: int = SAMPLE_RATE_HZ
) -> list[list[Tile]]:
    async with connect(url, compression=None, proxy=None, ping_interval=None) as socket:
        both = [{"role": "speaker"}, {"role": "customer"}]
        told = {"encoding": encoding, "live": False, "sample_rate": rate_hz}
        await socket.send(start(channels=both[:channels], **told))
        reader = asyncio.create_task(receive_all(socket))
        for message in messages:
            for at in range(0, len(message), 100_000):
                await socket.send(message[at : at + 100_000])
        await send(socket, type="stop")
        seen, code = await reader
    if code != 1000:
        raise SystemExit(f"{encoding}: closed with {code}: {seen[-1]}")
    return [_tiles(seen, channel) for channel in range(channels)]


def _tiles(seen: list[Any], channel: int) -> list[Tile]:
    """Return the final segments and gaps of a channel: where, and the label or reason."""
    return sorted(
        (each.start_sample, each.end_sample, getattr(each, "label", getattr(each, "reason", None)))
        for each in seen
        if type(each).__name__ in ("Segment", "Gap") and each.final and each.channel == channel
    )


def _compare(expected: list[list[Tile]], seen: list[list[Tile]]) -> dict[str, float]:
    same = slots = near = boundaries = 0
    for theirs, ours in zip(expected, seen, strict=True):
        one, other = _slots(theirs), _slots(ours)
        slots += len(one)
        same += sum(a == b for a, b in zip(one, other, strict=False))
        ends = [end for _, end, _ in ours]
        boundaries += len(theirs)
        near += sum(any(abs(end - each) <= STEP_SAMPLES for each in ends) for _, end, _ in theirs)
    return {
        "label_agreement": round(same / slots, 4),
        "near_boundaries": round(near / boundaries, 4),
    }


def _slots(tiles: list[Tile]) -> list[str | None]:
    return [label for a, b, label in tiles for _ in range(a // HOP_SAMPLES, b // HOP_SAMPLES)]


if __name__ == "__main__":
    main()
