"""Decoding with libsndfile: WAV, FLAC, Ogg, MP3, AIFF and many older formats.

What reading a file needs of a library that decodes it.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import BinaryIO, Protocol, cast, get_args

import numpy as np
import soundfile
import soxr

from ser_engine.files.frame_layout import tag_bytes
from ser_engine.files.pieces import PatchedFile, Piece
from ser_engine.raw_audio import FormatCheck, RawEncoding, RawFormat
from ser_engine.types import FloatArray

BLOCK_VALUES = 1 << 18
"""Values of one block, all channels together: 1 MiB, 16 s of mono audio at 16 kHz."""


_STEP_FRAMES = 4096

_16_BIT_SUBTYPES = frozenset({"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"})
"""libsndfile's names of what 16 bits hold without loss."""


class DecodeError(Exception):
    """The file cannot be decoded; the text says why, without the file's name."""


class UnknownFormatError(DecodeError):
    """The library does not know the format, or not this kind of it; another one may."""


class Decoder(Protocol):
    """An open file.

    Attributes:
        rate_hz: sample rate in Hz, as the header has it.
        num_frames: length in samples a channel, as the header has it; 0: it does not say.
        tolerance_frames: by how much the header may be wrong.
        is_16_bit: whether 16-bit samples hold all of the audio.
    """

    channels: int
    rate_hz: int
    num_frames: int
    tolerance_frames: int
    is_16_bit: bool

    def read(self) -> FloatArray:
        """Return the next float32 samples ``(samples, channels)``; none at the end.

        Raises:
            DecodeError: the audio is damaged.
        """
        ...

    def close(self) -> None: ...


_MP3_TOLERANCE = 0.05
"""Share of an MP3 file's length that its index may be wrong by."""

