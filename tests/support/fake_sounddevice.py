"""A stand-in for the module ``sounddevice``: devices that a test can plug in and out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

__all__ = ["FakeSounddevice", "FakeStream", "PortAudioError", "device"]


class PortAudioError(Exception):
    """As in sounddevice: a text and a code."""

    def __str__(self) -> str:
        return f"{self.args[0]} [PaErrorCode {self.args[1]}]"


def device(
    name: str, *, channels: int = 1, rate_hz: float = 48_000, api: int = 0
) -> dict[str, Any]:
    """Return a device as ``query_devices`` tells of it."""
    return {
        "name": name,
        "hostapi": api,
        "max_input_channels": channels,
        "default_samplerate": rate_hz,
    }


@dataclass
class FakeStream:
    """An open stream. ``speak`` is the device's thread."""

    module: FakeSounddevice
    device: int
    samplerate: int
    channels: int
    dtype: str
    blocksize: int
    latency: str
    callback: Callable[..., None]
    finished_callback: Callable[[], None]
    is_started: bool = False
    is_closed: bool = False
    num_spoken: int = 0

    def __post_init__(self) -> None:
        if self.module.open_error is not None:
            raise self.module.open_error
        self.module.streams.append(self)

    def start(self) -> None:
        self.is_started = True
        self.module.on_start()

    def close(self, ignore_errors: bool = True) -> None:
        self.is_closed = True

    def speak(self, data: bytes, *, overflow: bool = False, at_s: float | None = None) -> None:
        """Call back with one block, from a thread of its own, and wait for the end of that."""
        samples = len(data) // (2 * self.channels)
        if at_s is None:
            at_s = 1000.0 + self.num_spoken / self.samplerate
        self.num_spoken += samples
        times = SimpleNamespace(inputBufferAdcTime=at_s, currentTime=at_s)
        status = SimpleNamespace(input_overflow=overflow)
        call = threading.Thread(target=self.callback, args=(data, samples, times, status))
        call.start()
        call.join()

    def break_off(self) -> None:
        """Be pulled out."""
        self.finished_callback()


@dataclass
class FakeSounddevice:
    """The module.

    Attributes:
        devices: see :func:`device`; changes are seen at once after ``_initialize``.
        rates_hz: what all devices record at.
        open_error: raised when a stream is opened.
        streams: every stream that was opened.
        on_start: called when a stream has started, by whatever thread starts it.
    """

    devices: list[dict[str, Any]] = field(default_factory=list)
    default_index: int = 0
    rates_hz: tuple[int, ...] = (16_000, 48_000)
    open_error: Exception | None = None
    streams: list[FakeStream] = field(default_factory=list)
    on_start: Callable[[], object] = lambda: None
    num_initialised: int = 1
    PortAudioError: type[Exception] = PortAudioError

    @property
    def default(self) -> Any:
        return SimpleNamespace(device=(self.default_index, self.default_index))

    def query_devices(self) -> list[dict[str, Any]]:
        return self.devices

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}, {"name": "JACK"}]

    def check_input_settings(
        self, device: int, channels: int, dtype: str, extra_settings: Any, samplerate: int
    ) -> None:
        if samplerate not in self.rates_hz:
            raise PortAudioError("Invalid sample rate", -9997)

    def RawInputStream(self, **settings: Any) -> FakeStream:
        return FakeStream(self, **settings)

    def _terminate(self) -> None:
        self.num_initialised -= 1

    def _initialize(self) -> None:
        self.num_initialised += 1
