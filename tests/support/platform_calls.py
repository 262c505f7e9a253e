"""Calls as telephone platforms stream them: one call, said in the words of each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from stream_server.platforms.exotel import EXOTEL
from stream_server.platforms.media_stream import MediaPlatform
from stream_server.platforms.plivo import PLIVO
from stream_server.platforms.signalwire import SIGNALWIRE
from stream_server.platforms.telnyx import TELNYX
from stream_server.platforms.twilio import TWILIO

__all__ = ["PLATFORMS", "TABLES", "Platform", "audio_bytes"]


def audio_bytes(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Platform:
    """The words of one platform, written from its documentation.

    Attributes:
        name: of the platform, and of its path.
        stream_id: of the streams it makes.
        call_id: of the calls.
        encoding: how :meth:`start` names it.
        rate_hz: samples a second.
    """

    name = ""
    stream_id = ""
    call_id = ""
    encoding = ""
    rate_hz = 8000
    origin_ms = 0

    def __init__(self, **changes: Any) -> None:
        for name, value in changes.items():
            assert hasattr(self, name)
            setattr(self, name, value)

    def connected(self) -> list[dict[str, Any]]:
        return []

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        raise NotImplementedError

    def media(
        self, seq: int, track: str, chunk: int, timestamp_ms: int, payload: bytes
    ) -> dict[str, Any]:
        raise NotImplementedError

    def dtmf(self, digit: str) -> dict[str, Any]:
        raise NotImplementedError

    def stop(self, seq: int) -> list[dict[str, Any]]:
        return []

    def call(
        self,
        tracks: Mapping[str, bytes],
        *,
        parameters: Mapping[str, str] | None = None,
        packet_bytes: int = 160,
        bytes_per_ms: int = 8,
    ) -> Iterator[str]:
        """Return :meth:`messages` as they are sent."""
        for message in self.messages(
            tracks, parameters=parameters, packet_bytes=packet_bytes, bytes_per_ms=bytes_per_ms
        ):
            yield json.dumps(message)

    def messages(
        self,
        tracks: Mapping[str, bytes],
        *,
        parameters: Mapping[str, str] | None = None,
        packet_bytes: int = 160,
        bytes_per_ms: int = 8,
    ) -> Iterator[dict[str, Any]]:
        """Return the messages of a call whose tracks begin at the same time.

        Args:
            tracks: encoded audio by name of the track.
            parameters: custom parameters.
            packet_bytes: audio of a message.
            bytes_per_ms: of a track.
        """
        yield from self.connected()
        yield self.start(tuple(tracks), parameters or {})
        seq = 1
        for chunk, at in enumerate(range(0, max(map(len, tracks.values())), packet_bytes), start=1):
            for track, data in tracks.items():
                if at < len(data):
                    seq += 1
                    timestamp_ms = self.origin_ms + at // bytes_per_ms
                    payload = data[at : at + packet_bytes]
                    yield self.media(seq, track, chunk, timestamp_ms, payload)
        yield from self.stop(seq + 1)


class Twilio(Platform):
    name = "twilio"
    stream_id = "MZ18ad3ab5a668481ce02b83e7395059f0"
    call_id = "CA6d6f2ad9f3ba4eea8e2ea8e0e5e6a6b0"
    account_id = "AC64f4d8c1481c0a5ac9cdbe997bfbcf58"
    encoding = "audio/x-mulaw"
    origin_ms = 155

    def connected(self) -> list[dict[str, Any]]:
        return [{"event": "connected", "protocol": "Call", "version": "1.0.0"}]

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        return {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": self.account_id,
                "streamSid": self.stream_id,
                "callSid": self.call_id,
                "tracks": list(tracks),
                "mediaFormat": {"encoding": self.encoding, "sampleRate": 8000, "channels": 1},
                "customParameters": dict(parameters),
            },
            "streamSid": self.stream_id,
        }

    def media(
        self, seq: int, track: str, chunk: int, timestamp_ms: int, payload: bytes
    ) -> dict[str, Any]:
        return {
            "event": "media",
            "sequenceNumber": str(seq),
            "media": {
                "track": track,
                "chunk": str(chunk),
                "timestamp": str(timestamp_ms),
                "payload": audio_bytes(payload),
            },
            "streamSid": self.stream_id,
        }

    def dtmf(self, digit: str) -> dict[str, Any]:
        return {
            "event": "dtmf",
            "streamSid": self.stream_id,
            "sequenceNumber": "5",
            "dtmf": {"track": "inbound_track", "digit": digit},
        }

    def stop(self, seq: int) -> list[dict[str, Any]]:
        return [
            {
                "event": "stop",
                "sequenceNumber": str(seq),
                "stop": {"accountSid": self.account_id, "callSid": self.call_id},
                "streamSid": self.stream_id,
            }
        ]


class Telnyx(Platform):
    name = "telnyx"
    stream_id = "32de0dea-53cb-4b21-89a4-9e1819c043bc"
    call_id = "v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ"
    encoding = "PCMU"

    def connected(self) -> list[dict[str, Any]]:
        return [{"event": "connected", "version": "1.0.0"}]

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        return {
            "event": "start",
            "sequence_number": "1",
            "start": {
                "user_id": "3e6f995f-85f7-4705-9741-53b116d28237",
                "call_control_id": self.call_id,
                "call_session_id": "ff55a038-6f5d-11ef-9692-02420aeffb1f",
                "from": "+13122010094",
                "to": "+13122123456",
                "tags": ["TAG1"],
                "client_state": "aGF2ZSBhIG5pY2UgZGF5ID1d",
                "media_format": {
                    "encoding": self.encoding,
                    "sample_rate": self.rate_hz,
                    "channels": 1,
                },
                **({"custom_parameters": dict(parameters)} if parameters else {}),
            },
            "stream_id": self.stream_id,
        }

    def media(
        self, seq: int, track: str, chunk: int, timestamp_ms: int, payload: bytes
    ) -> dict[str, Any]:
        return {
            "event": "media",
            "sequence_number": str(seq),
            "media": {
                "track": track,
                "chunk": str(chunk),
                "timestamp": str(timestamp_ms),
                "payload": audio_bytes(payload),
            },
            "stream_id": self.stream_id,
        }

    def dtmf(self, digit: str) -> dict[str, Any]:
        return {
            "event": "dtmf",
            "stream_id": self.stream_id,
            "occurred_at": "2025-06-05T08:54:19.698408Z",
            "sequence_number": "5",
            "dtmf": {"digit": digit},
        }

    def stop(self, seq: int) -> list[dict[str, Any]]:
        return [
            {
                "event": "stop",
                "sequence_number": str(seq),
                "stop": {
                    "user_id": "3e6f995f-85f7-4705-9741-53b116d28237",
                    "call_control_id": self.call_id,
                },
                "stream_id": self.stream_id,
            }
        ]


class Plivo(Platform):
    name = "plivo"
    stream_id = "87654321-4321-4321-4321-cba987654321"
    call_id = "12345678-1234-1234-1234-123456789abc"
    encoding = "audio/x-mulaw"
    origin_ms = 1_705_312_200_000

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        return {
            "event": "start",
            "sequenceNumber": 1,
            "start": {
                "callId": self.call_id,
                "streamId": self.stream_id,
                "accountId": "MAXXXXXXXXXXXXXXXXXX",
                "tracks": list(tracks),
                "mediaFormat": {"encoding": self.encoding, "sampleRate": self.rate_hz},
            },
            "extra_headers": self._headers(parameters),
        }

    def media(
        self, seq: int, track: str, chunk: int, timestamp_ms: int, payload: bytes
    ) -> dict[str, Any]:
        return {
            "event": "media",
            "sequenceNumber": seq,
            "streamId": self.stream_id,
            "media": {
                "track": track,
                "timestamp": str(timestamp_ms),
                "chunk": chunk,
                "payload": audio_bytes(payload),
            },
            "extra_headers": "",
        }

    def dtmf(self, digit: str) -> dict[str, Any]:
        return {
            "event": "dtmf",
            "sequenceNumber": 50,
            "streamId": self.stream_id,
            "dtmf": {"track": "inbound", "digit": digit, "timestamp": "1705312250000"},
            "extra_headers": "",
        }

    @staticmethod
    def _headers(parameters: Mapping[str, str]) -> str:
        return ";".join(f"{name}={value}" for name, value in parameters.items())


class Exotel(Platform):
    name = "exotel"
    stream_id = "MZ2b1c3d4e5f60718293a4b5c6d7e8f901"
    call_id = "CA0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    encoding = "audio/x-raw"

    def connected(self) -> list[dict[str, Any]]:
        return [{"event": "connected"}]

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        return {
            "event": "start",
            "sequence_number": "1",
            "stream_sid": self.stream_id,
            "start": {
                "stream_sid": self.stream_id,
                "call_sid": self.call_id,
                "account_sid": "ACxxxxxxxx",
                "from": "+919876543210",
                "to": "+918047491899",
                "custom_parameters": dict(parameters),
                "media_format": {
                    "encoding": self.encoding,
                    "sample_rate": str(self.rate_hz),
                    "bit_rate": "16",
                },
            },
        }

    def media(
        self, seq: int, track: str, chunk: int, timestamp_ms: int, payload: bytes
    ) -> dict[str, Any]:
        return {
            "event": "media",
            "sequence_number": str(seq),
            "stream_sid": self.stream_id,
            "media": {
                "chunk": str(chunk),
                "timestamp": str(timestamp_ms),
                "payload": audio_bytes(payload),
            },
        }

    def dtmf(self, digit: str) -> dict[str, Any]:
        return {
            "event": "dtmf",
            "sequence_number": "7",
            "stream_sid": self.stream_id,
            "dtmf": {"digit": digit, "duration": "100"},
        }

    def stop(self, seq: int) -> list[dict[str, Any]]:
        return [
            {
                "event": "stop",
                "sequence_number": str(seq),
                "stream_sid": self.stream_id,
                "stop": {
                    "call_sid": self.call_id,
                    "account_sid": "ACxxxxxxxx",
                    "reason": "callended",
                },
            }
        ]


class SignalWire(Twilio):
    name = "signalwire"
    stream_id = "b3b5d1a6-6f0e-4f0c-8e52-3c7a2d1a9f10"
    call_id = "0b0c8a51-9d0e-4c55-8a3c-2f5d1f2a7e11"

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        start = super().start(tracks, parameters)
        start["start"]["mediaFormat"]["sampleRate"] = self.rate_hz
        return start


class Bandwidth(Platform):
    name = "bandwidth"
    stream_id = "s-2e6a5d1c-5b3f-4a52-9d8e-0a4d1d6f9b11"
    call_id = "c-15ac29a2-1331029c-2cb0-4a07-b215-b22865662d85"
    encoding = "audio/PCMU"

    def start(self, tracks: tuple[str, ...], parameters: Mapping[str, str]) -> dict[str, Any]:
        media_format = {"encoding": self.encoding, "sampleRate": self.rate_hz}
        return {
            "eventType": "start",
            "metadata": {
                "accountId": "5555555",
                "callId": self.call_id,
                "streamId": self.stream_id,
                "tracks": [{"name": name, "mediaFormat": media_format} for name in tracks],
            },
            **({"streamParams": dict(parameters)} if parameters else {}),
        }

    def media(
        self, seq: int, track: str, chunk: int, timestamp_ms: int, payload: bytes
    ) -> dict[str, Any]:
        return {"eventType": "media", "track": track, "payload": audio_bytes(payload)}

    def stop(self, seq: int) -> list[dict[str, Any]]:
        return [{**self.start((), {}), "eventType": "stop"}]


PLATFORMS: dict[str, type[Platform]] = {
    platform.name: platform for platform in (Twilio, Telnyx, Plivo, Exotel, SignalWire, Bandwidth)
}
TABLES: dict[str, MediaPlatform] = {
    table.name: table for table in (TWILIO, TELNYX, PLIVO, EXOTEL, SIGNALWIRE)
}
"""What the server knows of them."""
