from __future__ import annotations

import pytest

from mic_client import devices as devices_module
from mic_client import microphone as microphone_module
from tests.support.fake_sounddevice import FakeSounddevice, device


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    """A machine with a loudspeaker, a built-in microphone and a headset."""
    fake = FakeSounddevice(
        devices=[
            device("Speakers", channels=0),
            device("Built-in Microphone", channels=2),
            device("USB Headset: Audio (hw:1,0)"),
        ],
        default_index=1,
    )
    for module in (devices_module, microphone_module):
        monkeypatch.setattr(module, "load_sounddevice", lambda: fake)
    return fake
