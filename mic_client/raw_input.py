"""Raw PCM from a pipe as a source: what ``arecord`` or ``ffmpeg`` write to standard output."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

from mic_client.errors import SourceError
from mic_client.source import Chunk
from stream_server.protocol.audio_format import AudioFormat

__all__ = ["StdinSource"]

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
