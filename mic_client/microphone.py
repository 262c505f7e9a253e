"""A microphone as a source, through PortAudio.

::

    PortAudio's thread ── put() ──▶ CaptureQueue ── take() ──▶ MicrophoneSource (event loop)

PortAudio calls back in a thread with a deadline of one block; what takes longer there loses audio.
So the callback takes no lock that the event loop may hold, and never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from statistics import median
from typing import Any

from mic_client.devices import (
    InputDevice,
    choose_sample_rate,
    device_errors,
    find_device,
    load_sounddevice,
)
from mic_client.errors import DeviceError, NoSuchDeviceError
from mic_client.sources import Chunk, Lost, SourceItem
from stream_server.wire.audio_format import AudioFormat


class OverflowMeter:
    """Tells how much audio an overflow cost.

    PortAudio tells that samples were discarded (``paInputOverflow``), not how many. The time at
    which a block's first sample was recorded tells: it runs ahead of the samples counted.
    """

    _NUM_REMEMBERED = 16

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._counted = 0
        self._leads: deque[float] = deque(maxlen=self._NUM_REMEMBERED)

    def take(self, recorded_at_s: float, num_samples: int, overflowed: bool) -> int:
        """Count one block; return the samples a channel that are missing before it.

        Args:
            recorded_at_s: when its first sample was recorded, by any clock that runs evenly.
            num_samples: its length a channel.
            overflowed: whether PortAudio reports that audio was discarded before it.
        """
        lead = recorded_at_s * self._rate_hz - self._counted
        lost = 0
        if overflowed and self._leads:
            # The median, because single times are off by some milliseconds; of recent blocks,
            # because the clock of the device and that of the times drift apart by seconds a day.
            lost = max(0, round(lead - median(self._leads)))
        self._counted += lost + num_samples
        self._leads.append(lead - lost)
        return lost


class CaptureQueue:
    """Blocks of audio on their way from the device's thread, which puts, to the one that takes.

    When ``max_blocks`` wait, new blocks are discarded, and :class:`~mic_client.sources.Lost` takes
    their place: the callback cannot wait, and memory is bounded.

    Args:
        wake: called by ``put``, in the device's thread, when there is something to take.
    """

    def __init__(self, max_blocks: int, sample_rate_hz: int, wake: Callable[[], None]) -> None:
        self._max_blocks = max_blocks
        self._wake = wake
        self._meter = OverflowMeter(sample_rate_hz)
        # append() and popleft() of a deque are atomic in CPython, so no lock is needed. Nothing
        # else is shared by the two threads.
        self._items: deque[SourceItem] = deque()
        self._lost_samples = 0

    def put(self, data: bytes, num_samples: int, recorded_at_s: float, overflowed: bool) -> None:
        """Add one block from the device. Never waits."""
        self._lost_samples += self._meter.take(recorded_at_s, num_samples, overflowed)
        if len(self._items) >= self._max_blocks:
            self._lost_samples += num_samples
            return
        if self._lost_samples:
            self._items.append(Lost(self._lost_samples))
            self._lost_samples = 0
        self._items.append(Chunk(data))
        self._wake()

    def take(self) -> SourceItem | None:
        """Remove and return the next item; None: nothing waits."""
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def take_rest(self) -> Lost | None:
        """Return what was lost after the last block. Call it once nothing is put any more."""
        lost, self._lost_samples = self._lost_samples, 0
        return Lost(lost) if lost else None


_FIRST_BLOCK_TIMEOUT_S = 10.0
"""PulseAudio and PipeWire start when they are first used, and may take seconds for it."""
_STALL_TIMEOUT_S = 3.0
"""PortAudio does not always tell that a device was pulled out: blocks just stop."""
_REOPEN_EVERY_S = 1.0


class MicrophoneSource:
    """A microphone.

    Audio that is not read in time waits, up to ``queue_s``; more is discarded and comes as
    :class:`~mic_client.sources.Lost`, as does what PortAudio or the system lost. When the device
    goes away it is looked for again for ``reopen_timeout_s``; the time without it is lost.

    Args:
        device: number, name or part of a name; None: the default one.
        sample_rate_hz: 8000 to 48000; None: 16000 where the device takes it, else its own.
        num_channels: 1 to 8.
        chunk_ms: audio of one chunk, 20 to 100.
        queue_s: how much audio waits at most for the reader.
        reopen_timeout_s: how long a device that went away is waited for; 0: not at all.

    Raises:
        PortAudioMissingError: PortAudio is not installed.
        NoSuchDeviceError: there is no such device.
        DeviceError: the device does not record in this format.
    """

    is_live = True
    is_real_time = True

    def __init__(
        self,
        *,
        device: int | str | None = None,
        sample_rate_hz: int | None = None,
        num_channels: int = 1,
        chunk_ms: int = 40,
        queue_s: float = 2.0,
        reopen_timeout_s: float = 30.0,
    ) -> None:
        if not 20 <= chunk_ms <= 100:
            raise ValueError(f"got chunk_ms {chunk_ms}; it must be 20 to 100")
        self._wanted = device
        self.device: InputDevice = find_device(device)
        rate_hz = choose_sample_rate(self.device, num_channels, sample_rate_hz)
        self.format = AudioFormat("pcm_s16le", rate_hz, num_channels)
        self._block_samples = rate_hz * chunk_ms // 1000
        self._max_blocks = max(2, round(queue_s * 1000 / chunk_ms))
        self._reopen_timeout_s = reopen_timeout_s
        self._stream: Any = None
        self._queue: CaptureQueue | None = None
        self._changed = asyncio.Event()
        self._has_ended = False
        self._is_closed = False

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
                    # The first block after a loss: what is lost ends where this block begins.
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
        """Wait for the device's thread; return False if nothing came for that long."""
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
            with suppress(RuntimeError):  # The loop is closed; the device soon will be.
                loop.call_soon_threadsafe(self._changed.set)

        queue = CaptureQueue(self._max_blocks, self.format.sample_rate_hz, wake)
        self._queue, self._has_ended = queue, False

        def ended() -> None:
            # Of an earlier stream of the device: its end may be reported after the reopening.
            if self._queue is queue:
                self._has_ended = True
                wake()

        await _in_thread(lambda: self._start_stream(queue, ended))

    def _start_stream(self, queue: CaptureQueue, ended: Callable[[], None]) -> None:
        sounddevice = load_sounddevice()

        def recorded(block: Any, num_samples: int, times: Any, status: Any) -> None:
            # Some host APIs leave the time of the ADC at 0.
            at_s = times.inputBufferAdcTime or times.currentTime
            queue.put(bytes(block), num_samples, at_s, bool(status.input_overflow))

        with device_errors(self.device.name):
            self._stream = sounddevice.RawInputStream(
                device=self.device.index,
                samplerate=self.format.sample_rate_hz,
                channels=self.format.num_channels,
                dtype="int16",
                blocksize=self._block_samples,
                # The device's larger buffer loses less audio on a busy machine, and its delay is
                # small against the half second between two points.
                latency="high",
                callback=recorded,
                finished_callback=ended,
            )
            self._stream.start()

    async def _close(self) -> Lost | None:
        """Close the stream; return what was lost at its end."""
        stream, self._stream = self._stream, None
        if stream is not None:
            # A device that was pulled out cannot be stopped in good order, which is no error here.
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
                    f"{lost_name}: disconnected and not back within"
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
            # PortAudio makes its list of devices when it is initialised, and never again. This
            # closes every stream of the process; this one is closed already, and a process rarely
            # records with two devices.
            sounddevice._terminate()
            sounddevice._initialize()
        # By name: numbers change when devices come and go.
        self.device = find_device(None if self._wanted is None else self.device.name)

    def _samples(self, duration_s: float) -> int:
        return round(duration_s * self.format.sample_rate_hz)


async def _in_thread(call: Callable[[], Any]) -> None:
    """Run a call of PortAudio that may block, to its end also if the caller is cancelled.

    A stream that is opened while the caller goes away would otherwise never be closed.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
