"""Opening a connection, and what it means when that fails or the connection breaks."""

from __future__ import annotations

import ipaddress
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
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

_ERROR_CLASSES: dict[str, type[ClientError]] = {
    ErrorCode.UNAUTHORIZED: AccessError,
    ErrorCode.FORBIDDEN: AccessError,
    ErrorCode.FORBIDDEN_ORIGIN: AccessError,
    ErrorCode.SERVER_FULL: BusyError,
    ErrorCode.TOO_MANY_STREAMS: BusyError,
    ErrorCode.NOT_READY: BusyError,
    ErrorCode.BAD_START: RefusedError,
    ErrorCode.BAD_FORMAT: RefusedError,
    ErrorCode.UNSUPPORTED_VERSION: RefusedError,
    ErrorCode.NOTHING_TO_ANALYSE: RefusedError,
    ErrorCode.UNKNOWN_PATH: RefusedError,
}
_CLASSES_BY_STATUS = {401: AccessError, 403: AccessError, 429: BusyError, 503: BusyError}


class FailedTry(Exception):
    """A connection could not be opened, or was lost.

    Attributes:
        error: what to raise if nothing more is tried.
        may_retry: whether trying again may work.
        answered: whether a server was there.
    """

    def __init__(self, error: ClientError, *, may_retry: bool, answered: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_retry = may_retry
        self.answered = answered


def check_url(url: str) -> str:
    """Return the URL. Raises ValueError: it is not one of a WebSocket."""
    try:
        parts = urlsplit(url)
        # Reading .port raises, too, if it is not a number up to 65535.
        is_valid = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"invalid URL '{url}'; it must be ws://HOST:PORT or wss://HOST:PORT")
    return url


async def open_connection(
    url: str,
    token: str,
    *,
    max_message_bytes: int,
    open_timeout_s: float = 10.0,
    close_timeout_s: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> ClientConnection:
    """Return an open connection; the caller closes it.

    Args:
        tls: of ``wss://``; None: the authorities of the system are trusted.

    Raises:
        FailedTry: it could not be opened.
    """
    try:
        return await connect(
            url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            # permessage-deflate costs processor time on both sides, and PCM hardly gets smaller.
            compression=None,
            open_timeout=open_timeout_s,
            close_timeout=close_timeout_s,
            max_size=max_message_bytes,
            ssl=(tls or True) if url.startswith("wss:") else None,
            # True: as http_proxy, https_proxy and all_proxy say. A proxy would take "localhost" for
            # the machine it runs on itself.
            proxy=None if _is_loopback(url) else True,
        )
    except InvalidStatus as error:
        raise _refused(error) from error
    except InvalidMessage as error:
        reason = "what answers there does not speak HTTP"
        raise _unreachable(url, reason, may_retry=False) from error
    except (InvalidURI, InvalidHandshake, InvalidProxy, ImportError) as error:
        # ImportError: a SOCKS proxy needs the package python-socks.
        raise _unreachable(url, str(error), may_retry=False) from error
    except ssl.SSLCertVerificationError as error:
        # Before OSError, of which it is one: a certificate does not become valid by waiting.
        reason = f"its certificate is not trusted ({error.verify_message})"
        raise _unreachable(url, reason, may_retry=False) from error
    except TimeoutError as error:
        raise _unreachable(url, f"no answer within {open_timeout_s:g} s") from error
    except (OSError, EOFError, ConnectionClosed) as error:
        raise _unreachable(url, _reason_of(error)) from error


_FIRST_CERTIFICATE = re.compile(
    "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)


def tls_trusting(ca_file: str | Path) -> ssl.SSLContext:
    """Return the TLS of a client that trusts the authorities of a file, and no others.

    Args:
        ca_file: PEM; a certificate that a server signed by itself is an authority, too.

    Raises:
        ClientError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=Path(ca_file).expanduser())
    except (OSError, ValueError) as error:
        raise _not_trusted(ca_file, error) from None


def tls_of_server(certificate: str | Path) -> ssl.SSLContext:
    """Return the TLS of a client that trusts one server's certificate, whatever its name is.

    Args:
        certificate: PEM, perhaps followed by those that it was signed with.

    Raises:
        ClientError: the file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only this one certificate passes, so its name says nothing more.
    context.check_hostname = False
    # An authority is wanted above it otherwise.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        # Not the whole file: those it was signed with have signed others.
        own = _FIRST_CERTIFICATE.search(Path(certificate).expanduser().read_text())
        context.load_verify_locations(cadata="" if own is None else own[0])
    except (OSError, ValueError) as error:
        raise _not_trusted(certificate, error) from None
    return context


def _not_trusted(path: str | Path, error: Exception) -> ClientError:
    # An SSLError is an OSError, with numbers and texts of OpenSSL's.
    is_file = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
    reason = error.strerror if is_file and isinstance(error, OSError) else "no certificate in it"
    return ConnectionFailedError(
        f"got '{path}' as a file of certificates: {reason}",
        remedy="Name a file of certificates in PEM.",
    )


class _Refusal(msgspec.Struct):
    """The body of a refused handshake: an ``error`` of the protocol, or what a proxy sends."""

    code: str = ""
    message: str = ""
    remedy: str = ""
    retry_after_s: float | None = None


def error_of(error: Error) -> ClientError:
    """Return the exception for an error that ended a stream."""
    kind = _ERROR_CLASSES.get(error.code, StreamEndedError)
    return kind(
        error.message, code=error.code, remedy=error.remedy, retry_after_s=error.retry_after_s
    )


def describe_close(closed: ConnectionClosed) -> str:
    """Return why a connection is gone, for people."""
    if closed.rcvd is None:
        return "the connection was lost"
    reason = f" ({closed.rcvd.reason})" if closed.rcvd.reason else ""
    return f"the server closed the connection with {closed.rcvd.code}{reason}"


def _refused(refusal: InvalidStatus) -> FailedTry:
    status = refusal.response.status_code
    try:
        body = msgspec.json.decode(refusal.response.body or b"{}", type=_Refusal, strict=False)
    except msgspec.MsgspecError:
        # A proxy answered, with a page of HTML.
        body = _Refusal()
    kind = _ERROR_CLASSES.get(body.code, _CLASSES_BY_STATUS.get(status, RefusedError))
    error = kind(
        body.message or f"the server answered with HTTP status {status}",
        code=body.code,
        remedy=body.remedy,
        retry_after_s=body.retry_after_s,
    )
    return FailedTry(error, may_retry=retry_after_refusal(status), answered=True)


def _unreachable(url: str, reason: str, *, may_retry: bool = True) -> FailedTry:
    error = ConnectionFailedError(
        f"no stream server at {url.partition('?')[0]}: {reason}",
        remedy="Start one with `emotion-monitor serve`, or name another one's URL",
    )
    return FailedTry(error, may_retry=may_retry, answered=False)


def _reason_of(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or "the connection was closed during the handshake"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
        # A server that listens everywhere names itself 0.0.0.0; connecting there is this machine.
        mapped = getattr(address, "ipv4_mapped", None) or address
        return bool(mapped.is_loopback or mapped.is_unspecified)
    except ValueError:
        # RFC 6761, section 6.3: names below "localhost" are loopback, too.
        return f".{host.rstrip('.')}".endswith(".localhost")
