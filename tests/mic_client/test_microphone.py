from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mic_client import microphone as module
from mic_client.errors import DeviceError
from mic_client.microphone import MicrophoneSource
from mic_client.sources import Chunk, Lost
from tests.support.fake_sounddevice import FakeSounddevice, FakeStream, PortAudioError
from tests.support.virtual_time import current_loop, virtual_time

BLOCK = b"\1\2" * 640


@pytest.fixture(autouse=True)
def _frozen_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock stand while a thread opens or closes the device."""
    in_thread = module._in_thread

    async def frozen(call: Callable[[], object]) -> None:
        with current_loop().frozen():
            await in_thread(call)

    monkeypatch.setattr(module, "_in_thread", frozen)


async def started(sounddevice: FakeSounddevice) -> FakeStream:
    """Return the stream that is opened next, when it runs."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    sounddevice.on_start = lambda: loop.call_soon_threadsafe(event.set)
    await event.wait()
    return sounddevice.streams[-1]


@virtual_time
async def test_what_is_recorded_comes(sounddevice: FakeSounddevice):
    source = MicrophoneSource(device="built-in", num_channels=2)
    assert source.is_live
    assert (source.format.sample_rate_hz, source.format.num_channels) == (16_000, 2)
    items = aiter(source)
    first = asyncio.ensure_future(anext(items))
    stream = await started(sounddevice)
    assert (stream.device, stream.channels, stream.blocksize) == (1, 2, 640)
    assert stream.dtype == "int16"
    stream.speak(BLOCK * 2)
    assert await first == Chunk(BLOCK * 2)
    stream.speak(b"\3\4" * 1280)
    assert await anext(items) == Chunk(b"\3\4" * 1280)
    await source.aclose()
    assert stream.is_closed
    assert [item async for item in items] == []


@virtual_time
async def test_a_reader_that_is_too_slow_costs_a_gap(sounddevice: FakeSounddevice):
    source = MicrophoneSource(queue_s=0.4)
    items = aiter(source)
    first = asyncio.ensure_future(anext(items))
    stream = await started(sounddevice)
    stream.speak(BLOCK)
    await first
    for _ in range(15):
        stream.speak(BLOCK)
    assert [await anext(items) for _ in range(10)] == [Chunk(BLOCK)] * 10
    stream.speak(BLOCK)
    assert await anext(items) == Lost(5 * 640)
    assert await anext(items) == Chunk(BLOCK)
    await source.aclose()


@virtual_time
async def test_an_overflow_of_portaudio_is_a_gap(sounddevice: FakeSounddevice):
    source = MicrophoneSource()
    items = aiter(source)
    first = asyncio.ensure_future(anext(items))
    stream = await started(sounddevice)
    stream.speak(BLOCK, at_s=50.0)
    stream.speak(BLOCK, at_s=50.54, overflow=True)
    assert await first == Chunk(BLOCK)
    assert await anext(items) == Lost(8000)
    await source.aclose()


@virtual_time
async def test_a_device_that_is_pulled_out_is_waited_for(sounddevice: FakeSounddevice):
    headset = sounddevice.devices[2]
    source = MicrophoneSource(device="headset")
    items = aiter(source)
    first = asyncio.ensure_future(anext(items))
    stream = await started(sounddevice)
    stream.speak(BLOCK)
    await first
    sounddevice.devices.remove(headset)
    stream.break_off()
    later = asyncio.ensure_future(anext(items))
    await asyncio.sleep(10)
    assert stream.is_closed
    # It comes back under another number.
    sounddevice.devices.insert(0, headset)
    stream = await started(sounddevice)
    assert stream.device == 0
    stream.speak(BLOCK)
    lost = await later
    assert isinstance(lost, Lost)
    assert lost.samples == round(current_loop().time() * 16_000) - 640
    assert lost.samples >= 10 * 16_000 - 640
    assert await anext(items) == Chunk(BLOCK)
    assert sounddevice.num_initialised == 1
    await source.aclose()


@virtual_time
async def test_a_device_that_falls_silent_without_a_word_is_gone(sounddevice: FakeSounddevice):
    source = MicrophoneSource(device="headset", reopen_timeout_s=0)
    items = aiter(source)
    first = asyncio.ensure_future(anext(items))
    stream = await started(sounddevice)
    stream.speak(BLOCK)
    await first
    with pytest.raises(DeviceError, match="disconnected and not back within 0 s"):
        await anext(items)
    assert current_loop().time() == pytest.approx(3)
    assert stream.is_closed


@virtual_time
async def test_a_device_in_use_is_told(sounddevice: FakeSounddevice):
    sounddevice.open_error = PortAudioError("Device unavailable", -9985)
    source = MicrophoneSource(device="headset")
    with pytest.raises(DeviceError, match=r"USB Headset.*it is in use"):
        await anext(aiter(source))


@virtual_time
async def test_cancelled_while_it_opens_it_is_closed(sounddevice: FakeSounddevice):
    source = MicrophoneSource()
    opening = asyncio.ensure_future(anext(aiter(source)))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert all(stream.is_closed for stream in sounddevice.streams)
