"""Audio files as blocks of 16 kHz float32, channels kept apart.

Read are WAV, FLAC, Ogg (Vorbis, Opus) and MP3 and the other formats of libsndfile, in any sample
format; with the extra ``media`` also M4A, MP4, WebM, Matroska, AAC, AMR and WMA. A file is read
block by block: neither its length nor what its header claims decides how much memory that takes.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ser_engine.errors import AudioError, how_to_install
from ser_engine.files.decoders import (
    DecodeError,
    Decoder,
    JoinedDecoder,
    RawDecoder,
    SoundDecoder,
    UnknownFormatError,
    wav_codec,
)
from ser_engine.files.layout import layout_of
from ser_engine.files.media_decoder import MediaDecoder
from ser_engine.files.pieces import Layout
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.raw_audio import RawFormat
from ser_engine.resample import resampler_of_file
from ser_engine.schema import Warning
from ser_engine.types import FloatArray

AUDIO_SUFFIXES = frozenset(
    ".aac .aif .aifc .aiff .amr .au .awb .caf .flac .m4a .m4b .mka .mp3 .mp4 .oga .ogg .opus .rf64"
    " .snd .w64 .wav .webm .wma".split()
)
"""Endings of names that a folder is searched for; what a file is, its content says."""

MAX_CHANNELS = 32
"""Channels of a file that are not taken for a damaged header."""

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""Range of sample rates that are not taken for a damaged header."""

MAX_LEVEL = 2.0**32
"""Largest sample of a file, full scale is 1: floating point samples on the scale of 32 bit integers
are clipped audio, what is beyond is damage, and no model's arithmetic bears it."""

RAW_SUFFIXES = frozenset((".raw", ".pcm", ".ulaw", ".alaw", ".ul", ".al", ".sln"))
"""Endings of names that samples without a header go by."""

_READABLE = "WAV, FLAC, Ogg (Vorbis, Opus) or MP3"

# What a file is by its first bytes. Its name does not decide.

_START_BYTES = 512
"""What is looked at: two packets of an MPEG transport stream fit."""

_CONTAINERS = (
    (4, b"ftyp", "mov", "M4A or MP4"),
    (0, b"\x1aE\xdf\xa3", "matroska", "WebM or Matroska"),
    (0, b"#!AMR", "amr", "AMR"),
    (0, bytes.fromhex("3026b2758e66cf11"), "asf", "WMA"),
    *((0, bytes((0xFF, second)), "aac", "AAC") for second in (0xF0, 0xF1, 0xF8, 0xF9)),
)
"""Where a file of FFmpeg's says so, what it says, FFmpeg's name of the format, and people's."""

_HEADERS = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"OggS", b"fLaC", b"caff", b".snd", b"#!AMR"),
    *(b"ID3", b"\x1aE\xdf\xa3", bytes.fromhex("3026b2758e66cf11")),
)
"""What begins a file that is no raw samples, however it is told to be read."""

_SHARED_CONTAINERS = {
    **{b"RIFF": "wav", b"RIFX": "wav", b"RF64": "wav", b"BW64": "wav"},
    **{b"OggS": "ogg", b"caff": "caf"},
}
"""Formats of libsndfile that may hold what only FFmpeg decodes, by what they start with."""

