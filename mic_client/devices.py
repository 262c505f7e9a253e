"""Input devices: which there are, which is meant, at what rate they record.

PortAudio is asked through ``sounddevice``, which is imported when it is needed: files and pipes are
streamed without either.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mic_client.errors import DeviceError, NoSuchDeviceError, PortAudioMissingError
from stream_server.wire.audio_format import SAMPLE_RATES_HZ

__all__ = [
    "InputDevice",
    "choose_sample_rate",
    "device_errors",
    "find_device",
    "list_devices",
    "load_sounddevice",
]

_PREFERRED_RATE_HZ = 16_000
"""What the engine works at: nothing has to be resampled."""

_INSTALL = {
    "linux": "sudo apt-get install libportaudio2 (Debian, Ubuntu), sudo dnf install portaudio"
    " (Fedora) or sudo pacman -S portaudio (Arch)",
    "darwin": "brew install portaudio",
}


@dataclass(frozen=True, slots=True)
class InputDevice:
    """Something that records.

    Attributes:
        index: PortAudio's number of it; may change when devices come and go.
        name: e.g. ``pulse`` or ``USB Audio: - (hw:1,0)``.
        host_api: e.g. ``ALSA`` or ``Core Audio``.
        max_channels: how many channels it records.
        default_rate_hz: rate it prefers, Hz.
        is_default: whether it is used when none is named.
    """

    index: int
    name: str
    host_api: str
    max_channels: int
    default_rate_hz: int
    is_default: bool

    def __str__(self) -> str:
        """Return one line of a list."""
        mark = "*" if self.is_default else " "
        return (
            f"{mark} {self.index:>3}  {self.name} ({self.host_api}, {self.max_channels} in,"
            f" {self.default_rate_hz} Hz)"
        )


def load_sounddevice() -> Any:
    """Return the module ``sounddevice``.

    Raises:
        PortAudioMissingError: it or the PortAudio library is not installed.
    """
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise PortAudioMissingError(
            "the Python package sounddevice is not installed; install it with"
            " `pip install sounddevice`"
        ) from error
    except OSError as error:
        how = _INSTALL.get(sys.platform, "see https://www.portaudio.com")
        raise PortAudioMissingError(
            f"the PortAudio library, which microphones are read with, is not installed; install it"
            f" with {how}"
        ) from error


def list_devices() -> list[InputDevice]:
    """Return everything that records, as it was when PortAudio was loaded.

    Raises:
        PortAudioMissingError: PortAudio is not installed.
        DeviceError: PortAudio does not answer.
    """
    sounddevice = load_sounddevice()
    with device_errors("the list of devices"):
        host_apis = sounddevice.query_hostapis()
        default = sounddevice.default.device[0]
        return [
            InputDevice(
                index=index,
                name=found["name"],
                host_api=host_apis[found["hostapi"]]["name"],
                max_channels=found["max_input_channels"],
                default_rate_hz=round(found["default_samplerate"]),
                is_default=index == default,
            )
            for index, found in enumerate(sounddevice.query_devices())
            if found["max_input_channels"] > 0
        ]


def find_device(wanted: int | str | None) -> InputDevice:
    """Return the device that is meant.

    Args:
        wanted: its number, its name or a part of that, in any case; None: the default one.

    Raises:
        NoSuchDeviceError: there is none, or the name fits several; the message lists them.
        PortAudioMissingError, DeviceError: as for :func:`list_devices`.
    """
    devices = list_devices()
    if wanted is None:
        fitting = [each for each in devices if each.is_default] or devices[:1]
    elif isinstance(wanted, int):
        fitting = [each for each in devices if each.index == wanted]
    else:
        name = wanted.casefold()
        fitting = [each for each in devices if each.name.casefold() == name] or [
            each for each in devices if name in each.name.casefold()
        ]
        first_api = fitting[0].host_api if fitting else ""
        # Windows and JACK show one device once for each of their interfaces.
        if len({each.name for each in fitting}) == 1:
            fitting = [each for each in fitting if each.host_api == first_api]
    if len(fitting) == 1:
        return fitting[0]
    if not devices:
        raise NoSuchDeviceError(
            "there is no input device; connect a microphone, or on a server stream a file or a pipe"
        )
    listed = "\n".join(str(each) for each in fitting or devices)
    if fitting:
        raise NoSuchDeviceError(f"'{wanted}' fits several devices, name one by number:\n{listed}")
    raise NoSuchDeviceError(f"there is no input device '{wanted}'; there are:\n{listed}")


def choose_sample_rate(device: InputDevice, num_channels: int, wanted_hz: int | None) -> int:
    """Return the rate to record at: the wanted one, else 16 kHz, else what the device prefers.

    Raises:
        DeviceError: the device takes none of them, or not so many channels.
    """
    if num_channels > device.max_channels:
        raise DeviceError(
            f"{device.name}: got {num_channels} channels, expected 1 to {device.max_channels}"
        )
    sounddevice = load_sounddevice()
    rates_hz = [wanted_hz] if wanted_hz else [_PREFERRED_RATE_HZ, device.default_rate_hz, 48_000]
    problem: Exception | None = None
    for rate_hz in rates_hz:
        if rate_hz not in SAMPLE_RATES_HZ:
            continue
        try:
            sounddevice.check_input_settings(device.index, num_channels, "int16", None, rate_hz)
        except sounddevice.PortAudioError as error:
            problem = problem or error
        else:
            return rate_hz
    with device_errors(device.name):
        if problem is not None:
            raise problem
    raise DeviceError(
        f"{device.name}: got sample rate {wanted_hz or device.default_rate_hz},"
        f" expected {SAMPLE_RATES_HZ[0]} to {SAMPLE_RATES_HZ[-1]} Hz"
    )


@contextmanager
def device_errors(name: str) -> Iterator[None]:
    """Make a :class:`DeviceError` of what PortAudio complains about."""
    sounddevice = load_sounddevice()
    try:
        yield
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"{name}: {_explained(error)}") from error


_REMEDIES = {
    -9985: "it is in use: close the program that has it, or name another device",
    -9996: "it is not there any more: connect it, or name another device",
    -9997: "it does not record at this rate: leave the rate away",
    -9998: "it has not so many channels: ask for fewer",
}
"""By PortAudio's ``PaErrorCode``."""


def _explained(error: Exception) -> str:
    code = error.args[1] if len(error.args) > 1 else 0
    remedy = _REMEDIES.get(
        code, "it may be in use by another program; --list-devices shows the others"
    )
    return f"{error}; {remedy}"
