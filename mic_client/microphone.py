"""A microphone as a source, through PortAudio.

How loud audio is, for a meter.

From the thread that PortAudio calls back in to the event loop, without ever waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from mic_client.devices import (
    InputDevice,
    choose_sample_rate,
    device_errors,
    find_device,
    load_sounddevice,
)
from mic_client.errors import DeviceError, NoSuchDeviceError
from mic_client.sources import Chunk, Lost, Source, SourceItem
from stream_server.wire.audio_format import AudioFormat

SILENT_DBFS = -100.0
"""Nothing is said to be quieter."""


def levels_dbfs(data: bytes, audio_format: AudioFormat) -> list[float]:
    """Return the level of each channel: its RMS relative to full scale 1.0, in dBFS."""
    if not data:
        return [SILENT_DBFS] * audio_format.num_channels
    samples = _decode(data, audio_format.encoding).reshape(-1, audio_format.num_channels)
    power = np.nan_to_num(np.mean(np.square(samples, dtype=np.float64), axis=0))
    floor = 10 ** (SILENT_DBFS / 10)
    return [float(each) for each in 10 * np.log10(np.maximum(power, floor))]


class MeteredSource:
    """A source whose chunks are measured as they pass.

    Args:
        source: what is measured.
        heard: called with the levels of every chunk, one a channel, in dBFS.
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
            if isinstance(item, Chunk):
                self._heard(levels_dbfs(item.data, self.format))
            yield item

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


def _decode(data: bytes, encoding: str) -> npt.NDArray[np.float32]:
    """Return samples, −1 to 1, of all channels in a row."""
    if encoding == "pcm_f32le":
        return np.frombuffer(data, "<f4")
    if encoding == "pcm_s16le":
        return (np.frombuffer(data, "<i2") / 32_768).astype(np.float32)
    code = np.frombuffer(data, np.uint8).astype(np.int32)
    # ITU-T G.711: sign, three bits of exponent, four of mantissa; sent inverted.
    code ^= 0xFF if encoding == "mulaw" else 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    if encoding == "mulaw":
        magnitude = (((mantissa << 3) + 132) << exponent) - 132
    else:
        lowest = (mantissa << 4) + 8
        magnitude = np.where(exponent > 0, (lowest + 256) << np.maximum(exponent - 1, 0), lowest)
    return (magnitude / 32_768).astype(np.float32)


class OverflowMeter:
    """How much audio an overflow cost.

    PortAudio tells that samples were thrown away, not how many. What is missing shows in the time
    at which each block's first sample was recorded: it runs ahead of the samples counted.

    Args:
        sample_rate_hz: of the device.
    """

    _NUM_REMEMBERED = 16

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._counted = 0
        self._leads: deque[float] = deque(maxlen=self._NUM_REMEMBERED)

    def take(self, recorded_at_s: float, num_samples: int, overflowed: bool) -> int:
        """Take one block; return the samples a channel that are missing before it.

        Args:
            recorded_at_s: when its first sample was recorded, by any clock that runs evenly.
            num_samples: its length a channel.
            overflowed: whether PortAudio says that audio was thrown away before it.
        """
        lead = recorded_at_s * self._rate_hz - self._counted
        lost = 0
        if overflowed and self._leads:
            # The median: single times are off by some milliseconds. Only recent ones: two clocks
            # drift apart by seconds a day.
            lost = max(0, round(lead - median(self._leads)))
        self._counted += lost + num_samples
        self._leads.append(lead - lost)
        return lost


class CaptureQueue:
    """Blocks of audio on their way from the device's thread to the event loop.

    ``put`` is called by the one and ``take`` by the other. When ``max_blocks`` wait, new ones are
    counted and thrown away: the callback cannot wait, and memory ends.

    Args:
        max_blocks: how many blocks may wait.
        sample_rate_hz: of the device.
        wake: called by ``put``, in the device's thread, when there is something to take.
    """

    def __init__(self, max_blocks: int, sample_rate_hz: int, wake: Callable[[], None]) -> None:
        self._max_blocks = max_blocks
        self._wake = wake
        self._meter = OverflowMeter(sample_rate_hz)
        # Appending and popping are atomic; nothing else is shared by the two threads.
        self._items: deque[SourceItem] = deque()
        self._lost_samples = 0

    def put(self, data: bytes, num_samples: int, recorded_at_s: float, overflowed: bool) -> None:
        """Take one block from the device. Never waits."""
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
        """Return what comes next; None: nothing waits."""
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def take_rest(self) -> Lost | None:
        """Return what was lost after the last block. Call it when nothing is put any more."""
        lost, self._lost_samples = self._lost_samples, 0
        return Lost(lost) if lost else None


_FIRST_BLOCK_TIMEOUT_S = 10.0
"""A sound server may take seconds to begin."""
_STALL_TIMEOUT_S = 3.0
"""PortAudio does not always tell when a device is pulled out: blocks just stop."""
_REOPEN_EVERY_S = 1.0


class MicrophoneSource:
    """A microphone.

    What is recorded while nobody reads waits, up to ``queue_s``; more is thrown away, counted, and
    comes as :class:`~mic_client.sources.Lost`, as does what PortAudio or the system lost. When the
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
