"""Whether it is worth connecting again after a connection or its handshake failed."""

from __future__ import annotations

from stream_server.protocol.errors import ERRORS, ErrorCode
from stream_server.protocol.server_messages import Error

__all__ = ["retry_after_close", "retry_after_refusal"]

# Of RFC 6455 and its registry. No close frame and an abnormal end are a lost connection; the
# others say that server or proxy restart or are busy.
_LOST_CONNECTION = (1005, 1006, 1011, 1012, 1013, 1014)
# What proxies answer while the server behind them is away.
_TEMPORARY_STATUSES = (408, 502, 504)


def retry_after_close(close_code: int | None, error: Error | None = None) -> bool:
    """Return whether connecting again may work.

    Args:
        close_code: of the close frame; None: the connection broke without one.
        error: the last ``error`` of this connection that ends a stream. Several errors share a
            close code, so this decides where it is there.
    """
    if error is not None:
        try:
            return ERRORS[ErrorCode(error.code)].retry
        except ValueError:
            pass  # An error of a later version: its close code tells what is known of it.
    if close_code is None or close_code in _LOST_CONNECTION:
        return True
    return any(kind.retry for kind in ERRORS.values() if kind.close_code == close_code)


def retry_after_refusal(http_status: int) -> bool:
    """Return whether connecting again may work after the handshake was refused with a status."""
    if http_status in _TEMPORARY_STATUSES:
        return True
    kinds = [kind for kind in ERRORS.values() if kind.http_status == http_status]
    return bool(kinds) and all(kind.retry for kind in kinds)
