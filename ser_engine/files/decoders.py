"""Decoding with libsndfile: WAV, FLAC, Ogg, MP3, AIFF and many older formats.

What reading a file needs of a library that decodes it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Protocol

import soundfile

from ser_engine.types import FloatArray

BLOCK_VALUES = 1 << 18
"""Values of one block, all channels together: 1 MiB, 16 s of mono audio at 16 kHz."""


class DecodeError(Exception):
    """The file cannot be decoded; the text says why, without the file's name."""


class UnknownFormatError(DecodeError):
    """The library does not know the format, or not this kind of it; another one may."""


class Decoder(Protocol):
    """An open file.

    Attributes:
        channels: number of channels, as the header has it.
        rate_hz: sample rate in Hz, as the header has it.
        num_frames: length in samples a channel, as the header has it; 0: it does not say.
        tolerance_frames: by how much the header may be wrong.
    """

    channels: int
    rate_hz: int
    num_frames: int
    tolerance_frames: int

    def read(self) -> FloatArray:
        """Return the next float32 samples ``(samples, channels)``; none at the end.

        Raises:
            DecodeError: the audio is damaged.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


_LENGTH_UNKNOWN = 0xFFFF_FFFF
"""Size of a WAV data chunk that was written to a pipe."""

_MP3_TOLERANCE = 0.05
"""Share of an MP3 file's length that its index may be wrong by."""

_MP3_INDEXES = (b"Xing", b"Info", b"VBRI")
"""What the first frame of an MP3 file holds where it tells of the length."""
_INDEX_SEARCH_BYTES = 1 << 16
_ID3_HEADER_BYTES = 10

_UNCLEAR = {
    "internal error : sf_info struct incomplete": "its header tells of 0 Hz or of no channels",
    "file does not exist or is not a regular file (possibly a pipe?)": "it is damaged",
}
"""What libsndfile says of some damage, and what it is."""


class SoundDecoder:
    """See :class:`~ser_engine.files.decoders.Decoder`.

    Args:
        path: the file.

    Raises:
        UnknownFormatError: it is none that libsndfile reads.
        DecodeError: it holds no audio or is cut off.
    """

    def __init__(self, path: Path) -> None:
        # By descriptor: of a name that ends in .raw soundfile takes the format, not of the content.
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            self._file = soundfile.SoundFile(self._descriptor, closefd=False)
        except BaseException as error:
            os.close(self._descriptor)
            if isinstance(error, soundfile.LibsndfileError):
                raise UnknownFormatError(_reason(error)) from None
            raise
        self.channels: int = self._file.channels
        self.rate_hz: int = self._file.samplerate
        self.num_frames: int = self._file.frames
        self.tolerance_frames = 0
        if self._file.format in ("MP3", "MPEG"):
            # Without an index the length is guessed from the bit rate of the first frame.
            share = _MP3_TOLERANCE if _has_mp3_index(path) else 1.0
            self.tolerance_frames = int(self.num_frames * share)
        try:
            self._check_length(path)
        except DecodeError:
            self.close()
            raise

    def read(self) -> FloatArray:
        """Return the next samples."""
        try:
            block: FloatArray = self._file.read(
                max(1, BLOCK_VALUES // self.channels), dtype="float32", always_2d=True
            )
        except soundfile.LibsndfileError as error:
            raise DecodeError(f"the audio is damaged: {_reason(error)}") from None
        return block

    def close(self) -> None:
        """Let go of the file."""
        if not self._file.closed:
            self._file.close()
            os.close(self._descriptor)

    def _check_length(self, path: Path) -> None:
        if self.num_frames == 0:
            raise DecodeError("it holds no audio")
        if self._file.format in ("WAV", "WAVEX") and (missing := _missing_wav_bytes(path)) > 0:
            raise DecodeError(
                f"it is cut off: its header tells of {missing} bytes of audio more than the"
                " file holds"
            )


_WAV_CODECS = {
    0x0014: "G.723 ADPCM",
    0x0022: "TrueSpeech",
    0x0042: "G.723.1",
    0x0064: "G.726",
    0x0065: "G.722",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0130: "ACELP.net",
    0x0133: "G.729",
    0x0160: "WMA",
    0x0161: "WMA",
    0x028F: "G.722",
}
"""Codecs found in calls that were recorded as WAV, by format tag (Microsoft's mmreg.h, FFmpeg)."""

_READ_WAV_CODECS = frozenset({1, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0xFFFE})
"""Format tags that libsndfile reads: of such a file something else is wrong."""


def wav_codec(path: Path) -> str | None:
    """Return the codec of a WAV file that libsndfile has no decoder for, in words; else None."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start[:4] not in (b"RIFF", b"RF64") or start[8:12] != b"WAVE":
        return None
    at = 12
    while at + 10 <= len(start):
        name, length = struct.unpack_from("<4sI", start, at)
        if name == b"fmt ":
            (tag,) = struct.unpack_from("<H", start, at + 8)
            if tag in _READ_WAV_CODECS:
                return None
            return f"{_WAV_CODECS.get(tag, 'an unknown codec')} (format tag 0x{tag:04X})"
        at += 8 + length + length % 2
    return None


def _missing_wav_bytes(path: Path) -> int:
    """Return by how much the data chunk of a WAV file reaches past the file's end, or 0."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return 0
        at = 12
        while at + 8 <= size:
            file.seek(at)
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"data":
                return 0 if length == _LENGTH_UNKNOWN else max(0, at + 8 + length - size)
            at += 8 + length + length % 2
    return 0


def _has_mp3_index(path: Path) -> bool:
    """Return whether an MP3 file tells how long it is."""
    with path.open("rb") as file:
        start = file.read(_ID3_HEADER_BYTES)
        if start.startswith(b"ID3") and len(start) == _ID3_HEADER_BYTES:
            # The tag's length: four bytes of seven bits.
            size = 0
            for byte in start[6:]:
                size = size << 7 | byte & 0x7F
            file.seek(size, os.SEEK_CUR)
            start = b""
        start += file.read(_INDEX_SEARCH_BYTES)
    return any(mark in start for mark in _MP3_INDEXES)


def _reason(error: soundfile.LibsndfileError) -> str:
    text: str = error.error_string
    text = text.removeprefix("Error : ").rstrip(".").lower()
    return _UNCLEAR.get(text, text)