_OTHERS = (
    (b"FLV\x01", "Flash video (FLV)"),
    (b"wvpk", "WavPack"),
    (b"TTA1", "True Audio"),
    (b"MAC ", "Monkey's Audio"),
    (b".RMF", "RealMedia"),
    (b"\x0b\x77", "AC-3"),
    (b"\x7f\xfe\x80\x01", "DTS"),
    (b"nut/multimedia container", "NUT"),
    (b"\x00\x00\x01\xba", "MPEG program stream"),
    (b"MThd", "MIDI, which holds notes and no sound"),
    (b"#EXTM3U", "a playlist, which names recordings and holds none"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"%PDF", "PDF"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file it stands for"),
)
_TS_PACKET_BYTES = 188


class AudioFile:
    """An audio file that is open for reading. Use it in a ``with`` statement.

    Args:
        as_streamed: resample as the server does, which may not wait for a longer filter; else as
            well as can be.
        raw: what a file without a header holds; one with a header is read by that.

    Raises:
        AudioError: it cannot be opened, is no audio file of a known format, holds no audio, or
            its header cannot be true.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        as_streamed: bool = False,
        raw: RawFormat | None = None,
    ) -> None:
        self._path = Path(path)
        self._as_streamed = as_streamed
        self._warnings: list[Warning] = []
        self._damage = ""
        try:
            self.decoder, self._layout = _open_decoder(self._path, raw)
        except DecodeError as error:
            raise self._error(str(error)) from None
        except Exception as error:
            raise self._error(_of_library(error)) from error
        self.channels = self.decoder.channels
        self.rate_hz = self.decoder.rate_hz
        try:
            self._check_header()
        except AudioError:
            self.decoder.close()
            raise

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.decoder.close()

    @property
    def header_s(self) -> float:
        """Length in seconds as the header has it, perhaps an estimate; 0: it does not say."""
        return self.decoder.num_frames / self.rate_hz

    def warnings(self) -> tuple[Warning, ...]:
        """Return what is to be said of the file as a whole, once it is read to its end."""
        return tuple(self._warnings)

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the audio from where it was read to, as ``(channels, samples)`` at 16 kHz.

        Blocks differ in size. Values are float32, full scale ±1; those of a file with floating
        point samples may lie beyond. Audio that is cut off or damaged further on is read as far as
        it goes, and :meth:`warnings` tells of the rest.

        Raises:
            AudioError: nothing can be decoded, or a sample is NaN, infinite or beyond
                :data:`MAX_LEVEL`.
        """
        try:
            yield from self._resampled()
        except AudioError:
            raise
        except Exception as error:
            raise self._error(_of_library(error)) from error

    def _resampled(self) -> Iterator[FloatArray]:
        resample, finish = resampler_of_file(
            self.rate_hz, self.channels, as_streamed=self._as_streamed
        )
        frames_read = 0
        while len(block := self._read(frames_read)):
            self._check_samples(block, frames_read)
            frames_read += len(block)
            yield np.ascontiguousarray(resample(block).T)
        if frames_read == 0:
            raise self._error("it holds no audio")
        self._judge_length(frames_read)
        if self.rate_hz != SAMPLE_RATE_HZ:
            yield np.ascontiguousarray(finish().T)

    def _read(self, frames_read: int) -> FloatArray:
        try:
            return self.decoder.read()
        except Exception as error:
            reason = str(error) if isinstance(error, DecodeError) else _of_library(error)
            if frames_read == 0:
                raise self._error(reason) from error
            self._damage = reason
            return np.empty((0, self.channels), dtype=np.float32)

    def _check_header(self) -> None:
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise self._error(f"got {self.channels} channels, expected 1 to {MAX_CHANNELS}")
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise self._error(
                f"got a sample rate of {self.rate_hz} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )

    def _check_samples(self, block: FloatArray, frames_read: int) -> None:
        # NaN is not less than anything.
        is_fine = (np.abs(block) <= MAX_LEVEL).all(axis=1)
        if is_fine.all():
            return
        place = int(np.flatnonzero(~is_fine)[0])
        at = f"at {(place + frames_read) / self.rate_hz:.3f} s"
        if not np.isfinite(block[place]).all():
            raise self._error(f"got a sample that is not a number {at}, expected finite ones")
        level = float(np.abs(block[place]).max())
        raise self._error(f"got a sample of {level:.3g} {at}, expected full scale to be 1")

    def _judge_length(self, frames_read: int) -> None:
        """Note what is missing, by the header's length or by the file's own end."""
        if isinstance(self.decoder, RawDecoder) and self.decoder.check is not None:
            if (finding := self.decoder.check.finding) is not None:
                self._warnings.append(Warning(code="noisy", message=finding, at_s=0.0))
        read_s, header_s = frames_read / self.rate_hz, self.header_s
        missing = self.decoder.num_frames - self.decoder.tolerance_frames - frames_read
        layout = self._layout
        left_out = self.decoder.note if isinstance(self.decoder, JoinedDecoder) else ""
        if left_out:
            message = f"the file {left_out}; {read_s:.3f} s were analysed"
        elif layout.claimed_bytes != layout.held_bytes:
            # The decoder was given the true length: the header's follows from the bytes.
            header_s = read_s * layout.claimed_bytes / layout.held_bytes
            message = _length_message(header_s, read_s)
        elif self._damage:
            message = f"{_length_message(header_s, read_s)} ({self._damage})"
        elif missing > 0:
            message = f"the audio is cut off: {_length_message(header_s, read_s)}"
        elif layout.note:
            message = f"the file {layout.note}; {read_s:.3f} s were analysed"
        else:
            return
        self._warnings.append(Warning(code="length", message=message, at_s=round(read_s, 3)))

    def _error(self, message: str) -> AudioError:
        return AudioError(f"{self._path}: {message}")


def read_audio(path: Path | str, *, as_streamed: bool = False) -> FloatArray:
    """Return a whole file as float32 ``(channels, samples)`` at 16 kHz."""
    with AudioFile(path, as_streamed=as_streamed) as file:
        return np.concatenate(list(file.blocks()), axis=1)


def _length_message(header_s: float, read_s: float) -> str:
    return (
        f"the header tells of {header_s:.3f} s of audio, {read_s:.3f} s could be read;"
        " the result is that of what was read"
    )


def _open_decoder(path: Path, raw: RawFormat | None = None) -> tuple[Decoder, Layout]:
    """Open a file with what reads its kind; return where its audio lies as well.

    Args:
        raw: what a file without a header holds; None: such a file is refused.

    Raises:
        DecodeError: it cannot be read, or decoded. A library may raise other errors of damage.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # Whoever opens a pipe waits for somebody who writes to it.
            raise DecodeError("cannot be read: got a folder, a pipe or a device, expected a file")
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except FileNotFoundError:
        raise DecodeError("there is no such file") from None
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror}") from None
    if not start:
        raise DecodeError("the file is empty")
    if raw is not None and not _has_header(start):
        return RawDecoder(path, raw), Layout()
    for at, sign, container, kind in _CONTAINERS:
        if start[at:].startswith(sign):
            layout = layout_of(path)
            try:
                return MediaDecoder(path, container), layout
            except ImportError:
                raise DecodeError(
                    f"got {kind}, expected {_READABLE}; convert it, e.g. ffmpeg -i FILE out.wav, or"
                    f" install what reads it: {how_to_install('media')}"
                ) from None
    try:
        layout = layout_of(path)
        if len(layout.parts) > 1:
            return JoinedDecoder(path, layout.parts), layout
        return SoundDecoder(path, *layout.parts), layout
    except UnknownFormatError as error:
        if (shared := _SHARED_CONTAINERS.get(start[:4])) is not None:
            with contextlib.suppress(ImportError, DecodeError):
                return MediaDecoder(path, shared), _as_one(layout)
        hint = ""
        if path.suffix.lower() in RAW_SUFFIXES:
            # Samples without a header look like anything; only their owner knows what they are.
            hint = "; of raw samples say what they are: --encoding mulaw --rate 8000, for example"
        what = _what(path, start) or str(error)
        raise DecodeError(f"{what}; expected {_READABLE}{hint}") from None


def _as_one(layout: Layout) -> Layout:
    """Return what is to be said where a decoder reads the first recording of a file only."""
    if len(layout.parts) > 1:
        return Layout(note="goes on with another recording, which was left out")
    return Layout((), layout.claimed_bytes, layout.held_bytes, layout.note)


def _what(path: Path, start: bytes) -> str:
    """Return what a file is that no decoder reads; "" where nothing is known."""
    if (codec := wav_codec(path)) is not None:
        return f"got WAV with {codec}, which cannot be decoded"
    name = _name_of(start)
    return f"got {name}, which is not read" if name else ""


def _has_header(start: bytes) -> bool:
    """Whether a file begins like one of a known format; not by two bytes, as raw samples may."""
    return start[4:8] == b"ftyp" or start.startswith(_HEADERS)


def _of_library(error: Exception) -> str:
    """Return what to say of an error that a decoder's library should not have raised.

    Damaged data make libraries raise anything. Among many files it is the error of this one.
    """
    words = " ".join(str(error).split())
    return f"it cannot be decoded: {words or type(error).__name__}"


def _name_of(start: bytes) -> str | None:
    """Return what a file is that is not read, in words; None: its first bytes do not say."""
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "AVI"
    if start[:1] == start[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G":
        # ISO/IEC 13818-1: every packet begins with 0x47.
        return "an MPEG transport stream"
    for sign, name in _OTHERS:
        if start.startswith(sign):
            return name
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"{", b"[")) and _is_text(start):
        return "text (a web page, XML or JSON), perhaps an error in place of the file"
    return None


def _is_text(start: bytes) -> bool:
    return not any(byte < 0x20 and byte not in b"\t\r\n" for byte in start)
