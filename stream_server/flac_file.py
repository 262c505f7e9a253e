"""One channel's FLAC file, readable at any time, also after a crash.

A FLAC file says in its header how long it is, and is written there when it is closed; without it
many readers refuse the file. So the header is kept up to date while the file grows.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from ser_engine.frames import SAMPLE_RATE_HZ

__all__ = ["FlacFile"]

# RFC 9639, section 8.2: behind "fLaC" and the header of the block come the smallest block size
# (16 bits), the largest one (16 bits), ..., and 36 bits of length from the middle of byte 21 on.
_BLOCK_SIZE_AT, _LENGTH_AT = 10, 21
_SILENCE = np.zeros(65_536, dtype=np.int16)


class FlacFile:
    """A file that is being written; mono, 16 bits, 16 kHz. Nobody but the owner may read it.

    Args:
        path: of the file, which must not exist.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._file = soundfile.SoundFile(
                self._fd, "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC", closefd=True
            )
        except BaseException:
            os.close(self._fd)
            raise
        self._written = 0

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        """Append samples, int16 ``(samples,)``.

        Raises:
            soundfile.LibsndfileError: they cannot be written.
        """
        self._file.write(samples)
        self._written += len(samples)

    def write_silence(self, num_samples: int) -> None:
        """Append zeros; errors as for :meth:`write`."""
        while num_samples > 0:
            part = _SILENCE[:num_samples]
            self.write(part)
            num_samples -= len(part)

    def update_header(self) -> None:
        """Let the header tell of what is in the file by now.

        Raises:
            OSError: it cannot be written.
        """
        block_samples = int.from_bytes(os.pread(self._fd, 2, _BLOCK_SIZE_AT), "big")
        if not block_samples or not self._written:
            return
        # The encoder holds a block back until the first sample behind it is there.
        complete = (self._written - 1) // block_samples * block_samples
        before = os.pread(self._fd, 1, _LENGTH_AT)[0] & 0xF0
        length = before << 32 | complete
        os.pwrite(self._fd, length.to_bytes(5, "big"), _LENGTH_AT)

    def close(self) -> None:
        """Write what is left and close the file; errors as for :meth:`write`."""
        self._file.close()
