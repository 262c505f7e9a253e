"""Who may connect: tokens, the origin of pages, and the name a browser thinks it talks to.

Pure functions over what a handshake or request says; the WebSocket gateway and the HTTP server ask
the same ones. What each guards against:

- *Token*: anyone else on the network. A server that listens on loopback asks for none.
- *Origin*: a page of another site, open in a browser that may connect.
- *Host*: DNS rebinding, a site whose name is made to resolve to this machine, which would pass for
  a page of the server's own. Only a server on loopback needs it: elsewhere a token is asked for.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import unquote, urlsplit

from stream_server.config import AccessConfig, ListenConfig
from stream_server.wire.errors import ErrorCode, ProtocolError

__all__ = ["COOKIE_NAME", "Access", "bearer_token", "cookie_token", "is_loopback"]

COOKIE_NAME = "emotion_monitor_token"
"""What a browser that has logged in sends: it can set no header when it asks for a page."""

_LOOPBACK_NAMES = ("localhost", "ip6-localhost")
_SCHEME = "bearer "


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of an ``Authorization`` header; None without one."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip() or None


def cookie_token(cookies: str | None) -> str | None:
    """Return the token of a ``Cookie`` header; None without one."""
    for cookie in (cookies or "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == COOKIE_NAME:
            return unquote(value) or None
    return None


def is_loopback(host: str | None) -> bool:
    """Whether an address or name is one of this machine's own, which no other can reach."""
    if not host:
        return False
    name = host.rstrip(".").lower()
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0].strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class Access:
    """The rules of one server.

    Args:
        config: tokens and origins.
        listen: where the server listens.
        public_url: what clients elsewhere know the server by, behind a proxy; "": there is none.
    """

    def __init__(self, config: AccessConfig, listen: ListenConfig, public_url: str = "") -> None:
        self._tokens = [(name, token.encode()) for name, token in config.tokens.items()]
        self._origins = frozenset(_normal(origin) for origin in config.allowed_origins)
        self._origin_hosts = frozenset(_host_of(origin) for origin in config.allowed_origins)
        self._public_host = _host_of(public_url)
        self._listens_on_loopback = listen.is_loopback

    def is_local(self, peer: str, host: str | None) -> bool:
        """Whether a client is on this machine, and did not come through the proxy.

        Args:
            peer: the client's address.
            host: the ``Host`` header.
        """
        is_public = bool(self._public_host) and _host_of(f"//{host or ''}") == self._public_host
        return is_loopback(peer) and not is_public

    def authorize(self, token: str | None, peer_is_loopback: bool) -> str | None:
        """Return the name of who connects.

        Args:
            token: what the client gave, see :func:`bearer_token`.
            peer_is_loopback: see :func:`is_loopback`, of the peer's address.

        Returns:
            The token's name in the settings; None where no token is needed and none known given.

        Raises:
            ProtocolError: UNAUTHORIZED.
        """
        name = self._name_of(token)
        if name is not None or (self._listens_on_loopback and peer_is_loopback):
            return name
        got = "no access token" if token is None else "an unknown access token"
        raise ProtocolError(
            ErrorCode.UNAUTHORIZED, f"got {got}, expected one of the setting access.tokens"
        )

    def authorize_client(self, token: str | None, peer: str, host: str | None) -> str | None:
        """Return the name of who connects, as :meth:`authorize` does.

        Args:
            token: what the client gave.
            peer: the client's address.
            host: the ``Host`` header.

        Raises:
            ProtocolError: UNAUTHORIZED.
        """
        return self.authorize(token, self.is_local(peer, host))

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Refuse pages of other sites, and names that are not this server's.

        Args:
            origin: the ``Origin`` header; None: not a page, or one of this server's own.
            host: the ``Host`` header.

        Raises:
            ProtocolError: FORBIDDEN_ORIGIN.
        """
        self.check_host(host)
        if origin is None or _normal(origin) in self._origins:
            return
        page = _host_of(origin)
        if page and (
            is_loopback(page) if self._listens_on_loopback else page == _host_of(f"//{host or ''}")
        ):
            return
        raise ProtocolError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"got a page of the origin '{_shown(origin)}', expected one of this server's or of the"
            " setting access.allowed_origins",
        )

    def check_host(self, host: str | None) -> None:
        """Refuse, on loopback, a name other than this machine's or an allowed origin's.

        Raises:
            ProtocolError: FORBIDDEN_ORIGIN.
        """
        if not self._listens_on_loopback or host is None:
            return
        name = _host_of(f"//{host}")
        if is_loopback(name) or (name and name in (*self._origin_hosts, self._public_host)):
            return
        raise ProtocolError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"got the host name '{_shown(host)}', expected localhost, a loopback address or the"
            " host of one of the settings access.allowed_origins and telephony.public_url",
        )

    def _name_of(self, token: str | None) -> str | None:
        """Compare with every token in full, so that time tells nothing of how close a guess is."""
        found = None
        given = (token or "").encode(errors="surrogateescape")
        for name, known in self._tokens:
            if hmac.compare_digest(known, given):
                found = name
        return found


def _normal(origin: str) -> str:
    return origin.strip().rstrip("/").lower()


def _host_of(url: str) -> str:
    """Return the host of a URL, lower case, without port; "" where there is none."""
    try:
        return (urlsplit(url.strip()).hostname or "").lower()
    except ValueError:
        return ""


def _shown(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
