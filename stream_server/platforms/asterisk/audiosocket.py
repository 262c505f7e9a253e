"""Asterisk's AudioSocket: frames over TCP, without I/O.

::

    type: 1 byte │ length of the payload: 2 bytes, big-endian │ payload

Asterisk connects, sends one UUID frame and then the audio of one channel, 20 ms a frame. It ends a
call by closing the connection; a hangup frame before that is optional. Sources: the page
AudioSocket of Asterisk's documentation, ``res/res_audiosocket.c``, ``apps/app_audiosocket.c``.

The server sends nothing but a hangup frame, after which Asterisk continues with the dialplan. Audio
would be played to the caller, an error frame would hang the caller up, and a monitor must do
neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal
from uuid import UUID

from stream_server.wire.audio_format import SAMPLE_RATES_HZ
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

HEADER_BYTES = 3
MAX_PAYLOAD_BYTES = 0xFFFF
_UUID_BYTES = 16
_SAMPLE_BYTES = 2


class FrameType(IntEnum):
    """What a frame carries."""

    HANGUP = 0x00
    UUID = 0x01
    """16 bytes: the id the dialplan gave the call."""
    DTMF = 0x03
    """One ASCII character."""
    SLIN = 0x10
    """Signed 16-bit samples, little-endian, one channel, 8 kHz."""
    SLIN12 = 0x11
    SLIN16 = 0x12
    SLIN24 = 0x13
    SLIN32 = 0x14
    SLIN44 = 0x15
    """44.1 kHz."""
    SLIN48 = 0x16
    SLIN96 = 0x17
    SLIN192 = 0x18
    ERROR = 0xFF
    """One byte, optional: 1 the caller hung up, 2 a frame could not be forwarded, 4 no memory."""


AUDIO_RATES_HZ: dict[int, int] = {
    FrameType.SLIN: 8_000,
    FrameType.SLIN12: 12_000,
    FrameType.SLIN16: 16_000,
    FrameType.SLIN24: 24_000,
    FrameType.SLIN32: 32_000,
    FrameType.SLIN44: 44_100,
    FrameType.SLIN48: 48_000,
    FrameType.SLIN96: 96_000,
    FrameType.SLIN192: 192_000,
}
"""Sample rates of the types that carry audio."""

_ERROR_CALLER_HUNG_UP = b"\x01"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: a :class:`FrameType` or an unknown one, and at most :data:`MAX_PAYLOAD_BYTES`."""

    type: int
    payload: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """Return a frame as it is sent. Raises ValueError: its payload is too long."""
    if len(frame.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"got a payload of {len(frame.payload)} bytes, expected at most {MAX_PAYLOAD_BYTES}"
        )
    return bytes((frame.type,)) + len(frame.payload).to_bytes(2, "big") + frame.payload


def encode_uuid(uuid: UUID) -> bytes:
    """Return the frame a connection begins with."""
    return encode_frame(Frame(FrameType.UUID, uuid.bytes))


def encode_audio(data: bytes, rate_hz: int = 8_000) -> bytes:
    """Return a frame of audio. Raises ValueError: there is no frame of that rate."""
    for frame_type, rate in AUDIO_RATES_HZ.items():
        if rate == rate_hz:
            return encode_frame(Frame(frame_type, data))
    rates = ", ".join(str(rate) for rate in AUDIO_RATES_HZ.values())
    raise ValueError(f"got a rate of {rate_hz} Hz, expected one of {rates}")


HANGUP = encode_frame(Frame(FrameType.HANGUP))
"""Ends a connection; the only frame that the server sends."""


class FrameParser:
    """Splits a stream of bytes into frames; holds less than one frame."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    @property
    def partial_bytes(self) -> int:
        """Bytes of an incomplete frame."""
        return len(self._bytes)

    def receive(self, data: bytes) -> list[Frame]:
        """Take bytes, any number; return the complete frames."""
        self._bytes += data
        frames = []
        # One deletion at the end: one for each frame would copy the rest every time.
        at = 0
        while len(self._bytes) - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + int.from_bytes(self._bytes[at + 1 : at + HEADER_BYTES], "big")
            if end > len(self._bytes):
                break
            frames.append(Frame(self._bytes[at], bytes(self._bytes[at + HEADER_BYTES : end])))
            at = end
        del self._bytes[:at]
        return frames


@dataclass(frozen=True, slots=True)
class Identified:
    """The first frame: the UUID of the call, in its usual form."""

    call_id: str


@dataclass(frozen=True, slots=True)
class CallerAudio:
    """Audio, of several frames if they came together: whole 16-bit samples."""

    rate_hz: int
    data: bytes


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A key was pressed. Which one is compared, and not kept: people type card numbers."""

    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class LegOver:
    """The last event: the client ends.

    ``client_lost``: the client reports an error of its own.
    """

    reason: Literal["stopped", "client_lost"]


