"""From an HTTP request to the protocol of its WebSocket: handshake, admission or refusal.

A route is one path of the gateway. :class:`NativeRoute` is that of this project's own clients,
``/``; platforms bring theirs.
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

from stream_server.access import Access, Arrival, Scope, Who, bearer_token, session_of
from stream_server.access.door import FORWARDED_HEADERS
from stream_server.wire.dialect import Dialect
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.feed_messages import ResultEncoder, encode_message
from stream_server.wire.messages import error_message
from stream_server.wire.native import NativeDialect

_TEAMS = "/teams/"


@dataclass(frozen=True, slots=True)
class Handshake:
    """One request to open a WebSocket (RFC 6455, section 4.2.1).

    Attributes:
        target: path and query as they came, percent-encoded; signatures are made over it.
        path: decoded, without the query and what names the team; begins with "/".
        team: of ``/teams/NAME/...``, for platforms that take only a URL; "": the path names none.
        query_pairs: names and values of the query, decoded; a name may come several times.
        headers: by name in lower case; the first of those that came several times, save what
            proxies add, of which the last ones count.
        peer: address of the other end, a proxy's or the client's; "" if it has hung up.
    """

    target: str
    path: str
    query_pairs: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    peer: str
    team: str = ""
    is_secure: bool = False

    @classmethod
    def of(cls, request: Request, peer: str, *, is_secure: bool = False) -> Handshake:
        """Parse a request. Raises ProtocolError: its target is not a path."""
        try:
            parts = urlsplit(request.path)
        except ValueError:
            raise ProtocolError(
                ErrorCode.UNKNOWN_PATH, "the request target is not a path; connect to '/'"
            ) from None
        pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
        # Reversed, so that the first of several headers of one name stays.
        headers = {name.lower(): value for name, value in reversed([*request.headers.raw_items()])}
        for name in FORWARDED_HEADERS:
            if name in headers:
                headers[name] = ", ".join(request.headers.get_all(name))
        path, team = unquote(parts.path), ""
        if path.startswith(_TEAMS):
            team, _, rest = path.removeprefix(_TEAMS).partition("/")
            path = f"/{rest}"
        return cls(request.path, path, pairs, headers, peer, team, is_secure)

    @property
    def query(self) -> dict[str, str]:
        """The query as a mapping. Raises ProtocolError: a name comes twice."""
        # Two values for one name are ambiguous, and which one a proxy or a platform takes differs.
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
        return self.headers.get("host")

    @property
    def root(self) -> str:
        """The first part of the path, with its slash: which route it takes."""
        # A proxy or a platform may join host and path with two slashes.
        return "/" + self.path.lstrip("/").partition("/")[0]

    @property
    def path_token(self) -> str | None:
        """What follows :attr:`root`: the access token of platforms that take only a URL."""
        return self.path.lstrip("/").partition("/")[2] or None

    @property
    def header_token(self) -> str | None:
        """The access token of ``Authorization``: Bearer, Token, or the password of Basic."""
        value = self.headers.get("authorization", "")
        scheme, _, rest = value.partition(" ")
        match scheme.lower():
            # Deepgram's scheme. Basic is for platforms that take only a URL with a password.
            case "token":
                return rest.strip() or None
            case "basic":
                return _basic_password(rest.strip())
        return bearer_token(value)

    @property
    def session(self) -> str | None:
        return session_of(self.headers.get("cookie"))

    def admit(self, access: Access, token: str | None, session: str | None = None) -> Who:
        """Return who sends audio. Raises ProtocolError: UNAUTHORIZED or FORBIDDEN."""
        return access.admit(Scope.INGEST, self.arrival(access), token, session)

    def arrival(self, access: Access) -> Arrival:
        return access.arrival(self.peer, self.headers, is_secure=self.is_secure)


def native_close_frame(error: ProtocolError) -> tuple[int, str]:
    code = error.kind.close_code
    assert code is not None, "an error that leaves the stream as it was does not end it"
    return code, error.code.value


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that is let in.

    Attributes:
        authorize: takes the token of the first message, "" without one; returns who the client is.
            Raises ProtocolError.
        is_known: it is authenticated already; False: ``authorize`` may still refuse it.
    """

    dialect: Dialect
    authorize: Callable[[str], Who]
    headers: dict[str, str] = field(default_factory=dict)
    close_frame: Callable[[ProtocolError], tuple[int, str]] = native_close_frame
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP response to a client that is not let in."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class Route(Protocol):
    """One path of the gateway."""

    subprotocols: tuple[str, ...]

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in.

        Raises:
            ProtocolError: it is not let in. The answer to UNAUTHORIZED is sent after a fixed delay.
        """
        ...

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the refusal in the form that the route's clients understand."""
        ...


def json_refusal(error: ProtocolError) -> Refusal:
    """Return the native protocol's refusal: the error message as JSON."""
    body = encode_message(error_message(error)) + "\n"
    return _refusal(error, body, "application/json", "Bearer")


def text_refusal(error: ProtocolError) -> Refusal:
    """Return the error as text: platforms show it to their users, if at all."""
    # A platform that is given a URL with a password sends it only when Basic is asked for.
    return _refusal(error, f"{error}\n", "text/plain; charset=utf-8", "Basic")


def _refusal(error: ProtocolError, body: str, content_type: str, scheme: str) -> Refusal:
    headers = {"Content-Type": content_type, **retry_after(error)}
    if error.code is ErrorCode.UNAUTHORIZED:
        headers["WWW-Authenticate"] = scheme
    return Refusal(error.kind.http_status, body, headers)


def retry_after(error: ProtocolError) -> dict[str, str]:
    """Return the ``Retry-After`` header: whole seconds (RFC 9110, section 10.2.3), rounded up."""
    if error.retry_after_s is None:
        return {}
    return {"Retry-After": str(math.ceil(error.retry_after_s))}


class NativeRoute:
    """The native protocol's route, ``/``."""

    subprotocols: tuple[str, ...] = ()

    def __init__(self, access: Access, check_capacity: Callable[[str], None]) -> None:
        self._access = access
        self._check_capacity = check_capacity
        self._encoder = ResultEncoder()

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in; one without a query may be authenticated later, by ``start``."""
        dialect = NativeDialect(handshake.query, encoder=self._encoder)
        header = handshake.header_token

        def authorize(first: str) -> Who:
            # The cookie comes last: a browser sends it unasked, whatever token the page gives.
            return handshake.admit(self._access, header or first, handshake.session)

        if dialect.start is not None:
            self._check_capacity(authorize("").name)
        elif header is not None:
            authorize("")
        is_known = dialect.start is not None or header is not None
        return Admission(dialect, authorize, is_known=is_known)

    def refuse(self, error: ProtocolError) -> Refusal:
        return json_refusal(error)


def _basic_password(encoded: str) -> str | None:
    try:
        # RFC 7617: user-id and password with a colon; the user's name does not matter.
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[2] or None
