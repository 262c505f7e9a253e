"""Recordings as sources: files of any format soundfile reads, and the sample call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from mic_client.errors import AudioFileError
from mic_client.sources import Chunk, Pacer, chunk_samples
from stream_server.wire.audio_format import MAX_CHANNELS, SAMPLE_RATES_HZ, AudioFormat, Encoding

SAMPLE_CALL_ROLES = ("agent", "customer")
"""Roles of the sample call's channels, left and right."""

_SAMPLE_CALL = Path(__file__).parent / "sample_call.ogg"

_INT16_SUBTYPES = frozenset({"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"})
"""libsndfile's names of what 16 bits hold without loss; everything else is streamed as float."""


class FileSource:
    """A recording, paced as if it were heard now.

    The server gets the samples of the file: 16-bit files are sent as ``pcm_s16le``, others as
    ``pcm_f32le``. Only a rate that the protocol does not have is resampled, to the nearest it has.

    Args:
        path: of the file.
        speed: audio seconds a second; :data:`~mic_client.sources.MAX_SPEED`: as fast as it goes.
        loop: begin again at the end, for ever.

    Raises:
        AudioFileError: the file is missing, empty, not audio, or has too many channels.
    """

    is_live = False

    def __init__(
        self,
        path: str | Path,
        *,
        speed: float = 1.0,
        loop: bool = False,
    ) -> None:
        self.path = Path(path)
        self._pacer = Pacer(speed)
        self.is_real_time = speed == 1.0
        self._loop = loop
        self._file = _open(self.path)
        self._rate_hz: int = self._file.samplerate
        rate_hz = min(max(self._rate_hz, SAMPLE_RATES_HZ[0]), SAMPLE_RATES_HZ[-1])
        lossless = self._file.subtype in _INT16_SUBTYPES and rate_hz == self._rate_hz
        encoding: Encoding = "pcm_s16le" if lossless else "pcm_f32le"
        self.format = AudioFormat(encoding, rate_hz, self._file.channels)
        self._chunk_samples = chunk_samples(self._rate_hz, speed)

    @property
    def duration_s(self) -> float:
        """Length of the file."""
        return float(self._file.frames) / self._rate_hz

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield the chunks when they are due: each when its last sample would have been heard."""
        num_samples = 0
        for data in self._blocks():
            num_samples += len(data) // self.format.bytes_per_tick
            await self._pacer.wait_for(num_samples / self.format.sample_rate_hz)
            # aclose() may have been called meanwhile.
            if self._file.closed:
                return
            yield Chunk(data)

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()

    def _blocks(self) -> Iterator[bytes]:
        resample = self._resampler()
        dtype, kind = (
            ("int16", "<i2") if self.format.encoding == "pcm_s16le" else ("float32", "<f4")
        )
        while not self._file.closed:
            try:
                block = self._file.read(self._chunk_samples, dtype=dtype, always_2d=True)
                # A shorter block is the last one: libsndfile knows the length of the file.
                if at_end := len(block) < self._chunk_samples:
                    self._file.seek(0)
            except soundfile.SoundFileError as error:
                raise AudioFileError(f"{self.path}: cannot be read any further: {error}") from error
            at_end = at_end and not self._loop
            if resample is not None:
                block = resample.resample_chunk(block, last=at_end)
            if len(block):
                yield np.ascontiguousarray(block, dtype=kind).tobytes()
            if at_end:
                return

    def _resampler(self) -> Any:
        if self.format.sample_rate_hz == self._rate_hz:
            return None
        from soxr import ResampleStream

        return ResampleStream(
            self._rate_hz, self.format.sample_rate_hz, self.format.num_channels, dtype="float32"
        )


def _open(path: Path) -> Any:
    if not path.is_file():
        raise AudioFileError(f"{path}: there is no such file")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        raise AudioFileError(
            f"{path}: not audio in a format that can be read: WAV, FLAC, Ogg, MP3 or AIFF;"
            f" `ffmpeg -i {path.name} audio.wav` converts most others"
        ) from error
    if file.channels > MAX_CHANNELS:
        file.close()
        raise AudioFileError(
            f"{path}: {file.channels} channels, more than the {MAX_CHANNELS} of a stream;"
            " mix or split them"
        )
    if file.frames == 0:
        file.close()
        raise AudioFileError(f"{path}: no audio in the file")
    return file


def load_sample_call() -> tuple[npt.NDArray[np.float32], int]:
    """Return a telephone call to try the monitor with, and its sample rate, Hz.

    Both voices are synthesised (``scripts/load_sample_call.py``). The agent stays calm. The
    customer begins calm, gets angry after eighteen seconds, and calms down again.

    Returns:
        float32 ``(samples, 2)``, −1 to 1, 42 s.
    """
    samples, rate_hz = soundfile.read(_SAMPLE_CALL, dtype="float32")
    # Vorbis is lossy: where the call was at full scale its decoder goes beyond it.
    return np.clip(samples, -1.0, 1.0), rate_hz
