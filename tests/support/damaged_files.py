"""Recordings of every format that is read, and the same with damage done to them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from tests.support.media_files import write_amr_noise, write_media

__all__ = ["cases", "recordings", "wav_of_codec"]

_SOUND = (
    ("a.wav", "WAV", "PCM_16"),
    ("f.wav", "WAV", "FLOAT"),
    ("u.wav", "WAV", "ULAW"),
    ("m.wav", "WAV", "MS_ADPCM"),
    ("g.wav", "WAV", "GSM610"),
    ("a.rf64", "RF64", "PCM_16"),
    ("a.w64", "W64", "PCM_16"),
    ("a.flac", "FLAC", "PCM_16"),
    ("v.ogg", "OGG", "VORBIS"),
    ("o.opus", "OGG", "OPUS"),
    ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ("a.aiff", "AIFF", "PCM_24"),
    ("a.au", "AU", "PCM_16"),
    ("a.caf", "CAF", "PCM_16"),
)
_MEDIA = (("a.m4a", "aac"), ("a.webm", "libopus"), ("a.mka", "flac"), ("a.wma", "wmav2"))


def recordings(folder: Path, *, media: bool) -> list[Path]:
    """Write half a second of noise in each format; ``media``: those of FFmpeg, too."""
    noise = np.random.default_rng(5).uniform(-0.3, 0.3, (8_000, 2)).astype(np.float32)
    paths: list[Path] = []
    for name, kind, subtype in _SOUND:
        channels = 1 if subtype == "GSM610" else 2
        paths.append(folder / name)
        soundfile.write(paths[-1], noise[:, :channels], 16_000, subtype, format=kind)
    if media:
        paths += [write_media(folder / name, noise, 16_000, codec) for name, codec in _MEDIA]
        paths.append(write_media(folder / "a.aac", noise, 16_000, "aac"))
        paths.append(write_amr_noise(folder / "a.amr", 0.5))
    return paths


def damaged(content: bytes, seed: int) -> bytes:
    """Return a content with one kind of damage, which the seed decides on.

    Half of the damage is done to the first bytes: there are the headers.
    """
    rng = np.random.default_rng(seed)
    data = bytearray(content)

    def place() -> int:
        reach = min(len(data), 128) if rng.random() < 0.5 else len(data)
        return int(rng.integers(0, reach))

    for kind in rng.choice(6, size=int(rng.integers(1, 4))):
        at, length = place(), int(rng.integers(1, 64))
        match int(kind):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                # Lengths and counts: the values that arithmetic goes wrong with.
                extremes = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f")
                data[at : at + 4] = extremes[int(rng.integers(0, 4))]
            case 5:
                del data[max(at, 16) :]
        if not data:
            break
    return bytes(data)


def cases(paths: list[Path], seeds: range) -> Iterator[tuple[Path, int, bytes]]:
    """Yield each recording with each seed's damage."""
    for path in paths:
        content = path.read_bytes()
        for seed in seeds:
            yield path, seed, damaged(content, seed)


def wav_of_codec(path: Path, format_tag: int) -> Path:
    """Write a WAV file of a codec's, with noise in it."""
    fmt = struct.pack("<HHIIHH", format_tag, 1, 8_000, 16_000, 2, 16)
    data = np.random.default_rng(1).bytes(3_200)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data))
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data)
    return path
