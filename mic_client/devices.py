"""Input devices: which there are, which one a name means, at what rate it records.

``sounddevice`` finds PortAudio when it is imported, so that happens on first use: files and pipes
are streamed without either.
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

_PREFERRED_RATE_HZ = 16_000
"""The engine's rate, at which nothing has to be resampled."""

_INSTALL = {
    "linux": "sudo apt-get install libportaudio2 (Debian, Ubuntu), sudo dnf install portaudio"
    " (Fedora) or sudo pacman -S portaudio (Arch)",
    "darwin": "brew install portaudio",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDevice:
    """Something that records.

    Attributes:
        index: PortAudio's number of it; may change when devices come and go.
        name: e.g. ``pulse`` or ``USB Audio: - (hw:1,0)``.
        host_api: e.g. ``ALSA`` or ``Core Audio``.
        max_channels: how many channels it records.
        default_rate_hz: rate it prefers.
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
        # The package is there and ctypes finds no shared library.
        how = _INSTALL.get(sys.platform, "see https://www.portaudio.com")
        raise PortAudioMissingError(
            f"the PortAudio library, which microphones are read with, is not installed; install it"
            f" with {how}"
        ) from error


def list_devices() -> list[InputDevice]:
    """Return all devices that record, as they were when PortAudio was initialised.

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
    """Return the device with a number or name.

    Args:
        wanted: its number, its name or a part of that, in any case; None: the default one.

    Raises:
        NoSuchDeviceError: none matches, or the name matches several; the message lists them.
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
        # On Windows, PortAudio shows one device once for each host API (MME, DirectSound, WASAPI),
        # under the same name; so may JACK.
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
        raise NoSuchDeviceError(
            f"'{wanted}' matches several devices, name one by number:\n{listed}"
        )
    raise NoSuchDeviceError(f"there is no input device '{wanted}'; there are:\n{listed}")


def choose_sample_rate(device: InputDevice, num_channels: int, wanted_hz: int | None) -> int:
    """Return the rate to record at: the wanted one, else 16 kHz, else what the device prefers.

    Raises:
        DeviceError: the device takes none of them, or not so many channels.
    """
    if num_channels > device.max_channels:
        raise DeviceError(
            f"{device.name}: {num_channels} channels requested; it has {device.max_channels}"
        )
    sounddevice = load_sounddevice()
    # 48 kHz last: the preferred rate of some devices is 96 kHz, which the protocol does not have.
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
        f"{device.name}: got sample rate {wanted_hz or device.default_rate_hz}; it must be"
        f" {SAMPLE_RATES_HZ[0]} to {SAMPLE_RATES_HZ[-1]} Hz"
    )


@contextmanager
def device_errors(name: str) -> Iterator[None]:
    """Turn an error of PortAudio into a :class:`DeviceError` with a remedy."""
    sounddevice = load_sounddevice()
    try:
        yield
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"{name}: {_explained(error)}") from error


_REMEDIES = {
    -9985: "it is in use: close the program that has it, or name another device",  # Unavailable
    -9996: "it is not there any more: connect it, or name another device",  # InvalidDevice
    -9997: "it does not record at this rate: leave the rate out",  # InvalidSampleRate
    -9998: "it has fewer channels: request fewer",  # InvalidChannelCount
}
"""By ``PaErrorCode`` of portaudio.h."""


def _explained(error: Exception) -> str:
    code = error.args[1] if len(error.args) > 1 else 0
    remedy = _REMEDIES.get(
        code, "it may be in use by another program; --list-devices shows the others"
    )
    return f"{error}; {remedy}"
