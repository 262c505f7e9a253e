"""Opening a connection, and what it means when that fails or it breaks.

How long to wait before trying again.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)

from mic_client.errors import (
    AccessError,
    BusyError,
    ClientError,
    ConnectionFailedError,
    RefusedError,
    StreamEndedError,
)
from stream_server.wire.errors import ErrorCode
from stream_server.wire.messages import Error
from stream_server.wire.native_client import retry_after_refusal

_MAX_MESSAGE_BYTES = 1 << 22
"""Points with frames of a long step are the largest messages; this is many times that."""

_ACCESS = frozenset({ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN_ORIGIN})
_BUSY = frozenset({ErrorCode.SERVER_FULL, ErrorCode.TOO_MANY_STREAMS, ErrorCode.NOT_READY})
_REFUSED = frozenset(
    {
        ErrorCode.BAD_START,
        ErrorCode.BAD_FORMAT,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.NOTHING_TO_ANALYSE,
        ErrorCode.UNKNOWN_PATH,
    }
)


class FailedTry(Exception):
    """A connection that was not had, or was lost.

    Args:
        error: what to tell if nothing more is tried.
        may_retry: whether trying again may work.
        answered: whether a server was there.
    """

    def __init__(self, error: ClientError, *, may_retry: bool, answered: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_retry = may_retry
        self.answered = answered


def check_url(url: str) -> str:
    """Return the URL.

    Raises:
        ValueError: it is not one of a WebSocket.
    """
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError(f"got URL '{url}', expected ws://HOST:PORT or wss://HOST:PORT")
    return url


async def open_connection(
    url: str, token: str, *, open_timeout_s: float, close_timeout_s: float
) -> ClientConnection:
    """Return an open connection.

    Raises:
        FailedTry: there is none to be had.
    """
    try:
        return await connect(
            url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            # It costs processor time on both sides and PCM hardly gets smaller by it.
            compression=None,
            open_timeout=open_timeout_s,
            close_timeout=close_timeout_s,
            max_size=_MAX_MESSAGE_BYTES,
            proxy=None if _is_loopback(url) else True,
        )
    except InvalidStatus as error:
        raise _refused(error) from error
    except InvalidURI as error:
        raise _unreachable(url, str(error), may_retry=False) from error
    except InvalidMessage as error:
        raise _unreachable(
            url, "what answers there does not speak HTTP", may_retry=False
        ) from error
    except (InvalidHandshake, InvalidProxy, ImportError) as error:
        # Of the last kind: a proxy that takes a package which is not installed.
        raise _unreachable(url, str(error), may_retry=False) from error
    except ssl.SSLCertVerificationError as error:
        raise _unreachable(
            url, f"its certificate is not trusted ({error.verify_message})", may_retry=False
        ) from error
    except TimeoutError as error:
        raise _unreachable(url, f"no answer within {open_timeout_s:g} s") from error
    except (OSError, EOFError, ConnectionClosed) as error:
        raise _unreachable(url, _explain(error)) from error


def error_of(error: Error) -> ClientError:
    """Return the exception that says what the server said."""
    return _error(StreamEndedError, error.code, error.message, error.remedy, error.retry_after_s)


def describe_close(closed: ConnectionClosed) -> str:
    """Return why a connection is gone, for people."""
    if closed.rcvd is None:
        return "the connection was lost"
    reason = f" ({closed.rcvd.reason})" if closed.rcvd.reason else ""
    return f"the server closed the connection with {closed.rcvd.code}{reason}"


def _refused(refusal: InvalidStatus) -> FailedTry:
    status = refusal.response.status_code
    body = _json_object(refusal.response.body)
    code = str(body.get("code", ""))
    message = str(body.get("message") or f"the server answered with HTTP status {status}")
    remedy = str(body.get("remedy") or "")
    retry_after = body.get("retry_after_s")
    retry_after_s = float(retry_after) if isinstance(retry_after, int | float) else None
    error = _error(
        {401: AccessError, 403: AccessError, 429: BusyError, 503: BusyError}.get(
            status, RefusedError
        ),
        code,
        message,
        remedy,
        retry_after_s,
    )
    return FailedTry(error, may_retry=retry_after_refusal(status), answered=True)


def _error(
    otherwise: type[ClientError],
    code: str,
    message: str,
    remedy: str,
    retry_after_s: float | None,
) -> ClientError:
    kind = otherwise
    for kinds, codes in ((AccessError, _ACCESS), (BusyError, _BUSY), (RefusedError, _REFUSED)):
        if code in codes:
            kind = kinds
    return kind(message, code=code, remedy=remedy, retry_after_s=retry_after_s)


def _unreachable(url: str, why: str, *, may_retry: bool = True) -> FailedTry:
    error = ConnectionFailedError(
        f"no stream server at {url}: {why}",
        remedy="Start one with `emotion-monitor serve`, or name another one's URL",
    )
    return FailedTry(error, may_retry=may_retry, answered=False)


def _explain(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or "it hung up"


def _json_object(body: bytes | bytearray | None) -> dict[str, Any]:
    try:
        decoded = json.loads(body or b"{}")
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
