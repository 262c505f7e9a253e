"""A microphone as a source, through PortAudio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from mic_client.capture import CaptureQueue
from mic_client.devices import (
    InputDevice,
    choose_sample_rate,
    device_errors,
    find_device,
    load_sounddevice,
)
from mic_client.errors import DeviceError, NoSuchDeviceError
from mic_client.source import Lost, SourceItem
from stream_server.protocol.audio_format import AudioFormat

__all__ = ["MicrophoneSource"]

_FIRST_BLOCK_TIMEOUT_S = 10.0
"""A sound server may take seconds to begin."""
_STALL_TIMEOUT_S = 3.0
"""PortAudio does not always tell when a device is pulled out: blocks just stop."""
_REOPEN_EVERY_S = 1.0


class MicrophoneSource:
    """A microphone.

    What is recorded while nobody reads waits, up to ``queue_s``; more is thrown away, counted, and
    comes as :class:`~mic_client.source.Lost`, as does what PortAudio or the system lost. When the
    device goes away it is looked for again for ``reopen_timeout_s``; the time without it is lost.

    Args:
        device: number, name or part of a name; None: the default one.
        sample_rate_hz: 8000 to 48000; None: 16000 where the device takes it, else its own.
        num_channels: 1 to 8.
        chunk_ms: audio of one chunk, 20 to 100 ms.
        queue_s: how much audio waits at most for the reader, s.
        reopen_timeout_s: how long a device that went away is waited for, s; 0: not at all.

    Raises:
        PortAudioMissingError: PortAudio is not installed.
        NoSuchDeviceError: there is no such device.
        DeviceError: the device does not record like that.
    """

    is_live = True
    is_real_time = True

    def __init__(
        self,
        device: int | str | None = None,
        *,
        sample_rate_hz: int | None = None,
        num_channels: int = 1,
        chunk_ms: int = 40,
        queue_s: float = 2.0,
        reopen_timeout_s: float = 30.0,
    ) -> None:
        if not 20 <= chunk_ms <= 100:
            raise ValueError(f"got chunk_ms {chunk_ms}, expected 20 to 100")
        self._wanted = device
        self.device: InputDevice = find_device(device)
        rate_hz = choose_sample_rate(self.device, num_channels, sample_rate_hz)
        self.format = AudioFormat("pcm_s16le", rate_hz, num_channels)
        self._block_samples = rate_hz * chunk_ms // 1000
        self._max_blocks = max(2, round(queue_s * 1000 / chunk_ms))
        self._reopen_timeout_s = reopen_timeout_s
        self._stream: Any = None
        self._queue: CaptureQueue | None = None
        self._num_earlier_overruns = 0
        self._changed = asyncio.Event()
        self._has_ended = False
        self._is_closed = False

    @property
    def num_overruns(self) -> int:
        """How often audio was lost so far because somebody was too slow."""
        return self._num_earlier_overruns + (self._queue.num_overruns if self._queue else 0)

    async def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Record."""
        loop = asyncio.get_running_loop()
        try:
            await self._open()
            heard_s = loop.time()
            away_since_s: float | None = None
            timeout_s = _FIRST_BLOCK_TIMEOUT_S
            while not self._is_closed:
                assert self._queue is not None, "it is open"
                if (item := self._queue.take()) is not None:
                    heard_s, timeout_s = loop.time(), _STALL_TIMEOUT_S
                    if away_since_s is not None:
                        away_samples = self._samples(heard_s - away_since_s) - self._block_samples
                        away_since_s = None
                        if away_samples > 0:
                            yield Lost(away_samples)
                    yield item
                elif self._has_ended or not await self._wait(heard_s + timeout_s - loop.time()):
                    if (rest := await self._close()) is not None:
                        yield rest
                    if away_since_s is None:
                        away_since_s = heard_s
                    await self._reopen(away_since_s + self._reopen_timeout_s)
                    heard_s, timeout_s = loop.time(), _FIRST_BLOCK_TIMEOUT_S
        finally:
            await self._close()

    async def aclose(self) -> None:
        """Stop recording; what waits is dropped."""
        self._is_closed = True
        self._changed.set()
        await self._close()

    async def _wait(self, timeout_s: float) -> bool:
        """Wait for the device's thread; return False if it has nothing to say for that long."""
        if self._changed.is_set():
            self._changed.clear()
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._changed.wait()
            self._changed.clear()
            return True
        return False

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # The loop is closed; the stream soon will be.
                loop.call_soon_threadsafe(self._changed.set)

        if self._queue is not None:
            self._num_earlier_overruns += self._queue.num_overruns
        queue = CaptureQueue(self._max_blocks, self.format.sample_rate_hz, wake)
        self._queue, self._has_ended = queue, False

        def ended() -> None:
            if self._queue is queue:
                self._has_ended = True
                wake()

        await _in_thread(lambda: self._start_stream(queue, ended))

    def _start_stream(self, queue: CaptureQueue, ended: Callable[[], None]) -> None:
        sounddevice = load_sounddevice()

        def recorded(block: Any, num_samples: int, times: Any, status: Any) -> None:
            at_s = times.inputBufferAdcTime or times.currentTime
            queue.put(bytes(block), num_samples, at_s, bool(status.input_overflow))

        with device_errors(self.device.name):
            self._stream = sounddevice.RawInputStream(
                device=self.device.index,
                samplerate=self.format.sample_rate_hz,
                channels=self.format.num_channels,
                dtype="int16",
                blocksize=self._block_samples,
                latency="high",
                callback=recorded,
                finished_callback=ended,
            )
            self._stream.start()

    async def _close(self) -> Lost | None:
        """Close the stream; return what was lost at its end."""
        stream, self._stream = self._stream, None
        if stream is not None:
            # Without complaint: a device that was pulled out cannot be stopped in good order.
            await _in_thread(lambda: stream.close(ignore_errors=True))
        return self._queue.take_rest() if self._queue is not None else None

    async def _reopen(self, deadline_s: float) -> None:
        """Look for the device until it records again.

        Raises:
            DeviceError: it did not come back in time.
        """
        loop = asyncio.get_running_loop()
        lost_name = self.device.name
        while not self._is_closed:
            if loop.time() >= deadline_s:
                raise DeviceError(
                    f"{lost_name}: it went away and did not come back within"
                    f" {self._reopen_timeout_s:g} s; connect it and start again"
                )
            await asyncio.sleep(_REOPEN_EVERY_S)
            with suppress(DeviceError, NoSuchDeviceError):
                await _in_thread(self._find_again)
                await self._open()
                return

    def _find_again(self) -> None:
        sounddevice = load_sounddevice()
        with device_errors(self.device.name):
            # The only way to have PortAudio look again. It closes every stream of the process, but
            # this one is closed already, and a process rarely records with two devices.
            sounddevice._terminate()
            sounddevice._initialize()
        by_default = self._wanted is None
        # By name: numbers change when devices come and go.
        self.device = find_device(None if by_default else self.device.name)

    def _samples(self, duration_s: float) -> int:
        return round(duration_s * self.format.sample_rate_hz)


async def _in_thread(call: Callable[[], Any]) -> None:
    """Run what PortAudio takes its time for; to its end, though the caller may be cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
