"""What a platform's folder declares: its settings, and the routes its clients connect to."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from stream_server.access import Access, Who
from stream_server.access.policy import TEAM_NAME
from stream_server.platforms.authenticators import Authenticator, TokenAuthenticator
from stream_server.platforms.route import Admission, Handshake, Refusal, Route, text_refusal
from stream_server.wire.dialect import Dialect
from stream_server.wire.errors import ErrorCode, ProtocolError


@dataclass(frozen=True)
class TelephonySettings:
    """What all platforms share. A platform that has settings of its own derives from this.

    The ``telephony`` group is one dataclass made of all of these, so a field's name is the
    setting's name and must be the platform's own, e.g. ``twilio_auth_token``. A ``__post_init__``
    calls that of ``super()``.
    """

    public_url: str = ""
    """URL that platforms connect to if a proxy is in front of the server, e.g.
    wss://monitor.example.org; their signatures include it. "": they connect to the server
    itself."""
    roles: tuple[str, str] = ("customer", "agent")
    """Roles of the two sides of a call: the person outside, and the person who works here."""
    max_jitter_ms: Annotated[int, Range(20, 2000)] = 200
    """Longest wait for a late packet, in audio that arrived meanwhile."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony")
        if self.public_url and not self.public_url.startswith(("ws://", "wss://")):
            raise ConfigError(
                f"got telephony.public_url '{self.public_url}', expected wss://HOST or ws://HOST"
            )
        if self.roles[0] == self.roles[1] or not all(self.roles):
            raise ConfigError(f"got telephony.roles {list(self.roles)}, expected two that differ")

    def of(self, kind: type[S]) -> S:
        """Return the settings of one platform, of which the whole group is an instance."""
        assert isinstance(self, kind), f"{kind.__name__} is not part of the telephony settings"
        return self


S = TypeVar("S", bound=TelephonySettings)


def check_networks(setting: str, networks: tuple[str, ...]) -> None:
    """Raise ConfigError unless all are addresses or networks."""
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigError(
                f"got '{network}' in {setting}, expected an address or network, e.g. 10.0.0.0/8"
            ) from None


def check_team(setting: str, team: str) -> None:
    """Raise ConfigError unless it is the name of a team, or ""."""
    if team and not TEAM_NAME.fullmatch(team):
        raise ConfigError(f"got {setting} '{team}', expected a name of a-z, 0-9, '_', '.' and '-'")


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What a route needs of the server.

    Attributes:
        check_capacity: takes a token's name, "" for a client without one; raises ProtocolError if
            there is no room for another stream.
    """

    access: Access
    check_capacity: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Platform(Generic[S]):
    """One platform.

    Attributes:
        routes: by the first part of the path, e.g. ``/twilio``; each makes a route from the
            platform's settings.
        settings: what it adds to the ``telephony`` group.
        has_ports: whether it may listen on ports of its own, for what does not come by WebSocket:
            its folder has a ``server.py`` with :data:`~stream_server.streams.listeners.Listen`.
    """

    routes: Mapping[str, Callable[[S, RouteContext], Route]]
    settings: type[S]
    has_ports: bool = False


class PlatformRoute:
    """The route of a platform whose handshake is authenticated before the WebSocket opens.

    Args:
        make_dialect: returns the protocol of one connection; raises ProtocolError if the query
            of its URL is wrong.
        authenticator: None: an access token.
    """

    def __init__(
        self,
        context: RouteContext,
        make_dialect: Callable[[Handshake], Dialect],
        *,
        authenticator: Authenticator | None = None,
        subprotocols: tuple[str, ...] = (),
        refuse: Callable[[ProtocolError], Refusal] = text_refusal,
    ) -> None:
        self.subprotocols = subprotocols
        self._make_dialect = make_dialect
        self._authenticator = authenticator or TokenAuthenticator(context.access)
        self._access = context.access
        self._check_capacity = context.check_capacity
        self._refuse = refuse

    def admit(self, handshake: Handshake) -> Admission:
        """Authenticate a client and reserve nothing: the stream is opened by its first message."""
        # In this order, so that strangers learn nothing of the query and the load.
        who = self._authenticate(handshake)
        dialect = self._make_dialect(handshake)
        self._check_capacity(who.name)
        return Admission(dialect, lambda _: who, is_known=True)

    def _authenticate(self, handshake: Handshake) -> Who:
        if not self._authenticator.is_signature:
            return self._authenticator.authenticate(handshake)  # Tokens are counted there.
        with self._access.signature(handshake.arrival(self._access)):
            return self._authenticator.authenticate(handshake)

    def refuse(self, error: ProtocolError) -> Refusal:
        refusal = self._refuse(error)
        if error.code is not ErrorCode.UNAUTHORIZED or not self._authenticator.is_signature:
            return refusal
        # 403, not 401 (RFC 9110, section 15.5.4): no password would help, so none is asked for.
        headers = {k: v for k, v in refusal.headers.items() if k != "WWW-Authenticate"}
        return Refusal(403, refusal.body, headers)
