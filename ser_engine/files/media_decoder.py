"""Decoding with FFmpeg, through PyAV: M4A, WebM, AMR and what else libsndfile does not read.

The container's format is named, never guessed, and FFmpeg gets the open file, never its name: a
playlist that calls itself a recording can then name no other file and no address for it to open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ser_engine.files.decoders import BLOCK_VALUES, DecodeError
from ser_engine.types import FloatArray

if TYPE_CHECKING:
    import av

_TOLERANCE_S = 0.5
"""By how much a container's length may be wrong: encoders add silence before and after, and lengths
are rounded to packets."""

_WITHOUT_LENGTH = frozenset({"aac", "amr"})
"""Bare frames without a header that tells of all: FFmpeg estimates a length from the first ones,
and may be wrong by any factor."""


class MediaDecoder:
    """See :class:`~ser_engine.files.decoders.Decoder`. Only the first audio track is read.

    Args:
        path: the file.
        container: FFmpeg's name of its format.

    Raises:
        ImportError: PyAV is not installed.
        DecodeError: it is no such file, or none with audio that FFmpeg decodes.
    """

    def __init__(self, path: Path, container: str) -> None:
        import av

        self._errors: tuple[type[Exception], ...] = (
            av.error.FFmpegError,
            ValueError,
            OverflowError,
        )
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            try:
                opened = av.open(_Tolerant(file), format=container, metadata_errors="replace")
            except self._errors as error:
                raise DecodeError(f"it cannot be read: {_reason(error)}") from None
            self._container = stack.enter_context(opened)
            self._stream = self._audio_stream()
            self._stack = stack.pop_all()
        self.is_16_bit = False
        self.rate_hz = int(self._stream.rate or 0)
        self.channels = int(self._stream.channels or 0)
        self.num_frames = self._length()
        self.tolerance_frames = int(_TOLERANCE_S * self.rate_hz)
        if container in _WITHOUT_LENGTH:
            self.tolerance_frames = self.num_frames
        self._blocks: Iterator[FloatArray] = self._decoded()
        self._damage = ""

    def read(self) -> FloatArray:
        """Return the next samples."""
        blocks: list[FloatArray] = []
        num_values = 0
        try:
            while num_values < BLOCK_VALUES and (block := next(self._blocks, None)) is not None:
                blocks.append(block)
                num_values += block.size
        except self._errors as error:
            # What was decoded before is given first; the generator is at its end then.
            self._damage = f"the audio is damaged: {_reason(error)}"
        except DecodeError as error:
            self._damage = str(error)
        if not blocks and self._damage:
            raise DecodeError(self._damage)
        if not blocks:
            return np.empty((0, self.channels), dtype=np.float32)
        return np.concatenate(blocks)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _audio_stream(self) -> av.AudioStream:
        streams = self._container.streams.audio
        if not streams:
            raise DecodeError("it holds no audio")
        stream = streams[0]
        if stream.codec_context is None:
            # FFmpeg knows the container and has no decoder for what is in it.
            raise DecodeError("FFmpeg has no decoder for its codec")
        # More would not be quicker for one track of audio, and live streams need the cores.
        stream.codec_context.thread_count = 1
        return stream

    def _length(self) -> int:
        import av

        if self._stream.duration is not None and self._stream.time_base is not None:
            return int(self._stream.duration * self._stream.time_base * self.rate_hz)
        if self._container.duration is not None:
            return int(self._container.duration * self.rate_hz / av.time_base)
        return 0

    def _decoded(self) -> Iterator[FloatArray]:
        import av

        # Whatever the codec gives becomes interleaved float32 at the rate of the start. Channels
        # stay: they are never mixed.
        convert: Any = None
        rate_hz = 0
        for frame in self._container.decode(self._stream):
            if len(frame.layout.channels) != self.channels:
                raise DecodeError(
                    f"got {len(frame.layout.channels)} channels in the middle, expected"
                    f" {self.channels} as at the start"
                )
            if frame.sample_rate != rate_hz:
                yield from self._converted(convert, None)
                convert = av.AudioResampler(format="flt", layout=frame.layout, rate=self.rate_hz)
                rate_hz = frame.sample_rate
            yield from self._converted(convert, frame)
        yield from self._converted(convert, None)

    def _converted(self, convert: Any, frame: av.AudioFrame | None) -> Iterator[FloatArray]:
        """Yield what a converter gives for a frame; None: what it holds back."""
        if convert is not None:
            for piece in convert.resample(frame):
                yield piece.to_ndarray().reshape(-1, self.channels)


class _Tolerant:
    """An open file for PyAV, which prints a traceback where seeking raises an error."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.tell = file.tell
        self._file = file

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            # A damaged header led before the start; FFmpeg takes a negative place for an error.
            return -1


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).rstrip(".").lower()
