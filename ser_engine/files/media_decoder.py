"""Decoding with FFmpeg: M4A, WebM, AMR and what else libsndfile does not read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ser_engine.files.decoders import BLOCK_VALUES, DecodeError
from ser_engine.media import (
    MediaError,
    Packed,
    audio_stream,
    library_errors,
    open_media,
    reason_of,
)
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
        container: FFmpeg's name of its format.

    Raises:
        ImportError: PyAV is not installed.
        DecodeError: it is no such file, or none with audio that FFmpeg decodes.
    """

    def __init__(self, path: Path, container: str) -> None:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            self._errors = library_errors()
            try:
                self._container = stack.enter_context(open_media(_Tolerant(file), container))
                self._stream = audio_stream(self._container)
            except MediaError as error:
                raise DecodeError(str(error)) from None
            self._stack = stack.pop_all()
        self.is_16_bit = False
        self.rate_hz = int(self._stream.rate or 0)
        self.channels = int(self._stream.channels or 0)
        if not self.rate_hz or not self.channels:
            self._stack.close()
            raise DecodeError("its header tells of 0 Hz or of no channels")
        self.num_frames = self._length()
        self.tolerance_frames = int(_TOLERANCE_S * self.rate_hz)
        if container in _WITHOUT_LENGTH:
            self.tolerance_frames = self.num_frames
        self._blocks: Iterator[FloatArray] = self._decoded()
        self._damage = ""

    def read(self) -> FloatArray:
        blocks: list[FloatArray] = []
        num_values = 0
        try:
            while num_values < BLOCK_VALUES and (block := next(self._blocks, None)) is not None:
                blocks.append(block)
                num_values += block.size
        except self._errors as error:
            # What was decoded before is given first; the generator is at its end then.
            self._damage = f"the audio is damaged: {reason_of(error)}"
        except MediaError as error:
            self._damage = str(error)
        if not blocks and self._damage:
            raise DecodeError(self._damage)
        if not blocks:
            return np.empty((0, self.channels), dtype=np.float32)
        return np.concatenate(blocks)

    def close(self) -> None:
        self._stack.close()

    def _length(self) -> int:
        import av

        if self._stream.duration is not None and self._stream.time_base is not None:
            return int(self._stream.duration * self._stream.time_base * self.rate_hz)
        if self._container.duration is not None:
            return int(self._container.duration * self.rate_hz / av.time_base)
        return 0

    def _decoded(self) -> Iterator[FloatArray]:
        packed = Packed("flt", self.rate_hz, self.channels)
        for frame in self._container.decode(self._stream):
            yield from map(self._samples, packed.push(frame))
        yield from map(self._samples, packed.flush())

    def _samples(self, frame: av.AudioFrame) -> FloatArray:
        samples: FloatArray = frame.to_ndarray().reshape(-1, self.channels)
        return samples


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
