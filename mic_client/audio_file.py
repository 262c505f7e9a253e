"""Recordings as sources: files of any format soundfile reads, and the sample call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from mic_client.errors import AudioFileError
from mic_client.sources import Chunk, Pacer, chunk_samples
from stream_server.wire.audio_format import MAX_CHANNELS, SAMPLE_RATES_HZ, AudioFormat, Encoding

SAMPLE_CALL_ROLES = ("agent", "customer")
"""Roles of the sample call's channels, left and right."""

_SAMPLE_CALL = Path(__file__).parent / "sample_call.ogg"

_BLOCK_FRAMES = 1 << 15

_INT16_SUBTYPES = frozenset({"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"})
"""libsndfile's names of what 16 bits hold without loss; everything else is streamed as float."""


class Recording(Protocol):
    """An open recording.

    Attributes:
        rate_hz: sample rate, Hz.
        num_frames: length in samples a channel, as far as it is known.
        is_16_bit: whether 16-bit samples hold all of the audio.
    """

    channels: int
    rate_hz: int
    num_frames: int
    is_16_bit: bool

    def read(self) -> npt.NDArray[np.float32]:
        """Return the next samples ``(samples, channels)``, any number; none at the end."""
        ...

    def close(self) -> None: ...


class SoundRecording:
    """A recording that soundfile reads; see :class:`Recording`.

    Raises:
        AudioFileError: the file is missing or not audio.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise AudioFileError(f"{path}: there is no such file")
        # By descriptor: soundfile does not open every name there can be, and believes endings.
        self._source = path.open("rb")
        try:
            self._file = soundfile.SoundFile(self._source.fileno(), closefd=False)
        except soundfile.SoundFileError as error:
            self._source.close()
            raise AudioFileError(
                f"{path}: not audio in a format that can be read: WAV, FLAC, Ogg, MP3 or AIFF;"
                f" `ffmpeg -i {path.name} audio.wav` converts most others"
            ) from error
        self.channels: int = self._file.channels
        self.rate_hz: int = self._file.samplerate
        self.num_frames: int = self._file.frames
        self.is_16_bit: bool = self._file.subtype in _INT16_SUBTYPES

    def read(self) -> npt.NDArray[np.float32]:
        block: npt.NDArray[np.float32] = self._file.read(
            _BLOCK_FRAMES, dtype="float32", always_2d=True
        )
        return block

    def close(self) -> None:
        self._file.close()
        self._source.close()


class FileSource:
    """A recording, paced as if it were heard now.

    The server gets the samples of the file: 16-bit files are sent as ``pcm_s16le``, others as
    ``pcm_f32le``. Only a rate that the protocol does not have is resampled, to the nearest it has.

    Args:
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
        open_recording: Callable[[Path], Recording] = SoundRecording,
    ) -> None:
        self.path = Path(path)
        self._pacer = Pacer(speed)
        self.is_real_time = speed == 1.0
        self._loop = loop
        self._open = open_recording
        self._file = open_recording(self.path)
        self._is_closed = False
        self._rate_hz = self._file.rate_hz
        try:
            rate_hz = min(max(self._rate_hz, SAMPLE_RATES_HZ[0]), SAMPLE_RATES_HZ[-1])
            lossless = self._file.is_16_bit and rate_hz == self._rate_hz
            encoding: Encoding = "pcm_s16le" if lossless else "pcm_f32le"
            self._check()
        except AudioFileError:
            self._file.close()
            raise
        self.format = AudioFormat(encoding, rate_hz, self._file.channels)
        self._chunk_samples = chunk_samples(self._rate_hz, speed)

    @property
    def duration_s(self) -> float:
        """Length of the file."""
        return self._file.num_frames / self._rate_hz

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield the chunks when they are due: each when its last sample would have been heard."""
        num_samples = 0
        for data in self._encoded():
            num_samples += len(data) // self.format.bytes_per_tick
            await self._pacer.wait_for(num_samples / self.format.sample_rate_hz)
            # aclose() may have been called meanwhile.
            if self._is_closed:
                return
            yield Chunk(data)
        self._file.close()

    async def aclose(self) -> None:
        """Close the file."""
        self._is_closed = True
        self._file.close()

    def _check(self) -> None:
        if self._file.channels > MAX_CHANNELS:
            raise AudioFileError(
                f"{self.path}: {self._file.channels} channels, more than the {MAX_CHANNELS} of a"
                " stream; mix or split them"
            )
        first = self._next()
        self._first = [first]
        if not len(first):
            raise AudioFileError(f"{self.path}: no audio in the file")

    def _next(self) -> npt.NDArray[np.float32]:
        try:
            return self._file.read()
        except Exception as error:
            # Damage makes libraries raise anything.
            raise AudioFileError(f"{self.path}: cannot be read any further: {error}") from error

    def _samples(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield samples as they are read, again and again in a loop."""
        while True:
            yield self._first.pop() if self._first else self._next()
            while not self._is_closed and len(block := self._next()):
                yield block
            if self._is_closed or not self._loop:
                return
            self._file.close()
            self._file = self._open(self.path)

    def _chunks(self) -> Iterator[tuple[npt.NDArray[np.float32], bool]]:
        """Yield chunks of one length, the last one shorter, and whether each is the last."""
        rest = np.empty((0, self.format.num_channels), dtype=np.float32)
        for block in self._samples():
            rest = np.concatenate([rest, block]) if len(rest) else block
            while len(rest) >= self._chunk_samples:
                yield rest[: self._chunk_samples], False
                rest = rest[self._chunk_samples :]
        yield rest, True

    def _encoded(self) -> Iterator[bytes]:
        resample = self._resampler()
        for chunk, is_last in self._chunks():
            block = chunk if resample is None else resample.resample_chunk(chunk, last=is_last)
            if not len(block):
                continue
            if self.format.encoding == "pcm_s16le":
                # Exact: these samples came from integers.
                yield np.rint(block * 32_768).astype("<i2").tobytes()
            else:
                yield np.ascontiguousarray(block, dtype="<f4").tobytes()

    def _resampler(self) -> Any:
        if self.format.sample_rate_hz == self._rate_hz:
            return None
        from soxr import ResampleStream

        return ResampleStream(
            self._rate_hz, self.format.sample_rate_hz, self.format.num_channels, dtype="float32"
        )


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
