"""Streams a microphone, a recording or a pipe to a stream server, and gives back what it says.

::

    from mic_client import MicrophoneSource, StreamClient

    async with StreamClient(MicrophoneSource()) as client:
        async for message in client:
            print(message)

Needs neither torch nor the server; PortAudio only where a microphone is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mic_client.audio_file import FileSource, load_sample_call
    from mic_client.connection import tls_of_server, tls_trusting
    from mic_client.devices import list_devices
    from mic_client.feed import emotion_feed
    from mic_client.microphone import MicrophoneSource
    from mic_client.sources import ArraySource, StdinSource
    from mic_client.stream_client import StreamClient, StreamOptions

__all__ = [
    "ArraySource",
    "FileSource",
    "MicrophoneSource",
    "StdinSource",
    "StreamClient",
    "StreamOptions",
    "emotion_feed",
    "list_devices",
    "load_sample_call",
    "tls_of_server",
    "tls_trusting",
]

_MODULES = {
    "ArraySource": "mic_client.sources",
    "FileSource": "mic_client.audio_file",
    "MicrophoneSource": "mic_client.microphone",
    "StdinSource": "mic_client.sources",
    "StreamClient": "mic_client.stream_client",
    "StreamOptions": "mic_client.stream_client",
    "emotion_feed": "mic_client.feed",
    "list_devices": "mic_client.devices",
    "load_sample_call": "mic_client.audio_file",
    "tls_of_server": "mic_client.connection",
    "tls_trusting": "mic_client.connection",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a pipe needs neither soundfile nor sounddevice."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
