"""The settings of who may connect, and of where the server listens."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError

# Of characters that no client writes in two ways (RFC 3986, section 2.3).
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where the server listens."""

    host: str = "localhost"
    """Address of both ports; other than loopback needs a token or a person who may log in."""
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
        if self.host in LOOPBACK_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may connect. See docs/security.md."""

    tokens: dict[str, str] = field(default_factory=dict)
    """Names and secrets of clients that may do everything, e.g. {crm: 3f9c…}, at least 16
    characters each. `emotion-monitor token` makes tokens that may do less, end, and are not kept in
    clear."""
    trust_loopback: bool = False
    """Clients on this machine may do everything without a token though there are tokens or people
    who may log in; while there are none they may anyway. Not behind a proxy on this machine, where
    every client seems to be on it: refused together with trusted_proxies and telephony.public_url,
    and never granted to a request with a header that proxies add."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of the proxies in front of the server, e.g. 127.0.0.1. They alone are
    believed who the client is and whether it came by TLS."""
    proxy_headers: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """Which headers the trusted proxies set: ``X-Forwarded-For`` and ``X-Forwarded-Proto``, or
    ``Forwarded`` of RFC 7239. The other ones are the client's own words, and ignored."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may connect from a browser, e.g. https://monitor.example.org; pages of
    this server always may, and of loopback addresses where clients on this machine are trusted."""
    session_idle_s: Annotated[float, Range(60, 2_592_000)] = 28_800.0
    """Longest time between two requests of a browser that has logged in; then it is logged out."""
    session_longest_s: Annotated[float, Range(60, 31_536_000)] = 86_400.0
    """Longest time a browser stays logged in."""
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
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ConfigError(
                    f"got access.trusted_proxies '{proxy}', expected addresses or networks such as"
                    " 127.0.0.1 or 10.1.0.0/16"
                ) from None
        if self.trust_loopback and self.trusted_proxies:
            raise ConfigError(
                "got access.trust_loopback with access.trusted_proxies, expected one of them:"
                " behind a proxy on this machine every client seems to be on this machine"
            )
