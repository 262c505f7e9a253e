"""The settings of who may connect, and of where the server listens."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urlsplit

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError

# Of characters that no client writes in two ways (RFC 3986, section 2.3).
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where the server listens."""

    host: str = "localhost"
    """Address of both ports. An address other than loopback needs a token or a user, and TLS (or
    access.behind_proxy)."""
    port: Annotated[int, Range(0, 65_535)] = 8765
    """Port for audio, over WebSocket. 0: any free one."""
    http_port: Annotated[int, Range(0, 65_535)] = 7860
    """Port for the dashboard, feeds, health and metrics. 0: any free one."""
    base_path: str = ""
    """Path below which that port serves everything, e.g. /emotion, for a proxy that passes paths on
    unchanged. A proxy that removes its prefix needs no setting."""
    tls_certificate: str = ""
    """PEM file of the certificate for TLS on both ports, followed by the certificates that signed
    it; "": no TLS. It is read again when it changes."""
    tls_key: str = ""
    """File of the certificate's key, PEM, without a password."""

    def __post_init__(self) -> None:
        check_fields(self, "listen")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ConfigError(
                f"got listen.tls_certificate '{self.tls_certificate}' and listen.tls_key"
                f" '{self.tls_key}', expected both or neither"
            )
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
    def has_tls(self) -> bool:
        """Whether both ports have TLS."""
        return bool(self.tls_certificate)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback_name(self.host)


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """Login by OpenID Connect: a provider that knows the people and their groups."""

    issuer: str = ""
    """The provider, e.g. https://login.example.org/realms/main; "": none. It must be exactly the
    issuer in the provider's /.well-known/openid-configuration."""
    client_id: str = ""
    """The client id of this server at the provider."""
    client_secret: str = ""
    """Its client secret; "": a public client, with PKCE only."""
    redirect_uri: str = ""
    """Where the provider sends people back to, e.g.
    https://monitor.example.org/emotion/login/oidc/callback; "": /login/oidc/callback on the host of
    the request."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """The scopes to request; some providers need groups among them."""
    name_claim: str = "preferred_username"
    """Claim with the name of a person; if it is missing, ``email``, then ``sub``."""
    groups_claim: str = "groups"
    """Claim with the groups of a person, a list of texts."""
    label: str = "Single sign-on"
    """Text of the button on the login page."""
    clock_skew_s: Annotated[float, Range(0, 600)] = 60.0
    """How far the provider's clock and this one may be apart."""

    def __post_init__(self) -> None:
        check_fields(self, "access.oidc")
        if not self.issuer:
            return
        parts = urlsplit(self.issuer)
        is_here = is_loopback_name(parts.hostname or "")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
            raise ConfigError(
                f"got access.oidc.issuer '{self.issuer}', expected https://HOST/PATH (http:// of"
                " this machine only)"
            )
        if not self.client_id:
            raise ConfigError(
                "got access.oidc.issuer without access.oidc.client_id, expected the name that the"
                " provider has for this server"
            )
        if "openid" not in self.scopes:
            raise ConfigError(
                f"got access.oidc.scopes {list(self.scopes)}, expected openid among them"
            )


def is_loopback_name(host: str) -> bool:
    """Whether a host, as a name or an address, is a loopback one."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may connect. See docs/how-to/security.md."""

    tokens: dict[str, str] = field(default_factory=dict)
    """Names and secrets of clients that may do everything, e.g. {crm: 3f9c…}, at least 16
    characters each. `emotion-monitor token` makes tokens with fewer rights, which expire and are
    stored as hashes."""
    trust_loopback: bool = False
    """Clients on this machine may do everything without a token even if tokens or users exist
    (without any they may in any case). Do not use this behind a proxy on this machine, where every
    client seems to be local: it cannot be combined with trusted_proxies or telephony.public_url,
    and never applies to a request with a header that proxies add."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of the proxies in front of the server, e.g. 127.0.0.1. Only they are
    believed about the client's address and about TLS."""
    behind_proxy: bool = False
    """Something in front of the server, a proxy or a container's host, has TLS, and nothing else
    reaches the server: it may then listen beyond this machine without its own TLS. List the proxy
    in trusted_proxies, too."""
    proxy_headers: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """Which headers the trusted proxies set: ``X-Forwarded-For`` and ``X-Forwarded-Proto``, or
    ``Forwarded`` of RFC 7239. The other headers may come from the client and are ignored."""
    user_header: str = ""
    """Header in which the trusted proxies say who has logged in there, e.g. X-Forwarded-User; "":
    none. A request with it from anybody else is refused."""
    groups_header: str = ""
    """Header in which they say that person's groups, separated by commas, e.g.
    X-Forwarded-Groups."""
    oidc: OidcConfig = field(default_factory=OidcConfig)
    group_roles: dict[str, Literal["viewer", "supervisor", "admin"]] = field(default_factory=dict)
    """Roles by group, of OpenID Connect or of groups_header, e.g. {monitor-leads: supervisor}; with
    several groups the highest role counts. Nobody else may log in."""
    group_teams: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Teams by group, e.g. {sales-floor: [sales]}; with several groups, the teams of all of them.
    Empty: everybody sees all teams. Otherwise a person without any of these groups sees no
    stream."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may connect from a browser, e.g. https://monitor.example.org; pages of
    this server always may, and pages of loopback addresses may if clients on this machine are
    trusted."""
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
        if self.groups_header and not self.user_header:
            raise ConfigError(
                "got access.groups_header without access.user_header, expected both or neither"
            )
        if self.user_header and not self.trusted_proxies:
            raise ConfigError(
                f"got access.user_header '{self.user_header}' without access.trusted_proxies,"
                " expected the addresses of the proxies that set it: anybody can write a header"
            )
        if (self.user_header or self.oidc.issuer) and not self.group_roles:
            raise ConfigError(
                "got people that log in elsewhere and no access.group_roles, expected a role for at"
                " least one group, e.g. {monitor-leads: supervisor}"
            )
        if self.trust_loopback and self.trusted_proxies:
            raise ConfigError(
                "got access.trust_loopback with access.trusted_proxies, expected one of them:"
                " behind a proxy on this machine every client seems to be on this machine"
            )
