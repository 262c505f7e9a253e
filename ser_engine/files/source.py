"""Where the audio of an analysis comes from: an open file, or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ser_engine.errors import AudioError
from ser_engine.files.audio import MAX_CHANNELS, MAX_LEVEL
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Warning
from ser_engine.types import FloatArray


class AudioSource(Protocol):
    """What an analysis needs of an audio file; :class:`ser_engine.files.audio.AudioFile` is one.

    One that has a method ``__exit__`` is left when the analysis ends; one that has a method
    ``warnings`` is asked at its end what is to be said of the file: see :class:`Warns`.
    """

    @property
    def channels(self) -> int: ...

    @property
    def rate_hz(self) -> int:
        """Sample rate the audio was had at, in Hz."""
        ...

    @property
    def header_s(self) -> float:
        """Length in seconds as far as it is known; 0: it is not."""
        ...

    def blocks(self) -> Iterator[FloatArray]:
        """Yield finite float32 ``(channels, samples)`` at 16 kHz, full scale ±1."""
        ...


@runtime_checkable
class Warns(Protocol):
    """A source that may have something to say of the whole file."""

    def warnings(self) -> tuple[Warning, ...]:
        """Return it; asked once all blocks were had."""
        ...


class ArraySource:
    """Samples in memory.

    Args:
        audio: floating point samples at 16 kHz, full scale ±1: ``(samples,)``, or
            ``(channels, samples)``, or blocks of ``(samples,)``.

    Raises:
        AudioError: an array is no such one.
    """

    def __init__(
        self, audio: npt.NDArray[np.floating] | Iterable[npt.NDArray[np.floating]]
    ) -> None:
        self.channels = 1
        self.rate_hz = SAMPLE_RATE_HZ
        self.header_s = 0.0
        self._blocks: Iterable[npt.NDArray[np.floating]] = (
            [audio] if isinstance(audio, np.ndarray) else audio
        )
        if isinstance(audio, np.ndarray):
            self._check_form(audio, max_axes=2)
            self.channels = max(len(audio), 1) if audio.ndim == 2 else 1
            self.header_s = audio.shape[-1] / SAMPLE_RATE_HZ

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the audio as ``(channels, samples)``.

        Raises:
            AudioError: an array has another form, or holds NaN, infinity or what is beyond
                :data:`~ser_engine.files.audio.MAX_LEVEL`.
        """
        for block in self._blocks:
            self._check_form(block, max_axes=2 if self.channels > 1 else 1)
            with np.errstate(over="ignore"):
                samples = np.atleast_2d(block.astype(np.float32, copy=False))
            if not np.isfinite(samples).all():
                raise AudioError("got NaN or infinite samples, expected finite ones")
            if (level := float(np.abs(samples).max(initial=0))) > MAX_LEVEL:
                raise AudioError(f"got a sample of {level:.3g}, expected full scale to be 1")
            yield samples

    @staticmethod
    def _check_form(audio: npt.NDArray[np.floating], max_axes: int) -> None:
        has_axes = 1 <= audio.ndim <= max_axes
        # More is (samples, channels), turned round.
        if audio.ndim == 2:
            has_axes = has_axes and 1 <= len(audio) <= MAX_CHANNELS
        if not has_axes or not np.issubdtype(audio.dtype, np.floating):
            more = f" or (channels, samples) of at most {MAX_CHANNELS}" if max_axes == 2 else ""
            raise AudioError(
                f"got {audio.dtype} samples of shape {audio.shape}, expected floating point"
                f" (samples,){more}, 16 kHz, full scale ±1"
            )


class UnreadableSource:
    """A file that could not be opened: the analysis of it ends with the reason."""

    channels = 1
    rate_hz = SAMPLE_RATE_HZ
    header_s = 0.0

    def __init__(self, error: AudioError) -> None:
        self._error = error

    def blocks(self) -> Iterator[FloatArray]:
        """Return what raises the error when it is asked for a block."""
        return map(self._fail, [self._error])

    @staticmethod
    def _fail(error: AudioError) -> FloatArray:
        raise error
