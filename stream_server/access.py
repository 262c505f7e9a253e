"""Who may connect: tokens, the origin of pages, and the name a browser thinks it talks to.

Pure functions over a handshake or request; the WebSocket gateway and the HTTP server share them.
Each check has an attacker:

- *Token*: other machines on the network. A server that listens on loopback requires none.
- *Origin*: a page of another site in a browser that may connect. Browsers send cookies with
  WebSocket handshakes of any page, and RFC 6455, section 10.2, leaves the check to the server.
- *Host*: DNS rebinding, a site whose name is made to resolve to this machine, so that its pages
  pass for the server's own. Only a server on loopback needs it: others require a token.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import unquote, urlsplit

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from stream_server.wire.errors import ErrorCode, ProtocolError

COOKIE_NAME = "emotion_monitor_token"
"""Sent by a browser that has logged in: a page request cannot carry an Authorization header."""

_LOOPBACK_NAMES = ("localhost", "ip6-localhost")
_SCHEME = "bearer "
# Of characters that no client writes in two ways (RFC 3986, section 2.3).
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where the server listens."""

    host: str = "localhost"
    """Address of both ports; other than loopback needs ``access.tokens``."""
    port: Annotated[int, Range(0, 65_535)] = 8765
    """Port for audio, over WebSocket. 0: any free one."""
    http_port: Annotated[int, Range(0, 65_535)] = 7860
    """Port for the dashboard, feeds, health and metrics. 0: any free one."""
    base_path: str = ""
    """Path below which that port serves everything, e.g. /emotion, for a proxy that passes paths on
    as they are; one that removes its own part needs no setting."""

    def __post_init__(self) -> None:
        check_fields(self, "listen")
        if self.base_path and not _BASE_PATH.fullmatch(self.base_path):
            raise ConfigError(
                f"got listen.base_path '{self.base_path}', expected a path such as /emotion,"
                " without a slash at its end"
            )
        if self.port == self.http_port != 0:
            raise ConfigError(
                f"got listen.port and listen.http_port {self.port}, expected two ports"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host in _LOOPBACK_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may connect."""

    tokens: dict[str, str] = field(default_factory=dict)
    """Names and secrets of clients that may connect, e.g. {crm: 3f9c…}, at least 16 characters
    each; not needed on loopback."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may connect from a browser, e.g. https://monitor.example.org; pages of
    this server and of loopback addresses always may if the client is on loopback."""
    refusal_delay_ms: Annotated[int, Range(0, 10_000)] = 500
    """How long a client with a wrong token or signature waits for its refusal."""

    def __post_init__(self) -> None:
        check_fields(self, "access")
        for name, token in self.tokens.items():
            if len(token) < 16:
                raise ConfigError(
                    f"got a token of {len(token)} characters for access.tokens.{name}, expected 16"
                    " or more; `openssl rand -hex 24` makes one"
                )
        if len(set(self.tokens.values())) != len(self.tokens):
            raise ConfigError("got one token under two names in access.tokens, expected each once")


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
    """Whether an address or name is a loopback one, which no other machine can reach."""
    if not host:
        return False
    name = host.rstrip(".").lower()
    # RFC 6761, section 6.3: every name under .localhost is loopback.
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0].strip("[]"))
    except ValueError:
        return False
    # A dual-stack socket reports IPv4 peers as ::ffff:127.0.0.1 (RFC 4291, section 2.5.5.2).
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class Access:
    """The access rules of one server.

    Args:
        config: tokens and origins.
        listen: the server's address.
        public_url: the server's URL for clients behind a proxy; "" without a proxy.
    """

    def __init__(self, config: AccessConfig, listen: ListenConfig, public_url: str = "") -> None:
        self._tokens = [(name, token.encode()) for name, token in config.tokens.items()]
        self._origins = frozenset(_normal(origin) for origin in config.allowed_origins)
        self._origin_hosts = frozenset(_host_of(origin) for origin in config.allowed_origins)
        self._public_host = _host_of(public_url)
        self._listens_on_loopback = listen.is_loopback

    def is_local(self, peer: str, host: str | None) -> bool:
        """Whether a client is on this machine and did not come through a proxy on it."""
        # The proxy connects from loopback too; the public name tells its clients apart.
        is_public = bool(self._public_host) and _host_of(f"//{host or ''}") == self._public_host
        return is_loopback(peer) and not is_public

    def authorize(self, token: str | None, peer_is_loopback: bool) -> str | None:
        """Return the token's name in the settings; None where no token is required or given.

        Args:
            token: sent by the client, see :func:`bearer_token`.
            peer_is_loopback: see :meth:`is_local`.

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
        """Authorize a client by its address and ``Host`` header; see :meth:`authorize`."""
        return self.authorize(token, self.is_local(peer, host))

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Refuse pages of other sites, and names that are not this server's.

        Args:
            origin: the ``Origin`` header; None for programs and for pages of this server's own.
            host: the ``Host`` header.

        Raises:
            ProtocolError: FORBIDDEN_ORIGIN.
        """
        self.check_host(host)
        # Only browsers send Origin, and always with a WebSocket handshake (RFC 6455, section 4.1).
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
        # Behind a proxy Host is the public name, whose DNS the operator controls.
        if is_loopback(name) or (name and name in (*self._origin_hosts, self._public_host)):
            return
        raise ProtocolError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"got the host name '{_shown(host)}', expected localhost, a loopback address or the"
            " host of one of the settings access.allowed_origins and telephony.public_url",
        )

    def _name_of(self, token: str | None) -> str | None:
        """Return the name of a token; every known one is compared in full, in constant time."""
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
