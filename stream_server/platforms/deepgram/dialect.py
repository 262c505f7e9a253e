"""The server's side of Deepgram's ``/v1/listen``; ``README.md`` describes it.

A client's audio begins with the query, or with a header where the query names no encoding. Clients
send at once, without waiting for an answer to the beginning of a stream, so there is none.

The header may come in pieces. That of WAV is read, and taken off here where samples follow; what
has another one is passed on whole, to be decoded, and so is WAV with other audio (ADPCM, GSM, 24
bits). Source of WAV's extensible form: Microsoft, "Multiple Channel Audio
Data and WAVE Files".
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec

from stream_server.platforms.deepgram.messages import (
    ConfigureSuccess,
    ListenMessage,
    Metadata,
    encode,
    error_message,
)
from stream_server.platforms.deepgram.query import ListenQuery
from stream_server.platforms.deepgram.results import ListenResults, model_info_of, model_uuid_of
from stream_server.wire.audio_format import SAMPLE_RATES_HZ
from stream_server.wire.codecs import CODECS
from stream_server.wire.containers import HEAD_BYTES, channels_of, container_of
from stream_server.wire.dialect import AudioData, Inbound, Say, text_of_control
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import (
    Error,
    Flush,
    Heartbeat,
    KeepAlive,
    Ready,
    ServerMessage,
    Stop,
)
from stream_server.wire.results import Flushed, Gap, Point, Segment, Summary
from stream_server.wire.start import StreamSpec

MAX_HEADER_BYTES = 65_536
"""Longest header, with texts and pictures in front of the audio."""

_RIFF_BYTES = 12
_CHUNK_BYTES = 8
_FORMAT_BYTES = 16
_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_BYTES = 26
_ENCODINGS = {(1, 16): "pcm_s16le", (3, 32): "pcm_f32le", (6, 8): "alaw", (7, 8): "mulaw"}
"""Format tag and bits a sample."""
_MAYBE_FRAMES = (b"\xff", b"I", b"\x1a", b"O", b"f", b"#", b"\0")
"""First bytes of what is not WAV, and may not be known by them alone."""
_UNKNOWN_LENGTH_BYTES = 0x7FFF_F000
"""Programs that do not know the length yet write 0, or a number from here on."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The fields of a header, unchecked.

    Attributes:
        encoding: as the native protocol calls it; "wav": FFmpeg has to read it.
        size_bytes: where the audio begins.
        data_bytes: length of the audio; None if it is not known.
    """

    encoding: str
    sample_rate_hz: int
    num_channels: int
    size_bytes: int
    data_bytes: int | None


def read_wav_header(data: bytes) -> WavHeader | None:
    """Return the header that ``data`` begins with; None if more is needed.

    Raises:
        ProtocolError: BAD_FORMAT: it begins with no header, or with one of other audio.
    """
    if not b"RIFF".startswith(data[:4]) or not b"WAVE".startswith(data[8:_RIFF_BYTES]):
        raise _bad(
            "audio that does not begin with a header that says what it is",
            "WAV, WebM, Ogg, MP4, FLAC, MP3, AAC or AMR, or encoding and sample_rate in the query",
        )
    known: tuple[str, int, int] | None = None
    at = _RIFF_BYTES
    while len(data) >= at + _CHUNK_BYTES:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += _CHUNK_BYTES
        if name == b"data":
            if known is None:
                raise _bad("a WAV header without a format", "a 'fmt ' chunk before the audio")
            has_length = 0 < length < _UNKNOWN_LENGTH_BYTES
            return WavHeader(*known, size_bytes=at, data_bytes=length if has_length else None)
        if name == b"fmt ":
            if length < _FORMAT_BYTES:
                raise _bad(f"a format of {length} bytes", f"{_FORMAT_BYTES} or more")
            if len(data) < at + min(length, _EXTENSIBLE_BYTES):
                break
            known = _format(data[at : at + length])
        # RIFF pads chunks to even lengths.
        at += length + length % 2
        if at > MAX_HEADER_BYTES:
            raise _too_long()
    if len(data) > MAX_HEADER_BYTES:
        raise _too_long()
    return None


def _format(chunk: bytes) -> tuple[str, int, int]:
    tag, num_channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", chunk[:_FORMAT_BYTES])
    if tag == _EXTENSIBLE and len(chunk) >= _EXTENSIBLE_BYTES:
        # The sub-format is a GUID whose first two bytes are the tag.
        tag = int.from_bytes(chunk[24:26], "little")
    return _ENCODINGS.get((tag, bits), "wav"), rate_hz, num_channels


def _too_long() -> ProtocolError:
    return _bad(f"a WAV header of more than {MAX_HEADER_BYTES} bytes", "less before the audio")


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_FORMAT, f"got {got}, expected {expected}")


MAX_BAD_MESSAGES = 100
"""Bad texts of one connection before it is closed."""

_TRANSACTION_KEY = "deprecated"
"""As Deepgram itself sends it."""


class _Request(msgspec.Struct):
    type: str
    channel: int | None = None


_request_decoder = msgspec.json.Decoder(_Request)


class DeepgramDialect:
    """One connection of a client of Deepgram's.

    Args:
        default_roles: of a call's two sides, where the query names none.
        created_at_s: time of the request, seconds since 1970, UTC.

    Raises:
        ProtocolError: the query asks for a stream that cannot be.
    """

    can_resume = False
    client_closes = False
    begins_with = "header of the audio"

    def __init__(
        self,
        query: ListenQuery,
        default_roles: tuple[str, str],
        request_id: str,
        created_at_s: float,
    ) -> None:
        self._query = query
        self._default_roles = default_roles
        self._request_id = request_id
        self._created_at_s = created_at_s
        self.start: StreamSpec | None = None
        if query.encoding is not None:
            self.start = self._spec(None)
        self._header = b""
        self._left_bytes: int | None = None  # of audio by the header; None: it did not say
        self._hash = hashlib.sha256()
        self._results: ListenResults | None = None
        self._ready: Ready | None = None
        self._is_stopped = False
        self._num_bad = 0

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message; after ``CloseStream`` all are ignored.

        Raises:
            ProtocolError: see :class:`stream_server.wire.dialect.Dialect`.
        """
        if self._is_stopped:
            return []
        # Several client libraries send KeepAlive as bytes.
        message = text_of_control(message)
        if isinstance(message, bytes):
            # An empty message ends the audio: older clients of Deepgram send it for CloseStream.
            return self._audio(message) if message else self._stop()
        return self._text(message)

    def send(self, message: ServerMessage) -> list[str | bytes]:
        return [encode(each) for each in self._say(message)]

    def _say(self, message: ServerMessage) -> list[ListenMessage]:
        if isinstance(message, Error):
            return [error_message(message)]
        if isinstance(message, Ready):
            self._ready = message
            self._results = ListenResults(self._query, self._request_id, message)
        # Nothing can be reported before ``ready``: it names the labels.
        if self._results is None:
            return []
        match message:
            case Point() | Segment() | Gap():
                return self._results.of(message)
            case Heartbeat():
                return self._results.heartbeat(message)
            case Flushed():
                return self._results.flushed(message)
            case Summary():
                return [*self._results.summary(message), self._metadata(message.duration_s)]
        return []

    def _audio(self, data: bytes) -> list[Inbound]:
        # ``Metadata`` has the SHA-256 of the audio as it was sent, header and all.
        self._hash.update(data)
        if self.start is not None:
            return self._within_length(data)
        self._header += data
        if (coded := self._coded()) is not None:
            return coded
        header = read_wav_header(self._header)
        if header is None:
            return []
        if header.encoding == "wav":
            rate_hz = header.sample_rate_hz if header.sample_rate_hz in SAMPLE_RATES_HZ else None
            self.start = self._spec(("wav", rate_hz, header.num_channels))
            data, self._header = self._header, b""
            return [self.start, AudioData(data)]
        self.start = self._spec((header.encoding, header.sample_rate_hz, header.num_channels))
        self._left_bytes = header.data_bytes
        rest, self._header = self._header[header.size_bytes :], b""
        return [self.start, *self._within_length(rest)]

    def _coded(self) -> list[Inbound] | None:
        """Return what a header says that is not WAV's; None: it may be that one."""
        name = container_of(self._header)
        if name is None and self._header[:1] in _MAYBE_FRAMES and len(self._header) < HEAD_BYTES:
            # Frames of MP3 and AAC are known by the second one, the others by their first bytes.
            return []
        encoding = next((key for key, each in CODECS.items() if each.begins == name), None)
        if name is None or name == "WAV" or encoding is None:
            return None
        channels = self._query.num_channels or channels_of(self._header, name)
        if channels is None and len(self._header) < MAX_HEADER_BYTES:
            return []
        self.start = self._spec((encoding, self._query.sample_rate_hz, channels or 1))
        data, self._header = self._header, b""
        return [self.start, AudioData(data)]

    def _within_length(self, data: bytes) -> list[Inbound]:
        """Cut what follows the audio of a WAV file: texts and pictures."""
        if self._left_bytes is not None:
            data = data[: self._left_bytes]
            self._left_bytes -= len(data)
        # A message with nothing but a trailing chunk still shows that the client is alive.
        return [AudioData(data)] if data else [KeepAlive()]

    def _text(self, text: str) -> list[Inbound]:
        try:
            request = _request_decoder.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise self._bad(
                ErrorCode.BAD_MESSAGE,
                f"got a text of {len(text)} characters, expected a JSON object with a 'type'",
            ) from None
        is_begun = self.start is not None
        match request.type:
            case "KeepAlive":
                return [KeepAlive()] if is_begun else []
            case "Finalize":
                if not is_begun:
                    return []
                # Before 'Ready' there are no results to finalize.
                if self._results is not None:
                    self._results.will_finalize(request.channel)
                return [Flush()]
            case "CloseStream":
                return self._stop()
            case "Configure":
                return [Say((encode(ConfigureSuccess(request_id=self._request_id)),))]
        raise self._bad(
            ErrorCode.UNKNOWN_MESSAGE,
            f"got type {shown(request.type)}, expected KeepAlive, Finalize, CloseStream or"
            " Configure",
        )

    def _stop(self) -> list[Inbound]:
        self._is_stopped = True
        if self.start is not None:
            return [Stop()]
        return [Say((encode(self._metadata(0.0)),)), Stop()]

    def _bad(self, code: ErrorCode, message: str) -> ProtocolError:
        self._num_bad += 1
        if self._num_bad > MAX_BAD_MESSAGES:
            return ProtocolError(
                ErrorCode.TOO_MANY_ERRORS,
                f"got more than {MAX_BAD_MESSAGES} bad messages, the last one: {message}",
            )
        return ProtocolError(code, message)

    def _spec(self, found: tuple[str, int | None, int] | None) -> StreamSpec:
        spec = self._query.spec(
            self._default_roles, found=found, more_metadata={"request_id": self._request_id}
        )
        return replace(spec, call_id=self._request_id)

    def _metadata(self, duration_s: float) -> Metadata:
        created = datetime.fromtimestamp(self._created_at_s, UTC)
        ready = self._ready
        model_uuid = "" if ready is None else model_uuid_of(ready)
        return Metadata(
            transaction_key=_TRANSACTION_KEY,
            request_id=self._request_id,
            sha256=self._hash.hexdigest(),
            created=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            duration=duration_s,
            channels=0 if ready is None else len(ready.channels),
            models=() if ready is None else (model_uuid,),
            model_info={} if ready is None else {model_uuid: model_info_of(ready)},
            stream_id="" if ready is None else ready.stream_id,
        )
