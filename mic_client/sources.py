"""Where a client's audio comes from: the interface, samples in memory, and a pipe.

A file is in :mod:`~mic_client.audio_file`, a microphone in :mod:`~mic_client.microphone`.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mic_client.errors import SourceError
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.containers import container_of


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio.

    Attributes:
        data: interleaved samples in the source's format, whole ones: a multiple of
            ``format.bytes_per_tick`` bytes. If ``format.codec`` says how they are encoded: any
            bytes; of ``opus`` one packet.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Audio that was there and could not be kept. It becomes a gap with reason ``discarded``.

    Attributes:
        samples: how much, in samples a channel at the source's rate; above 0.
    """

    samples: int


SourceItem = Chunk | Lost


class Source(Protocol):
    """Audio, chunk by chunk, in one format; it is iterated over once.

    Iteration waits until the next chunk is due and ends with the audio. It raises
    :class:`~mic_client.errors.SourceError` if the audio cannot go on.
    """

    @property
    def format(self) -> AudioFormat:
        """The format of the chunks."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether audio goes on while it is not read, as a microphone's does.

        A live source is read while there is no connection; another one waits.
        """
        ...

    @property
    def is_real_time(self) -> bool:
        """Whether chunks come at the speed at which they would be heard.

        An overloaded server skips some of such audio rather than fall behind; of other audio it
        skips nothing, and reads more slowly instead.
        """
        ...

    def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Begin; the iterator need not be a generator."""
        ...

    async def aclose(self) -> None:
        """Release the device or file. May be called twice, and while another task iterates."""
        ...


MAX_SPEED = math.inf
"""As fast as the receiver takes it."""

_MAX_CATCH_UP_S = 1.0
"""A delay up to here is made up for, so that nothing drifts. After a longer one, such as a
reconnection, a burst would hit a server that has just come back."""

_CHUNK_S = 0.04
_MAX_CHUNK_S = 1.0


def chunk_samples(sample_rate_hz: int, speed: float) -> int:
    """Return the audio of one chunk, in samples a channel.

    40 ms at the speed at which it is heard. Faster, chunks grow, up to a second: servers bound the
    number of messages.
    """
    return round(sample_rate_hz * min(_MAX_CHUNK_S, _CHUNK_S * max(1.0, speed)))


class Pacer:
    """Waits until a position in the audio is due.

    Deadlines are counted from the beginning, so errors of single waits do not add up.

    Args:
        speed: audio seconds a second; :data:`MAX_SPEED`: never wait.
    """

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"got speed {speed:g}; it must be above 0")
        self._speed = speed
        self._began_s: float | None = None

    async def wait_for(self, position_s: float) -> None:
        """Return when the audio at ``position_s`` has been heard. Always lets other tasks run."""
        if math.isinf(self._speed):
            await asyncio.sleep(0)
            return
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        due_s = self._began_s + position_s / self._speed
        # All later deadlines move with this one.
        if now_s - due_s > _MAX_CATCH_UP_S:
            self._began_s += now_s - due_s
        await asyncio.sleep(max(0.0, due_s - now_s))


class ArraySource:
    """Samples, paced as if they were heard now; streamed as ``pcm_s16le``.

    Args:
        samples: ``(samples,)`` or ``(samples, channels)``: floating point, −1 to 1, or int16. Any
            array that NumPy reads will do: PyTorch's on the CPU, pandas', lists of floats.
        sample_rate_hz: 8000 to 48000.
        speed: audio seconds a second; :data:`MAX_SPEED`: as fast as it goes.
        loop: begin again at the end, for ever.

    Raises:
        SourceError: they are no such samples, or not finite.
        ProtocolError: a rate or a number of channels the protocol does not know.
    """

    is_live = False

    def __init__(
        self,
        samples: npt.ArrayLike,
        sample_rate_hz: int,
        *,
        speed: float = 1.0,
        loop: bool = False,
    ) -> None:
        columns = _pcm16(samples)
        self.format = AudioFormat("pcm_s16le", sample_rate_hz, columns.shape[1])
        self._data = columns.tobytes()
        self._pacer = Pacer(speed)
        self.is_real_time = speed == 1.0
        self._loop = loop
        self._chunk_bytes = chunk_samples(sample_rate_hz, speed) * self.format.bytes_per_tick
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield the chunks when they are due: each when its last sample would have been heard."""
        num_bytes = 0
        while True:
            for start in range(0, len(self._data), self._chunk_bytes):
                data = self._data[start : start + self._chunk_bytes]
                num_bytes += len(data)
                await self._pacer.wait_for(num_bytes / self.format.bytes_per_s)
                if self._is_closed:
                    return
                yield Chunk(data)
            if not self._loop or not self._data:
                return

    async def aclose(self) -> None:
        """End the iteration."""
        self._is_closed = True


