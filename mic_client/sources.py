"""Audio at the speed at which it would be heard, or a multiple of it.

What a stream client streams: where audio comes from, seen from the sender.

Samples in memory as a source.

Raw PCM from a pipe as a source: what ``arecord`` or ``ffmpeg`` write to standard output.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mic_client.errors import SourceError
from stream_server.wire.audio_format import AudioFormat


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio.

    Attributes:
        data: interleaved samples in the source's format, whole ones: a multiple of
            ``format.bytes_per_tick`` bytes.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Audio that was there and could not be kept; it becomes a gap, ``discarded``.

    Attributes:
        samples: how much, in samples a channel at the source's rate; above 0.
    """

    samples: int


SourceItem = Chunk | Lost


class Source(Protocol):
    """Audio, chunk by chunk, in one format; it is iterated over once.

    Iteration waits until the next chunk is due and ends with the audio. It raises
    :class:`~mic_client.errors.SourceError` where the audio cannot go on.
    """

    @property
    def format(self) -> AudioFormat:
        """The format of the chunks."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether audio goes on when nobody reads it, as a microphone's does.

        A live source is read while the connection is down, one that is not waits.
        """
        ...

    @property
    def is_real_time(self) -> bool:
        """Whether chunks come at the speed at which they would be heard.

        A server that is overloaded gives up some of it rather than fall behind; of other audio it
        gives up nothing.
        """
        ...

    def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Begin."""
        ...

    async def aclose(self) -> None:
        """Let go of the device or file. May be called twice and while another task iterates."""
        ...


class ArraySource:
    """Samples, paced as if they were heard now; streamed as ``pcm_s16le``.

    Args:
        samples: ``(samples,)`` or ``(samples, channels)``, −1 to 1.
        sample_rate_hz: 8000 to 48000.
        speed: audio seconds a second; :data:`~mic_client.sources.MAX_SPEED`: as fast as it goes.
        loop: begin again at the end, for ever.

    Raises:
        ProtocolError: a rate or a number of channels the protocol does not know.
    """

    is_live = False

    def __init__(
        self,
        samples: npt.NDArray[np.float32],
        sample_rate_hz: int,
        *,
        speed: float = 1.0,
        loop: bool = False,
    ) -> None:
        columns = samples if samples.ndim == 2 else samples[:, np.newaxis]
        self.format = AudioFormat("pcm_s16le", sample_rate_hz, columns.shape[1])
        self._data = np.rint(np.clip(columns, -1, 1) * 32_767).astype("<i2").tobytes()
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


_MAX_WAITING_CHUNKS = 8


class StdinSource:
    """Raw PCM without a header, from standard input or another file descriptor.

    A thread of its own reads, because neither files nor terminals nor Windows' pipes can be waited
    for by an event loop. It stops reading when :data:`_MAX_WAITING_CHUNKS` chunks wait; the pipe
    then fills up, and the program at its other end waits.

    Args:
        audio_format: of the bytes.
        descriptor: to read from; None: standard input. It is left open.
        live: what comes is of this moment and goes on by itself, as from ``arecord``: it is read
            while there is no connection. Otherwise whoever writes it has to wait.
        chunk_ms: most audio of one chunk, 20 to 100 ms; what comes in smaller pieces goes on in
            smaller pieces.
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
            raise ValueError(f"got chunk_ms {chunk_ms}, expected 20 to 100")
        self.format = audio_format
        self.is_live = self.is_real_time = live
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        ticks = audio_format.sample_rate_hz * chunk_ms // 1000
        self._chunk_bytes = ticks * audio_format.bytes_per_tick
        self._closing = threading.Event()
        # Bounded by the semaphore.
        self._arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._room = threading.Semaphore(_MAX_WAITING_CHUNKS)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield what comes, whole samples of all channels; a rest at the end is dropped."""
        loop = asyncio.get_running_loop()
        # A daemon: a read that never returns must not keep the process alive.
        threading.Thread(target=self._read, args=(loop,), name="stdin-source", daemon=True).start()
        rest = b""
        while True:
            data = await self._arrived.get()
            self._room.release()
            if isinstance(data, OSError):
                raise SourceError(f"standard input cannot be read: {data.strerror}") from data
            if not data or self._closing.is_set():
                return
            whole = (len(rest) + len(data)) // self.format.bytes_per_tick
            joined = rest + data
            cut = whole * self.format.bytes_per_tick
            rest = joined[cut:]
            if cut:
                yield Chunk(joined[:cut])

    async def aclose(self) -> None:
        """Stop reading; a read that waits for bytes is left behind and what it gets is dropped."""
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
                return  # The loop is closed.


MAX_SPEED = math.inf
"""As fast as the receiver takes it."""

_MAX_CATCH_UP_S = 1.0
"""A delay up to here is made good, so that nothing drifts; a longer one means that somebody was
waited for, and a burst would only hurt them."""


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
            raise ValueError(f"got speed {speed:g}, expected more than 0")
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
        if now_s - due_s > _MAX_CATCH_UP_S:
            self._began_s += now_s - due_s
        await asyncio.sleep(max(0.0, due_s - now_s))
