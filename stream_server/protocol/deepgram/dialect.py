"""The server's side of Deepgram's ``/v1/listen``; ``docs/telephony/deepgram.md`` describes it.

A client's audio begins with the query, or with a WAV header where the query names no encoding.
Clients wait for nothing before they send, so there is no answer to the beginning of a stream.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec

from stream_server.protocol.client_messages import Flush, KeepAlive, Stop
from stream_server.protocol.deepgram.endings import error_message
from stream_server.protocol.deepgram.listen_query import ListenQuery
from stream_server.protocol.deepgram.listen_results import (
    ListenResults,
    model_info_of,
    model_uuid_of,
)
from stream_server.protocol.deepgram.messages import (
    ConfigureSuccess,
    ListenMessage,
    Metadata,
    encode,
)
from stream_server.protocol.deepgram.wav_header import read_wav_header
from stream_server.protocol.dialect import AudioData, Inbound, Say
from stream_server.protocol.errors import ErrorCode, ProtocolError, shown
from stream_server.protocol.results import Flushed, Gap, Point, Segment, Summary
from stream_server.protocol.server_messages import Error, Heartbeat, Ready, ServerMessage
from stream_server.protocol.stream_spec import StreamSpec

__all__ = ["MAX_BAD_MESSAGES", "DeepgramDialect"]

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
            ProtocolError: see :class:`stream_server.protocol.dialect.Dialect`.
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