def _pcm16(samples: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Return samples as little-endian int16 ``(samples, channels)``."""
    try:
        given = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SourceError(f"got samples that are no array: {error}") from error
    if given.ndim not in (1, 2) or not (given.dtype.kind == "f" or given.dtype == np.int16):
        raise SourceError(
            f"got {given.dtype} samples of shape {given.shape}, expected (samples,) or"
            " (samples, channels) of floating point, full scale ±1, or of int16"
        )
    columns = given if given.ndim == 2 else given[:, np.newaxis]
    if columns.dtype.kind == "f":
        if not np.isfinite(columns).all():
            raise SourceError("got NaN or infinite samples, expected finite ones")
        # Not 32_768: +1.0 would overflow to -32_768.
        columns = np.rint(np.clip(columns, -1, 1) * 32_767)
    return columns.astype("<i2")


_MAX_WAITING_CHUNKS = 8
_SIGNATURE_BYTES = 12
"""All that a container of Opus needs to be known by."""


class StdinSource:
    """Audio from standard input or another file descriptor.

    Raw PCM without a header, or encoded audio, which is passed on as it comes: the server decodes
    it. Of ``opus`` it has to be in a container, since a pipe does not tell packets apart.

    A thread of its own reads, because an event loop cannot wait for files, terminals and the pipes
    of Windows. It stops reading when :data:`_MAX_WAITING_CHUNKS` chunks wait; the pipe then fills
    up, and the program at its other end waits.

    Args:
        audio_format: of the bytes; with a ``codec``: of what the server makes of them.
        descriptor: to read from; None: standard input. It is left open.
        live: the audio is of this moment and goes on by itself, as from ``arecord``: it is read
            while there is no connection. Otherwise the program that writes it has to wait.
        chunk_ms: most audio of one chunk, 20 to 100 ms; what comes in smaller pieces goes on in
            smaller pieces. Of encoded audio a chunk has at most as many bytes as it would have
            decoded.
    """

    def __init__(
        self,
        audio_format: AudioFormat,
        *,
        descriptor: int | None = None,
        live: bool = False,
        chunk_ms: int = 100,
    ) -> None:
        if not 20 <= chunk_ms <= 100:
            raise ValueError(f"got chunk_ms {chunk_ms}; it must be 20 to 100")
        self.format = audio_format
        self.is_live = self.is_real_time = live
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        ticks = audio_format.sample_rate_hz * chunk_ms // 1000
        self._chunk_bytes = ticks * audio_format.bytes_per_tick
        self._tick_bytes = 1 if audio_format.codec else audio_format.bytes_per_tick
        self._closing = threading.Event()
        # Bounded by the semaphore: put_nowait is called on the loop, where it must not wait.
        self._arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._room = threading.Semaphore(_MAX_WAITING_CHUNKS)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield what comes, whole samples of all channels; a part of one at the end is dropped.

        Raises:
            SourceError: it cannot be read, or is Opus without a container.
        """
        loop = asyncio.get_running_loop()
        # A daemon: a read that never returns must not keep the process alive.
        threading.Thread(target=self._read, args=(loop,), name="stdin-source", daemon=True).start()
        # read() may end in the middle of a sample, or between two channels.
        rest = b""
        is_begun = self.format.codec != "opus"
        while True:
            data = await self._arrived.get()
            self._room.release()
            if isinstance(data, OSError):
                raise SourceError(f"standard input cannot be read: {data.strerror}") from data
            if self._closing.is_set():
                return
            joined = rest + data
            if not is_begun and joined:
                if len(joined) < _SIGNATURE_BYTES and data:
                    rest = joined
                    continue
                _check_container(joined)
                is_begun = True
            if not data:
                return
            cut = len(joined) // self._tick_bytes * self._tick_bytes
            rest = joined[cut:]
            if cut:
                yield Chunk(joined[:cut])

    async def aclose(self) -> None:
        """Stop reading. A read that waits for bytes cannot be ended; what it gets is dropped."""
        self._closing.set()
        self._arrived.put_nowait(b"")
        self._room.release()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        data: bytes | OSError = b" "
        while data and not isinstance(data, OSError) and not self._closing.is_set():
            self._room.acquire()
            try:
                data = os.read(self._descriptor, self._chunk_bytes)
            except OSError as error:
                data = error
            try:
                loop.call_soon_threadsafe(self._arrived.put_nowait, data)
            except RuntimeError:
                return  # The loop was closed while this thread read.


def _check_container(head: bytes) -> None:
    if container_of(head) is None:
        raise SourceError(
            "got 'opus' without a container on standard input, where nothing says where a packet"
            " ends; pack it in Ogg or WebM and say 'ogg' or 'webm', e.g. ffmpeg … -f ogg -"
        )


SILENT_DBFS = -100.0
"""The lowest level that is returned; digital silence would be −∞."""


def levels_dbfs(data: bytes, audio_format: AudioFormat) -> list[float]:
    """Return the level of each channel: its RMS relative to full scale 1.0, dBFS."""
    if not data:
        return [SILENT_DBFS] * audio_format.num_channels
    samples = _sizes(data, audio_format.encoding).reshape(-1, audio_format.num_channels)
    # Squares of float32 samples in float64: a stream of floats may hold 1e30, and NaN.
    power = np.nan_to_num(np.mean(np.square(samples, dtype=np.float64), axis=0))
    floor = 10 ** (SILENT_DBFS / 10)
    return [float(each) for each in 10 * np.log10(np.maximum(power, floor))]


class MeteredSource:
    """A source whose chunks are measured as they pass; encoded ones are not decoded for it.

    Args:
        heard: called with the levels of every chunk, one a channel, dBFS.
    """

    def __init__(self, source: Source, heard: Callable[[list[float]], None]) -> None:
        self._source = source
        self._heard = heard
        self.format = source.format
        self.is_live = source.is_live
        self.is_real_time = source.is_real_time

    async def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Yield what the source yields."""
        async for item in self._source:
            if isinstance(item, Chunk) and not self.format.codec:
                self._heard(levels_dbfs(item.data, self.format))
            yield item

    async def aclose(self) -> None:
        await self._source.aclose()


def _sizes(data: bytes, encoding: str) -> npt.NDArray[np.float32]:
    """Return samples, −1 to 1, of all channels in a row; of G.711 their sizes."""
    if encoding == "pcm_f32le":
        return np.frombuffer(data, "<f4")
    if encoding == "pcm_s16le":
        return (np.frombuffer(data, "<i2") / 32_768).astype(np.float32)
    # Sizes only, for a level: decoding is the server's, with the tables of ser_engine.raw_audio,
    # which a client's installation is without. ITU-T G.711: sign, three bits of exponent, four of
    # mantissa; sent with all bits (mu-law) or every second bit (A-law) inverted, so that silence
    # has many changes of the line.
    code = np.frombuffer(data, np.uint8).astype(np.int32)
    code ^= 0xFF if encoding == "mulaw" else 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    if encoding == "mulaw":
        magnitude = (((mantissa << 3) + 132) << exponent) - 132
    else:
        lowest = (mantissa << 4) + 8
        magnitude = np.where(exponent > 0, (lowest + 256) << np.maximum(exponent - 1, 0), lowest)
    return (magnitude / 32_768).astype(np.float32)
