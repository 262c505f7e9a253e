"""Audio files as blocks of 16 kHz float32, channels kept apart.

Read are WAV, FLAC, Ogg (Vorbis, Opus) and MP3 and the other formats of libsndfile, in any sample
format. A file is read block by block: neither its length nor what its header claims decides how
much memory that takes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import soxr

from ser_engine.errors import AudioError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.resample import Resampler
from ser_engine.types import FloatArray

__all__ = ["MAX_CHANNELS", "MAX_RATE_HZ", "MIN_RATE_HZ", "AudioFile", "read_audio"]

MAX_CHANNELS = 32
"""Channels of a file that are not taken for a damaged header."""

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""Range of sample rates that are not taken for a damaged header."""

_READABLE = "WAV, FLAC, Ogg (Vorbis, Opus) or MP3"
_BLOCK_VALUES = 1 << 18
"""Values of one block, all channels together: 1 MiB, 16 s of mono audio at 16 kHz."""

_LENGTH_UNKNOWN = 0xFFFF_FFFF
"""Size of a WAV data chunk that was written to a pipe."""

_MP3_TOLERANCE = 0.05
"""Share of an MP3 file's length that its header may be wrong by: without an index the length is
an estimate."""


class AudioFile:
    """An audio file that is open for reading. Use it in a ``with`` statement.

    Args:
        path: the file.
        as_streamed: resample as the server does, which may not wait for a longer filter; else as
            well as can be.

    Attributes:
        channels: number of channels.
        rate_hz: sample rate of the file, in Hz.

    Raises:
        AudioError: it cannot be opened, is no audio file of a known format, holds no audio, or
            its header cannot be true.
    """

    def __init__(self, path: Path | str, *, as_streamed: bool = False) -> None:
        self._path = Path(path)
        self._as_streamed = as_streamed
        _refuse_what_is_no_audio(self._path)
        try:
            self._file = soundfile.SoundFile(str(self._path))
        except soundfile.LibsndfileError as error:
            raise self._error(f"{_reason(error)}; expected {_READABLE}") from None
        self.channels: int = self._file.channels
        self.rate_hz: int = self._file.samplerate
        try:
            self._check_header()
        except AudioError:
            self._file.close()
            raise

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def header_s(self) -> float:
        """Length in seconds as the header has it, which in MP3 may be an estimate."""
        return float(self._file.frames / self.rate_hz)

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the audio from where it was read to, as ``(channels, samples)`` at 16 kHz.

        Blocks differ in size. Values are float32, full scale ±1; those of a file with floating
        point samples may lie beyond.

        Raises:
            AudioError: the file is damaged or cut off, or a sample is NaN or infinite.
        """
        resample, finish = self._make_resampler()
        frames_read = 0
        while len(block := self._read()):
            if not np.isfinite(block).all():
                bad = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0]) + frames_read
                raise self._error(
                    f"got a sample that is not a number at {bad / self.rate_hz:.3f} s,"
                    " expected finite ones"
                )
            frames_read += len(block)
            yield np.ascontiguousarray(resample(block).T)
        self._check_length(frames_read)
        if self.rate_hz != SAMPLE_RATE_HZ:
            yield np.ascontiguousarray(finish().T)

    def _make_resampler(
        self,
    ) -> tuple[Callable[[FloatArray], FloatArray], Callable[[], FloatArray]]:
        """Return what takes a block ``(samples, channels)``, and what gives the rest."""
        if self._as_streamed or self.rate_hz == SAMPLE_RATE_HZ:
            streamed = Resampler(self.rate_hz, self.channels)
            return streamed.push, streamed.finish
        filtered = soxr.ResampleStream(
            self.rate_hz, SAMPLE_RATE_HZ, self.channels, dtype="float32", quality="HQ"
        )
        nothing = np.empty((0, self.channels), dtype=np.float32)
        return filtered.resample_chunk, lambda: filtered.resample_chunk(nothing, last=True)

    def _read(self) -> FloatArray:
        try:
            block: FloatArray = self._file.read(
                max(1, _BLOCK_VALUES // self.channels), dtype="float32", always_2d=True
            )
        except soundfile.LibsndfileError as error:
            raise self._error(f"the audio is damaged: {_reason(error)}") from None
        return block

    def _check_header(self) -> None:
        if self._file.frames == 0:
            raise self._error("it holds no audio")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise self._error(f"got {self.channels} channels, expected 1 to {MAX_CHANNELS}")
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise self._error(
                f"got a sample rate of {self.rate_hz} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )
        if self._file.format in ("WAV", "WAVEX"):
            missing = _missing_wav_bytes(self._path)
            if missing > 0:
                raise self._error(
                    f"it is cut off: its header tells of {missing} bytes of audio more than the"
                    " file holds"
                )

    def _check_length(self, frames_read: int) -> None:
        tolerated = _MP3_TOLERANCE if self._file.format in ("MP3", "MPEG") else 0
        if frames_read < self._file.frames * (1 - tolerated):
            raise self._error(
                f"it is cut off: got {frames_read / self.rate_hz:.2f} s of audio, expected"
                f" {self._file.frames / self.rate_hz:.2f} s"
            )

    def _error(self, message: str) -> AudioError:
        return AudioError(f"{self._path}: {message}")


def read_audio(path: Path | str, *, as_streamed: bool = False) -> FloatArray:
    """Return a whole file as float32 ``(channels, samples)`` at 16 kHz.

    Args:
        path: the file.
        as_streamed: see :class:`AudioFile`.

    Raises:
        AudioError: see :class:`AudioFile`.
    """
    with AudioFile(path, as_streamed=as_streamed) as file:
        return np.concatenate(list(file.blocks()), axis=1)


def _refuse_what_is_no_audio(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except FileNotFoundError:
        raise AudioError(f"{path}: there is no such file") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from None
    if not start:
        raise AudioError(f"{path}: the file is empty")
    other = "M4A or MP4" if start[4:8] == b"ftyp" else ""
    other = "WebM or Matroska" if start[:4] == b"\x1aE\xdf\xa3" else other
    if other:
        raise AudioError(
            f"{path}: got {other}, expected {_READABLE}; convert it, e.g. with"
            " ffmpeg -i FILE out.wav"
        )


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


def _reason(error: soundfile.LibsndfileError) -> str:
    text: str = error.error_string
    return text.removeprefix("Error : ").rstrip(".").lower()
