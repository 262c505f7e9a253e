from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from mic_client import devices
from mic_client.devices import choose_sample_rate, find_device, list_devices, load_sounddevice
from mic_client.errors import DeviceError, NoSuchDeviceError, PortAudioMissingError
from tests.support.fake_sounddevice import FakeSounddevice, PortAudioError, device


def test_only_what_records_is_listed(sounddevice: FakeSounddevice):
    lines = [str(each) for each in list_devices()]
    assert lines == [
        "*   1  Built-in Microphone (ALSA, 2 in, 48000 Hz)",
        "    2  USB Headset: Audio (hw:1,0) (ALSA, 1 in, 48000 Hz)",
    ]


@pytest.mark.parametrize(
    ("wanted", "index"), [(None, 1), (2, 2), ("usb headset: audio (HW:1,0)", 2), ("headset", 2)]
)
def test_a_device_is_found(wanted: int | str | None, index: int, sounddevice: FakeSounddevice):
    assert find_device(wanted).index == index


def test_one_device_behind_two_interfaces_is_one(sounddevice: FakeSounddevice):
    sounddevice.devices.append(device("Built-in Microphone", api=1))
    assert find_device("built-in").index == 1


def test_a_whole_name_goes_before_a_part(sounddevice: FakeSounddevice):
    sounddevice.devices += [device("pulse monitor"), device("pulse")]
    assert find_device("pulse").name == "pulse"


@pytest.mark.parametrize("wanted", [7, 0, "elephant"])
def test_what_is_not_there_is_told_with_what_is(wanted: int | str, sounddevice: FakeSounddevice):
    with pytest.raises(NoSuchDeviceError, match=r"'\w+'; there are:\n\* +1  Built-in") as caught:
        find_device(wanted)
    assert "Headset" in str(caught.value)


def test_a_name_that_fits_several_is_told(sounddevice: FakeSounddevice):
    sounddevice.devices.append(device("Second Headset"))
    with pytest.raises(NoSuchDeviceError, match="matches several"):
        find_device("headset")


def test_a_machine_without_a_microphone(sounddevice: FakeSounddevice):
    sounddevice.devices = [device("Speakers", channels=0)]
    with pytest.raises(NoSuchDeviceError, match="there is no input device; connect"):
        find_device(None)


def test_without_a_default_the_first_is_taken(sounddevice: FakeSounddevice):
    sounddevice.default_index = -1
    assert find_device(None).index == 1


@pytest.mark.parametrize(
    ("rates_hz", "wanted", "chosen"),
    [
        ((16_000, 48_000), None, 16_000),
        ((48_000,), None, 48_000),
        ((44_100, 48_000), 44_100, 44_100),
    ],
)
def test_the_sample_rate(
    rates_hz: tuple[int, ...], wanted: int | None, chosen: int, sounddevice: FakeSounddevice
):
    sounddevice.rates_hz = rates_hz
    assert choose_sample_rate(find_device(1), 1, wanted) == chosen


def test_a_rate_the_device_does_not_take(sounddevice: FakeSounddevice):
    with pytest.raises(DeviceError, match=r"Built-in Microphone: .*leave the rate out"):
        choose_sample_rate(find_device(1), 1, 22_050)


def test_a_rate_the_protocol_does_not_take(sounddevice: FakeSounddevice):
    with pytest.raises(DeviceError, match="got sample rate 96000; it must be 8000 to 48000 Hz"):
        choose_sample_rate(find_device(1), 1, 96_000)


def test_more_channels_than_there_are(sounddevice: FakeSounddevice):
    with pytest.raises(DeviceError, match="3 channels requested; it has 2"):
        choose_sample_rate(find_device(1), 3, None)


def test_what_portaudio_says_comes_with_a_remedy(sounddevice: FakeSounddevice):
    with (
        pytest.raises(DeviceError, match=r"USB: Device unavailable.*close the program"),
        devices.device_errors("USB"),
    ):
        raise PortAudioError("Device unavailable", -9985)


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    def no_library(name: str) -> Any:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(importlib, "import_module", no_library)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(PortAudioMissingError, match="apt-get install libportaudio2"):
        load_sounddevice()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(PortAudioMissingError, match="brew install portaudio"):
        load_sounddevice()


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(PortAudioMissingError, match="pip install sounddevice"):
        load_sounddevice()
