"""Files that are no recordings, or pretend to be others; made when asked for."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

from ser_engine.types import FloatArray

__all__ = ["CUT_OFF_FILES", "MIB", "WRONG_FILES", "flac_bomb", "tone_wav", "wav"]

MIB = 1 << 20


def wav(
    data: bytes = bytes(32_000),
    *,
    rate_hz: int = 16_000,
    channels: int = 1,
    claimed_bytes: int | None = None,
    format_tag: int = 1,
) -> bytes:
    """Return a WAV file of 16-bit samples, with whatever header."""
    claimed = len(data) if claimed_bytes is None else claimed_bytes
    block = 2 * channels
    head = struct.pack(
        "<HHIIHH", format_tag, channels, rate_hz, (rate_hz * block) % 2**32, block, 16
    )
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", claimed) + data
    return b"RIFF" + struct.pack("<I", (4 + len(body)) % 2**32) + body


def tone_wav(seconds: float, seed: int = 0) -> bytes:
    """Return noise that comes and goes, so that it is taken for something."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * 16_000)) / 16_000
    samples = 0.1 * rng.standard_normal(len(times)) * (1 + np.sin(2 * np.pi * 3 * times))
    return _file(samples.astype(np.float32), "WAV")


def flac_bomb(hours: float) -> bytes:
    """Return silence of many hours in some hundred kilobytes."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        block = np.zeros(8000 * 360, dtype=np.int16)
        for _ in range(round(hours * 10)):
            file.write(block)
    return out.getvalue()


def _truncated_mp3() -> bytes:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 4).astype(np.float32)
    data = _file(noise, "MP3")
    return data[: len(data) // 2]


def _file(samples: FloatArray, kind: str, subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, subtype, format=kind)
    return out.getvalue()


CUT_OFF_FILES = {
    "truncated mp3": _truncated_mp3,
    "claims 2 GB": lambda: wav(claimed_bytes=2**31 - 1),
    "claims nothing": lambda: wav(claimed_bytes=0),
}
"""What makes files that hold less, or more, than their header says."""

WRONG_FILES = {
    "text": lambda: b"Dear Sir or Madam, this is a letter.",
    "codec without a decoder": lambda: wav(format_tag=0x0133),
    "rate of 0 Hz": lambda: wav(rate_hz=0),
    "64 channels": lambda: wav(channels=64),
    "no channels": lambda: wav(channels=0),
    "no audio in it": lambda: wav(b""),
    "shorter than a frame": lambda: wav(bytes(200)),
    "not a number": lambda: _file(np.full(16_000, np.nan, np.float32), "WAV", "FLOAT"),
    "random bytes": lambda: np.random.default_rng(1).bytes(50_000),
    "bomb": lambda: flac_bomb(3.0),
}
"""What makes each, by what is wrong with it. The bomb holds three hours."""
