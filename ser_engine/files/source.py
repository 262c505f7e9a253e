"""Where the audio of an analysis comes from: an open file, or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ser_engine.errors import AudioError
from ser_engine.files.audio import MAX_CHANNELS, MAX_LEVEL, MAX_RATE_HZ, MIN_RATE_HZ
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.resample import resampler_of_file
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
        audio: ``(samples,)`` or ``(channels, samples)``, or blocks of ``(samples,)``: floating
            point at full scale ±1, or integers of 8 bits without a sign, 16 or 32 with one. Any
            array that NumPy reads will do: PyTorch's on the CPU, pandas', lists of floats.
        rate_hz: of the samples; blocks are at 16 kHz.
        as_streamed: see :class:`~ser_engine.files.audio.AudioFile`.

    Raises:
        AudioError: it is nothing of the kind.
    """

    def __init__(
        self,
        audio: npt.ArrayLike | Iterator[npt.NDArray[np.floating]],
        rate_hz: int = SAMPLE_RATE_HZ,
        *,
        as_streamed: bool = False,
    ) -> None:
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise AudioError(
                f"got a sample rate of {rate_hz} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )
        self.channels = 1
        self.rate_hz = rate_hz
        self.header_s = 0.0
        self._as_streamed = as_streamed
        self._blocks: Iterable[npt.NDArray[np.generic]]
        if isinstance(audio, Iterator):
            self._blocks = audio
            return
        samples = _array(audio)
        self._check_form(samples, max_axes=2)
        self._blocks = [samples]
        self.channels = max(len(samples), 1) if samples.ndim == 2 else 1
        self.header_s = samples.shape[-1] / rate_hz

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the audio as ``(channels, samples)``.

        Raises:
            AudioError: an array has another form, or holds NaN, infinity or what is beyond
                :data:`~ser_engine.files.audio.MAX_LEVEL`.
        """
        resample, finish = resampler_of_file(
            self.rate_hz, self.channels, as_streamed=self._as_streamed
        )
        for block in map(_array, self._blocks):
            self._check_form(block, max_axes=2 if self.channels > 1 else 1)
            samples = np.atleast_2d(_full_scale(block))
            if not np.isfinite(samples).all():
                raise AudioError("got NaN or infinite samples, expected finite ones")
            if (level := float(np.abs(samples).max(initial=0))) > MAX_LEVEL:
                raise AudioError(f"got a sample of {level:.3g}, expected full scale to be 1")
            yield np.ascontiguousarray(resample(np.ascontiguousarray(samples.T)).T)
        if self.rate_hz != SAMPLE_RATE_HZ:
            yield np.ascontiguousarray(finish().T)

    @staticmethod
    def _check_form(audio: npt.NDArray[np.generic], max_axes: int) -> None:
        has_axes = 1 <= audio.ndim <= max_axes
        # More is (samples, channels), turned round.
        if audio.ndim == 2:
            has_axes = has_axes and 1 <= len(audio) <= MAX_CHANNELS
        if not has_axes or not (audio.dtype.kind == "f" or audio.dtype in _INTEGERS):
            more = f" or (channels, samples) of at most {MAX_CHANNELS}" if max_axes == 2 else ""
            raise AudioError(
                f"got {audio.dtype} samples of shape {audio.shape}, expected (samples,){more} of"
                f" floating point, full scale ±1, or of {', '.join(map(str, _INTEGERS))}"
            )


_INTEGERS = {np.dtype(np.uint8): 128, np.dtype(np.int16): 1 << 15, np.dtype(np.int32): 1 << 31}
"""Integers that samples come as, and their full scale; those without a sign rest at it."""


def _array(audio: npt.ArrayLike) -> npt.NDArray[np.generic]:
    if isinstance(audio, bytes | bytearray) or not (
        isinstance(audio, Sequence) or hasattr(audio, "__array__")
    ):
        raise AudioError(
            f"got an object of type {type(audio).__name__}, expected the path of a file, or samples"
        )
    try:
        return np.asarray(audio)
    except (TypeError, ValueError, RuntimeError) as error:
        # Lists of different lengths; a tensor on a GPU.
        raise AudioError(f"got samples that are no array: {error}") from error


def _full_scale(samples: npt.NDArray[np.generic]) -> FloatArray:
    with np.errstate(over="ignore"):
        values = samples.astype(np.float32, copy=False)
    if samples.dtype.kind == "f":
        return values
    full_scale = np.float32(_INTEGERS[samples.dtype])
    return (values - full_scale if samples.dtype.kind == "u" else values) / full_scale


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
