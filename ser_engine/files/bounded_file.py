"""A recording that is read no further than a limit, whatever its header says of its length.

A small file can hold many hours: what is decoded counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Warning
from ser_engine.types import FloatArray

_MAX_FLAC_CHANNELS = 8


class BoundedFile:
    """An open audio file with an end.

    Args:
        file: is left with this one.
        max_s: longest recording, s.
        hint: what to do about a longer one.
        keep: a FLAC file that is written with the 16 kHz audio as it is read; None: none is.

    Attributes:
        is_kept: whether it is: FLAC has eight channels at most.

    Raises:
        AudioError: the header tells of more.
    """

    def __init__(
        self, file: AudioFile, *, max_s: float, hint: str, keep: Path | None = None
    ) -> None:
        self._file = file
        self._max_s = max_s
        self._hint = hint
        self._keep = keep
        self.is_kept = keep is not None and file.channels <= _MAX_FLAC_CHANNELS
        self._check(file.header_s)

    @property
    def channels(self) -> int:
        return self._file.channels

    @property
    def rate_hz(self) -> int:
        return self._file.rate_hz

    @property
    def header_s(self) -> float:
        return self._file.header_s

    def warnings(self) -> tuple[Warning, ...]:
        """Return what is to be said of the file's length, once it is read to its end."""
        return self._file.warnings()

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.__exit__(*exc)

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the audio as ``(channels, samples)`` at 16 kHz.

        Raises:
            AudioError: the file is damaged, or goes on beyond the limit.
        """
        if self._keep is None or not self.is_kept:
            yield from self._blocks()
            return
        with soundfile.SoundFile(
            str(self._keep), "w", SAMPLE_RATE_HZ, self.channels, "PCM_16", format="FLAC"
        ) as kept:
            for block in self._blocks():
                kept.write(block.T.clip(-1, 1))
                yield block

    def _blocks(self) -> Iterator[FloatArray]:
        num_samples = 0
        for block in self._file.blocks():
            num_samples += block.shape[1]
            self._check(num_samples / SAMPLE_RATE_HZ)
            yield block

    def _check(self, seconds: float) -> None:
        if seconds > self._max_s:
            raise AudioError(
                f"got {seconds:.0f} s of audio or more, expected {self._max_s:.0f} s or less;"
                f" {self._hint}"
            )
