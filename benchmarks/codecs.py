"""A recorded call through every codec and container, held against its samples.

    python -m benchmarks.codecs CALL.wav --json benchmarks/results/codecs.json

The two channels of a call go through a server's real socket: as samples first, then in each
encoding, split at random. Encodings of one channel carry the first. Held against the samples'
timeline are the share of 20 ms slots with the same label or gap, and of boundaries that have
one within a step. FFmpeg has no encoder for AMR-WB and G.729, so these are missing.
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
from websockets.asyncio.client import connect

from ser_engine.files.audio import read_audio
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.types import FloatArray
from tests.support.live_lab import receive_all, send, start
from tests.support.media_files import live_messages
from tests.support.whole_server import whole_server

STEREO = ("webm", "ogg", "mp4", "flac", "mp3", "aac", "wav", "opus")
MONO = ("amr-nb", "amr", "g722")
STEP_SAMPLES = SAMPLE_RATE_HZ // 2

Tile = tuple[int, int, str | None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    call = read_audio(options.call).T[: round(options.seconds * SAMPLE_RATE_HZ)]
    found = asyncio.run(_measure(np.ascontiguousarray(call)))
    table = {"seconds": len(call) / SAMPLE_RATE_HZ, "model": "compact", "encodings": found}
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


async def _measure(call: FloatArray) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        roles = "stream_server.streams.analyse_roles=[speaker,customer]"
        async with whole_server(Path(folder), roles) as server:
            url = f"ws://127.0.0.1:{server.ingest_port}/"
            for channels, encodings in ((2, STEREO), (1, MONO)):
                audio = call[:, :channels]
                samples = np.round(audio * 32_767).astype("<i2").tobytes()
                expected = await _stream(url, [samples[:-1], samples[-1:]], "pcm_s16le", channels)
                for encoding in encodings:
                    messages = _split(encoding, live_messages(encoding, audio))
                    seen = await _stream(url, messages, encoding, channels)
                    found[encoding] = _compare(expected, seen)
                    print(encoding, found[encoding], flush=True)
    return found


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
    url: str, messages: list[bytes], encoding: str, channels: int
) -> list[list[Tile]]:
    async with connect(url, compression=None, proxy=None) as socket:
        both = [{"role": "speaker"}, {"role": "customer"}]
        told = {"encoding": encoding, "live": False}
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