LegEvent = Identified | CallerAudio | KeyPressed | LegOver


class AudioSocketLeg:
    """One connection: one side of a call. Unknown frames are ignored: Asterisk has added some."""

    def __init__(self) -> None:
        self._parser = FrameParser()
        self._call_id: str | None = None
        self._is_over = False
        self.num_frames = 0

    @property
    def is_whole(self) -> bool:
        """Whether the bytes end with a frame, so that a close now loses nothing."""
        return not self._parser.partial_bytes

    def receive(self, data: bytes) -> list[LegEvent]:
        """Take bytes, any number; nothing comes after :class:`LegOver`.

        Raises:
            ProtocolError: this is not AudioSocket, or its audio cannot be analysed.
        """
        events: list[LegEvent] = []
        for frame in self._parser.receive(data):
            self.num_frames += 1
            if not self._is_over:
                _append(events, self._event(frame))
        return events

    def _event(self, frame: Frame) -> LegEvent | None:
        # The UUID frame comes first; anything else means that this is not Asterisk.
        if self._call_id is None or frame.type == FrameType.UUID:
            return self._identify(frame)
        if frame.type in AUDIO_RATES_HZ:
            return _audio(frame)
        if frame.type == FrameType.DTMF:
            return KeyPressed(frame.payload[:1].decode("ascii", errors="ignore"))
        if frame.type in (FrameType.HANGUP, FrameType.ERROR):
            self._is_over = True
            # Asterisk reports a caller who hung up as an error; to this server it is a normal end.
            is_normal = frame.type == FrameType.HANGUP or frame.payload == _ERROR_CALLER_HUNG_UP
            return LegOver("stopped" if is_normal else "client_lost")
        return None

    def _identify(self, frame: Frame) -> Identified | None:
        if frame.type != FrameType.UUID or len(frame.payload) != _UUID_BYTES:
            raise ProtocolError(
                ErrorCode.BAD_START,
                f"got a first frame of type {frame.type:#04x} with {len(frame.payload)} bytes,"
                f" expected type {FrameType.UUID:#04x} with the {_UUID_BYTES} bytes of a UUID",
            )
        call_id = str(UUID(bytes=frame.payload))
        if self._call_id is None:
            self._call_id = call_id
            return Identified(call_id)
        # A repeated UUID frame is harmless; another one would mix two calls.
        if call_id != self._call_id:
            raise ProtocolError(
                ErrorCode.BAD_START, "got a second UUID, expected one call in a connection"
            )
        return None


def _audio(frame: Frame) -> CallerAudio:
    rate_hz = AUDIO_RATES_HZ[frame.type]
    # Asterisk's slin96 and slin192 hold no more speech.
    if rate_hz not in SAMPLE_RATES_HZ:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"got audio of {shown(rate_hz)} Hz, expected at most {SAMPLE_RATES_HZ[-1]} Hz; give the"
            " channel another codec, e.g. c(slin16)",
        )
    if len(frame.payload) % _SAMPLE_BYTES:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"got {len(frame.payload)} bytes of audio, expected whole samples of"
            f" {_SAMPLE_BYTES} bytes",
        )
    return CallerAudio(rate_hz, frame.payload)


def _append(events: list[LegEvent], event: LegEvent | None) -> None:
    """Append an event, joining audio to audio of the same rate before it."""
    last = events[-1] if events else None
    match last, event:
        case _, None:
            pass
        case CallerAudio(), CallerAudio() if last.rate_hz == event.rate_hz:
            events[-1] = CallerAudio(last.rate_hz, last.data + event.data)
        case _:
            events.append(event)
