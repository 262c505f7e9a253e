"""Ids and numbers of a session's messages, both ways."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stream_server.protocol.audiohook.messages import (
    NULL_UUID,
    VERSION,
    ClientMessage,
    is_uuid,
    read_duration,
    read_message,
)
from stream_server.protocol.errors import ErrorCode, ProtocolError, shown

__all__ = ["Envelopes"]

_MAX_SEQ = 2**53 - 1
"""Largest number that every JSON reader takes for what it is."""

_encoder = msgspec.json.Encoder()


class Envelopes:
    """Checks what comes, and numbers what goes.

    Args:
        session_id: of the handshake's headers; "": the first message says it.
    """

    def __init__(self, session_id: str = "") -> None:
        self._id = session_id
        self._seq = 0
        self._client_seq = 0

    def read(self, text: str, code: ErrorCode) -> ClientMessage:
        """Return a message of the client.

        Args:
            text: of the client.
            code: of the error.

        Raises:
            ProtocolError: it is none, of another version or session, or its numbers are wrong.
        """
        message = read_message(text, code)
        if message.version != VERSION:
            raise ProtocolError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"got version {shown(message.version)}, expected '{VERSION}'",
            )
        if message.seq != self._client_seq + 1:
            raise ProtocolError(
                code, f"got seq {shown(message.seq)}, expected {self._client_seq + 1}"
            )
        self._client_seq = message.seq
        if not 0 <= message.serverseq <= self._seq:
            raise ProtocolError(
                code, f"got serverseq {shown(message.serverseq)}, expected at most {self._seq}"
            )
        self._check_id(message.id, code)
        read_duration("position", message.position, code)
        return message

    def read_late(self, text: str) -> ClientMessage | None:
        """Return a message after an error, where numbers need not be right any more; None: none."""
        try:
            message = read_message(text, ErrorCode.BAD_START)
        except ProtocolError:
            return None
        self._client_seq = min(max(self._client_seq, message.seq), _MAX_SEQ)
        return message

    def write(self, kind: str, parameters: Mapping[str, object]) -> str:
        """Return the next message of the server."""
        self._seq += 1
        return _encoder.encode(
            {
                "version": VERSION,
                "type": kind,
                "seq": self._seq,
                "clientseq": self._client_seq,
                "id": self._id or NULL_UUID,
                "parameters": parameters,
            }
        ).decode()

    def _check_id(self, session_id: str, code: ErrorCode) -> None:
        if not is_uuid(session_id):
            raise ProtocolError(code, f"got the id {shown(session_id)}, expected a UUID")
        if not self._id:
            self._id = session_id
        if session_id != self._id:
            raise ProtocolError(
                code, "got the id of another session, expected that of Audiohook-Session-Id"
            )
