"""What the end of a stream is called, and what its client is told where the server is to blame."""

from __future__ import annotations

import structlog

from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.results import CloseReason

__all__ = ["failure", "reason_of"]

_log = structlog.get_logger(__name__)

_REASONS: dict[ErrorCode, CloseReason] = {
    ErrorCode.IDLE: "idle",
    ErrorCode.TOO_LONG: "too_long",
    ErrorCode.TOO_MANY_MESSAGES: "too_many_messages",
    ErrorCode.ENGINE_FAILED: "engine_failed",
    ErrorCode.INTERNAL: "internal",
    ErrorCode.SHUTTING_DOWN: "server_stopped",
}
"""What the end of a stream is called where an error ends it; others are ``protocol_error``."""


def reason_of(error: ProtocolError | None) -> CloseReason:
    """Return why a stream ended: by an error, or because the client asked for it."""
    return "stopped" if error is None else _REASONS.get(error.code, "protocol_error")


def failure(stream_id: str) -> ProtocolError:
    """Log the exception that is being handled; return what the client is told instead."""
    _log.exception("stream_failed", stream_id=stream_id)
    return ProtocolError(ErrorCode.INTERNAL, "the server failed on this stream")
