"""The server's side of Deepgram's ``/v1/listen``; ``README.md`` describes it.

A client's audio begins with the query, or with a WAV header where the query names no encoding.
Clients wait for nothing before they send, so there is no answer to the beginning of a stream.

The header of a WAV file that comes in pieces, as the beginning of a stream.

Source: Microsoft's "Multiple Channel Audio Data and WAVE Files" for the extensible form.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
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
from stream_server.wire.dialect import AudioData, Inbound, Say
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
"""Longest header, texts and pictures in front of the audio included."""

_RIFF_BYTES = 12
_CHUNK_BYTES = 8
_FORMAT_BYTES = 16
_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_BYTES = 26
_ENCODINGS = {(1, 16): "pcm_s16le", (3, 32): "pcm_f32le", (6, 8): "alaw", (7, 8): "mulaw"}
"""Format tag and bits a sample."""
_UNKNOWN_LENGTH_BYTES = 0x7FFF_F000
"""Lengths from here on are what programs write that do not know yet; so is 0."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a header says.

    Attributes:
        encoding: as the native protocol calls it.
        sample_rate_hz: as the header says, unchecked.
        num_channels: the same.
        size_bytes: where the audio begins.
        data_bytes: length of the audio; None: it does not say.
    """

    encoding: str
    sample_rate_hz: int
    num_channels: int
    size_bytes: int
    data_bytes: int | None


def read_wav_header(data: bytes) -> WavHeader | None:
    """Return the header that ``data`` begins with; None: more is needed.

    Raises:
        ProtocolError: BAD_FORMAT: it begins with no header, or with one of other audio.
    """
    if not b"RIFF".startswith(data[:4]) or not b"WAVE".startswith(data[8:_RIFF_BYTES]):
        raise _bad(
            "audio that does not begin with a WAV header",
            "one, or encoding and sample_rate in the query",
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
        # Chunks begin at even positions.
        at += length + length % 2
        if at > MAX_HEADER_BYTES:
            raise _too_long()
    if len(data) > MAX_HEADER_BYTES:
        raise _too_long()
    return None


def _format(chunk: bytes) -> tuple[str, int, int]:
    tag, num_channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", chunk[:_FORMAT_BYTES])
    if tag == _EXTENSIBLE and len(chunk) >= _EXTENSIBLE_BYTES:
        # The first two bytes of the sub-format are what the tag would be.
        tag = int.from_bytes(chunk[24:26], "little")
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None:
        raise _bad(
            f"WAV format {tag} with {bits} bits",
            "16-bit PCM, 32-bit float, mu-law or A-law",
        )
    return encoding, rate_hz, num_channels


def _too_long() -> ProtocolError:
    return _bad(f"a WAV header of more than {MAX_HEADER_BYTES} bytes", "less before the audio")


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_FORMAT, f"got {got}, expected {expected}")


MAX_BAD_MESSAGES = 100
"""Texts of one connection that are not understood before it is closed."""

_TRANSACTION_KEY = "deprecated"
"""What Deepgram writes there."""


class _Request(msgspec.Struct):
    type: str
    channel: int | None = None


_request_decoder = msgspec.json.Decoder(_Request)


class DeepgramDialect:
    """One connection of a client of Deepgram's.

    Args:
        query: what it asked for.
        default_roles: of a call's two sides, where the query names none.
        request_id: names the request.
        created_at_s: when it was made, seconds since 1970, UTC.

    Attributes:
        start: what the stream is; None until the WAV header is there.

    Raises:
        ProtocolError: the query asks for a stream that cannot be.
    """

    can_resume = False
    client_closes = False
    begins_with = "WAV header"

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
        """Take one WebSocket message; after the end of the audio nothing is heard any more.

        Raises:
            ProtocolError: see :class:`stream_server.wire.dialect.Dialect`.
        """
        if self._is_stopped:
            return []
        if isinstance(message, bytes):
            return self._audio(message) if message else self._stop()
        return self._text(message)

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the texts that say ``message``."""
        return [encode(each) for each in self._say(message)]

    def _say(self, message: ServerMessage) -> list[ListenMessage]:
        if isinstance(message, Error):
            return [error_message(message)]
        if isinstance(message, Ready):
            self._ready = message
            self._results = ListenResults(self._query, self._request_id, message)
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
        self._hash.update(data)
        if self.start is not None:
            return self._within_length(data)
        self._header += data
        header = read_wav_header(self._header)
        if header is None:
            return []
        self.start = self._spec((header.encoding, header.sample_rate_hz, header.num_channels))
        self._left_bytes = header.data_bytes
        rest, self._header = self._header[header.size_bytes :], b""
        return [self.start, *self._within_length(rest)]

    def _within_length(self, data: bytes) -> list[Inbound]:
        """Leave out what follows the audio of a WAV file: texts and pictures."""
        if self._left_bytes is not None:
            data = data[: self._left_bytes]
            self._left_bytes -= len(data)
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
                # Results of before 'Ready' are none.
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

    def _spec(self, wav: tuple[str, int, int] | None) -> StreamSpec:
        return self._query.spec(
            self._default_roles, wav=wav, more_metadata={"request_id": self._request_id}
        )

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
