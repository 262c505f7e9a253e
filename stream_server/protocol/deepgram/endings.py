"""How errors are told in Deepgram's form: before the upgrade, as a message, as a close frame."""

from __future__ import annotations

from stream_server.protocol.deepgram.messages import Error
from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.server_messages import Error as NativeError

__all__ = ["close_frame", "error_message", "http_error_code", "remedy_of"]

_CLOSE_CODES = {
    ErrorCode.MESSAGE_TOO_BIG: 1009,
    ErrorCode.SHUTTING_DOWN: 1001,
    ErrorCode.IDLE: 1011,
    ErrorCode.SLOW_CONSUMER: 1011,
    ErrorCode.ENGINE_FAILED: 1011,
    ErrorCode.INTERNAL: 1011,
    ErrorCode.SERVER_FULL: 1013,
    ErrorCode.NOT_READY: 1013,
}
"""Others are the client's doing: 1008."""

_VARIANTS = {
    ErrorCode.IDLE: "NET-0001",
    ErrorCode.NOT_STARTED: "NET-0001",
    ErrorCode.SLOW_CONSUMER: "NET-0000",
    ErrorCode.BAD_FORMAT: "DATA-0000",
    ErrorCode.BAD_AUDIO: "DATA-0000",
    ErrorCode.BAD_MESSAGE: "SchemaError",
    ErrorCode.UNKNOWN_MESSAGE: "SchemaError",
}
"""Deepgram's names for what has one; others keep theirs, in capitals."""

_REMEDIES = {
    ErrorCode.IDLE: "Send audio, or KeepAlive while there is none.",
    ErrorCode.NOT_STARTED: "Send audio that begins with a WAV header, or name encoding and"
    " sample_rate in the query.",
    ErrorCode.BAD_MESSAGE: "Send KeepAlive, Finalize, CloseStream or Configure.",
    ErrorCode.UNKNOWN_MESSAGE: "Send KeepAlive, Finalize, CloseStream or Configure.",
    ErrorCode.BAD_START: "Correct the query and connect again.",
    ErrorCode.BAD_FORMAT: "Send linear16, linear32, mulaw, alaw or WAV.",
    ErrorCode.UNAUTHORIZED: "Send 'Authorization: Token KEY', or ask for the WebSocket"
    " subprotocols 'token' and KEY.",
    ErrorCode.UNKNOWN_PATH: "Connect to the path '/v1/listen'.",
}
"""Where the native protocol's advice does not fit."""

_HTTP_CODES = {
    400: "Bad Request",
    401: "INVALID_AUTH",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    429: "TOO_MANY_REQUESTS",
    503: "SERVICE_UNAVAILABLE",
}

_MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, section 5.5)."""


def close_frame(error: ProtocolError) -> tuple[int, str]:
    """Return close code and reason."""
    code = _CLOSE_CODES.get(error.code, 1008)
    reason = f"{_variant(error.code)}: {error}".encode()[:_MAX_REASON_BYTES]
    return code, reason.decode(errors="ignore")


def error_message(error: NativeError) -> Error:
    """Return the message that tells of an error."""
    code = ErrorCode(error.code)
    told = f"{error.message}. {remedy_of(code, error.remedy)}"
    return Error(variant=_variant(code), description=told, message=told)


def http_error_code(http_status: int) -> str:
    """Return what Deepgram calls a refusal with this status."""
    return _HTTP_CODES.get(http_status, "INTERNAL_SERVER_ERROR")


def remedy_of(code: ErrorCode, native: str) -> str:
    """Return what a client can do about an error.

    Args:
        code: of the error.
        native: what a client of the native protocol is told.
    """
    return _REMEDIES.get(code, native)


def _variant(code: ErrorCode) -> str:
    return _VARIANTS.get(code, code.value.upper())