_MP3_FRAME = 1152
"""Samples of a frame."""

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

    Raises:
        UnknownFormatError: it is none that libsndfile reads.
        DecodeError: it holds no audio.
    """

    def __init__(self, path: Path, pieces: tuple[Piece, ...] = ()) -> None:
        # By descriptor: of a name that ends in .raw soundfile takes the format, not of the content.
        patched = PatchedFile(path, pieces) if pieces else None
        self._source: PatchedFile | BinaryIO = patched or path.open("rb")
        try:
            self._file = soundfile.SoundFile(
                patched or cast(BinaryIO, self._source).fileno(), closefd=False
            )
        except BaseException as error:
            self._source.close()
            if isinstance(error, soundfile.LibsndfileError):
                raise UnknownFormatError(_reason(error)) from None
            raise
        self.channels: int = self._file.channels
        self.rate_hz: int = self._file.samplerate
        self.num_frames: int = self._file.frames
        self.is_16_bit = self._file.subtype in _16_BIT_SUBTYPES
        self.tolerance_frames = 0
        self._damage = ""
        self._position = 0
        if self._file.subtype == "MPEG_LAYER_III":
            # Without an index the length is guessed from the bit rate of the first frame. The
            # encoder's delay, a frame or two, is in the length that WAV tells of and is not heard.
            share = _MP3_TOLERANCE if _has_mp3_index(path, pieces) else 1.0
            if self._file.format in ("WAV", "WAVEX"):
                share = _MP3_TOLERANCE
            self.tolerance_frames = max(int(self.num_frames * share), 3 * _MP3_FRAME)
        if self.num_frames == 0:
            self.close()
            raise DecodeError("it holds no audio")

    def read(self) -> FloatArray:
        if self._damage:
            raise DecodeError(self._damage)
        try:
            block = self._block(max(1, BLOCK_VALUES // self.channels))
        except soundfile.LibsndfileError as error:
            self._damage = f"the audio is damaged: {_reason(error)}"
            block = self._before_damage()
        self._position += len(block)
        if not len(block) and self._damage:
            raise DecodeError(self._damage)
        return block

    def _block(self, num_frames: int) -> FloatArray:
        block: FloatArray = self._file.read(num_frames, dtype="float32", always_2d=True)
        return block

    def _before_damage(self) -> FloatArray:
        """Return what lies before the damage: of a block with any soundfile returns nothing."""
        blocks: list[FloatArray] = [np.empty((0, self.channels), dtype=np.float32)]
        # Not done from the start: soundfile seeks after each read, which MP3 does not bear well.
        with contextlib.suppress(soundfile.LibsndfileError):
            self._file.seek(self._position)
            while len(block := self._block(_STEP_FRAMES)):
                blocks.append(block)
        return np.concatenate(blocks)

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._source.close()


class RawDecoder:
    """A file of samples without a header; see :class:`~ser_engine.files.decoders.Decoder`.

    Args:
        raw: what it holds. Bytes at the end that make no whole sample are left out.

    Attributes:
        check: looks whether it holds something else; None: of this encoding nothing is known.

    Raises:
        DecodeError: it holds less than a sample.
    """

    tolerance_frames = 0

    def __init__(self, path: Path, raw: RawFormat) -> None:
        self._raw = raw
        self.channels, self.rate_hz = raw.channels, raw.rate_hz
        self.num_frames = path.stat().st_size // raw.bytes_per_tick
        self.is_16_bit = raw.encoding in _16_BIT_ENCODINGS
        self.check: FormatCheck | None = None
        if raw.encoding in get_args(RawEncoding):
            self.check = FormatCheck(cast(RawEncoding, raw.encoding), raw.channels)
        if not self.num_frames:
            raise DecodeError("it holds no audio")
        self._file = path.open("rb")

    def read(self) -> FloatArray:
        size = self._raw.bytes_per_tick
        data = self._file.read(max(1, BLOCK_VALUES // self.channels) * size)
        data = data[: len(data) // size * size]
        if self.check is not None:
            self.check.push(data)
        return self._raw.decode(data)

    def close(self) -> None:
        self._file.close()


_16_BIT_ENCODINGS = frozenset({"pcm_s16le", "pcm_s16be", "pcm_u8", "mulaw", "alaw"})


class JoinedDecoder:
    """Recordings that are in one file, one after the other, as one.

    Rate and channels are those of the first that can be read. A part of another rate is resampled;
    one with other channels is not read, since channels are never mixed, nor is what follows it.

    Args:
        parts: the pieces of each recording.

    Raises:
        DecodeError: no part can be read; the error is that of the first.
    """

    def __init__(self, path: Path, parts: tuple[tuple[Piece, ...], ...]) -> None:
        self._current, parts, self.note = _first_readable(path, parts)
        self.channels = self._current.channels
        self.rate_hz = self._current.rate_hz
        self.num_frames = self._current.num_frames
        self.tolerance_frames = self._current.tolerance_frames
        self.is_16_bit = False
        self._path = path
        self._waiting = list(parts)
        self._resample: soxr.ResampleStream | None = None
        for pieces in parts:
            with contextlib.suppress(DecodeError):
                part = SoundDecoder(path, pieces)
                self.num_frames += part.num_frames * self.rate_hz // part.rate_hz
                self.tolerance_frames += part.tolerance_frames * self.rate_hz // part.rate_hz
                part.close()

    def read(self) -> FloatArray:
        while True:
            block = self._current.read()
            is_end = not len(block)
            if self._resample is not None:
                block = np.asarray(self._resample.resample_chunk(block, last=is_end))
            if is_end:
                is_more = self._open_next()
                if not len(block) and is_more:
                    continue
            if len(block) or is_end:
                return block

    def close(self) -> None:
        self._current.close()

    def _open_next(self) -> bool:
        self._resample = None
        if not self._waiting:
            return False
        pieces = self._waiting.pop(0)
        try:
            part = SoundDecoder(self._path, pieces)
        except DecodeError as error:
            self.note = f"holds a further part that cannot be read: {error}"
            return bool(self._waiting) and self._open_next()
        if part.channels != self.channels:
            seconds = part.num_frames / part.rate_hz
            self.note = (
                f"goes on with {part.channels} channels, expected {self.channels} as at the start;"
                f" {seconds:.2f} s or more were left out"
            )
            part.close()
            self._waiting.clear()
            return False
        self._current.close()
        self._current = part
        if part.rate_hz != self.rate_hz:
            self._resample = soxr.ResampleStream(
                part.rate_hz, self.rate_hz, self.channels, dtype="float32", quality="HQ"
            )
        return True


def _first_readable(
    path: Path, parts: tuple[tuple[Piece, ...], ...]
) -> tuple[SoundDecoder, tuple[tuple[Piece, ...], ...], str]:
    """Open the first part that can be read; return what follows it, and a word about those before.

    Raises:
        DecodeError: there is none; the error is that of the first part.
    """
    errors: list[DecodeError] = []
    for number, pieces in enumerate(parts):
        try:
            decoder = SoundDecoder(path, pieces)
        except DecodeError as error:
            errors.append(error)
            continue
        note = f"begins with a part that cannot be read: {errors[0]}" if errors else ""
        return decoder, parts[number + 1 :], note
    raise errors[0]


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

_EXTENSIBLE = 0xFFFE
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
            if tag == _EXTENSIBLE and length >= 40 and at + 34 <= len(start):
                # The codec's tag begins the identifier of the form that the header is extended by.
                (tag,) = struct.unpack_from("<H", start, at + 32)
            if tag in _READ_WAV_CODECS:
                return None
            return f"{_WAV_CODECS.get(tag, 'an unknown codec')} (format tag 0x{tag:04X})"
        at += 8 + length + length % 2
    return None


def _has_mp3_index(path: Path, pieces: tuple[Piece, ...]) -> bool:
    """Return whether an MP3 file tells how long it is."""
    with contextlib.closing(PatchedFile(path, pieces or ((0, path.stat().st_size),))) as file:
        start = file.read(_ID3_HEADER_BYTES)
        if start.startswith(b"ID3") and len(start) == _ID3_HEADER_BYTES:
            file.seek(tag_bytes(start), os.SEEK_CUR)
            start = b""
        start += file.read(_INDEX_SEARCH_BYTES)
    return any(mark in start for mark in _MP3_INDEXES)


def _reason(error: soundfile.LibsndfileError) -> str:
    text: str = error.error_string
    text = text.removeprefix("Error : ").rstrip(".").lower()
    return _UNCLEAR.get(text, text)
