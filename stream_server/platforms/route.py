"""The way in of this project's own clients: ``/``.

What the gateway needs of a way in.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.http11 import Request

from stream_server.access import Access, bearer_token, cookie_token
from stream_server.wire.dialect import Dialect
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.feed_messages import ResultEncoder, encode_message
from stream_server.wire.messages import error_message
from stream_server.wire.native import NativeDialect


@dataclass(frozen=True, slots=True)
class Handshake:
    """One request to open a WebSocket.

    Attributes:
        target: path and query as they came, percent signs and all.
        path: percent signs decoded, without the query; begins with "/".
        query_pairs: names and values of the query, decoded; a name may come several times.
        headers: by name in lower case; the first of those that came several times.
        peer: the client's address; "" if it has hung up.
    """

    target: str
    path: str
    query_pairs: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    peer: str

    @classmethod
    def of(cls, request: Request, peer: str) -> Handshake:
        """Return what a request says.

        Raises:
            ProtocolError: its target is no path.
        """
        try:
            parts = urlsplit(request.path)
        except ValueError:
            raise ProtocolError(
                ErrorCode.UNKNOWN_PATH, "got a target that is no path, expected '/'"
            ) from None
        pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in reversed([*request.headers.raw_items()])}
        return cls(request.path, unquote(parts.path), pairs, headers, peer)

    @property
    def query(self) -> dict[str, str]:
        """The query, every name once.

        Raises:
            ProtocolError: it names something twice.
        """
        query = dict(self.query_pairs)
        if len(query) < len(self.query_pairs):
            names = [name for name, _ in self.query_pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ProtocolError(
                ErrorCode.BAD_START,
                f"got {shown(twice)} more than once in the query, expected it once",
            )
        return query

    @property
    def host(self) -> str | None:
        """The name the client knows the server by; None: it does not say."""
        return self.headers.get("host")

    @property
    def root(self) -> str:
        """The first part of the path, with its slash: what kind of client this is."""
        return "/" + self.path.lstrip("/").partition("/")[0]

    @property
    def path_token(self) -> str | None:
        """What follows :attr:`root`: the access token of platforms that are told only a URL."""
        return self.path.lstrip("/").partition("/")[2] or None

    @property
    def header_token(self) -> str | None:
        """The access token of ``Authorization``: Bearer, Token, or the password of Basic."""
        value = self.headers.get("authorization", "")
        scheme, _, rest = value.partition(" ")
        match scheme.lower():
            case "token":
                return rest.strip() or None
            case "basic":
                return _basic_password(rest.strip())
        return bearer_token(value)

    @property
    def cookie_token(self) -> str | None:
        """The access token of a browser that has logged in."""
        return cookie_token(self.headers.get("cookie"))


def native_close_frame(error: ProtocolError) -> tuple[int, str]:
    """Return the native protocol's close code and reason."""
    code = error.kind.close_code
    assert code is not None, "an error that leaves the stream as it was does not end it"
    return code, error.code.value


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that is let in.

    Attributes:
        dialect: what it speaks.
        authorize: takes the token of the first message, "" without one; returns the name of who
            connects, "" for nobody in particular. Raises ProtocolError.
        headers: of the answer that opens the WebSocket, beside those of every such answer.
        close_frame: takes the error that ends the connection, returns close code and reason.
        is_known: it has proved who it is, as far as it has to; False: it may do so yet.
    """

    dialect: Dialect
    authorize: Callable[[str], str]
    headers: dict[str, str] = field(default_factory=dict)
    close_frame: Callable[[ProtocolError], tuple[int, str]] = native_close_frame
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP answer to a client that is not let in.

    Attributes:
        status: HTTP status.
        body: text.
        headers: beside those of every answer.
    """

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class Entrance(Protocol):
    """One way in.

    Attributes:
        subprotocols: WebSocket subprotocols its clients may ask for.
    """

    subprotocols: tuple[str, ...]

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in; a capacity check follows where that is of use before the upgrade.

        Raises:
            ProtocolError: it is not let in. UNAUTHORIZED is told after a fixed delay.
        """
        ...

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the form of refusal this kind of client understands."""
        ...


def plain_refusal(error: ProtocolError) -> Refusal:
    """Return the native protocol's form: the error message as JSON."""
    headers = {"Content-Type": "application/json"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.code is ErrorCode.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Refusal(error.kind.http_status, encode_message(error_message(error)) + "\n", headers)


class NativeEntrance:
    """See :class:`~stream_server.platforms.route.Entrance`.

    Args:
        access: who may connect.
        check_capacity: takes a token's name; raises ProtocolError where there is no room for a
            stream of it.
    """

    subprotocols: tuple[str, ...] = ()

    def __init__(self, access: Access, check_capacity: Callable[[str], None]) -> None:
        self._access = access
        self._check_capacity = check_capacity
        self._encoder = ResultEncoder()

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in; without a query it may prove later who it is, with ``start``."""
        dialect = NativeDialect(handshake.query, encoder=self._encoder)
        header = handshake.header_token
        other = handshake.cookie_token

        def authorize(first: str) -> str:
            token = header or first or other
            return self._access.authorize_client(token, handshake.peer, handshake.host) or ""

        if dialect.start is not None:
            self._check_capacity(authorize(""))
        elif header is not None:
            authorize("")
        is_known = dialect.start is not None or header is not None
        return Admission(dialect, authorize, is_known=is_known)

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the error message as JSON."""
        return plain_refusal(error)


def _basic_password(encoded: str) -> str | None:
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[2] or None
