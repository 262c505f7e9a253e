"""What a client says of itself before the WebSocket is open."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.http11 import Request

from stream_server.access import bearer_token, cookie_token
from stream_server.protocol.errors import ErrorCode, ProtocolError, shown

__all__ = ["Handshake"]


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


def _basic_password(encoded: str) -> str | None:
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[2] or None
