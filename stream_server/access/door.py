"""Where a request comes from and who makes it: address, proxies, token, session, origin, host.

The WebSocket gateway and the HTTP server share it. Each check has an attacker:

- *Token, session*: everybody who can connect. While there is no token and nobody who may log in, a
  client on this machine needs none.
- *Proxy*: everybody beyond a proxy on this machine, who seems to be on this machine. So only a
  direct request is taken for one of this machine, and only proxies that the settings name are
  believed about others.
- *Origin*: a page of another site in a browser that may connect. Browsers send cookies with
  WebSocket handshakes of any page, and RFC 6455, section 10.2, leaves the check to the server.
- *Host*: DNS rebinding, a site whose name is made to resolve to this machine, so that its pages
  pass for the server's own. Only where clients on this machine are trusted: otherwise the page
  has no token, and the browser keeps its cookie for the server's own name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from stream_server.access.config import (
    LOOPBACK_NAMES,
    AccessConfig,
    ListenConfig,
    OidcConfig,
)
from stream_server.access.credentials import Book, Session, Sessions
from stream_server.access.guessing import Guesses
from stream_server.access.policy import (
    MACHINE,
    Given,
    Scope,
    Who,
    given_by_groups,
    refusal,
)
from stream_server.wire.errors import ErrorCode, ProtocolError

SESSION_COOKIE = "emotion_monitor_session"
"""Of a browser that has logged in: a page request cannot carry an Authorization header."""

FORWARDED_HEADERS = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-real-ip",
    "via",
)
"""Headers that a proxy adds: a request that has one did not come from this machine directly."""

MAX_NAME = 64
"""Characters of a person's name that are kept."""
_VOUCHED = "vouched:"
"""Begins the references of people who are not in the book."""
_SCHEME = "bearer "
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a request comes from.

    Attributes:
        address: of the client itself, as far as it can be believed; "" if it has hung up.
        is_secure: it came by TLS.
        is_local: it comes from this machine, directly, and that is enough to be let in.
        given: whom a trusted proxy vouches for; None: nobody.
    """

    address: str
    is_secure: bool
    is_local: bool
    given: Given | None = None


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of an ``Authorization`` header; None without one."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip() or None


def session_of(cookies: str | None) -> str | None:
    """Return the session of a ``Cookie`` header; None without one."""
    for cookie in (cookies or "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == SESSION_COOKIE:
            return unquote(value) or None
    return None


def is_loopback(host: str | None) -> bool:
    """Whether an address or name is a loopback one, which no other machine can reach."""
    if not host:
        return False
    name = host.rstrip(".").lower()
    # RFC 6761, section 6.3: every name under .localhost is loopback.
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


class Access:
    """The access rules of one server.

    ``public_url``: the server's for clients behind a proxy; "" without one.

    Attributes:
        headers: names, in lower case, of those that :meth:`arrival` looks at.
        on_guessed: called now and then with an address, and how many tokens and passwords from it
            were wrong so far.
    """

    def __init__(
        self,
        config: AccessConfig,
        listen: ListenConfig,
        public_url: str = "",
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.book = Book(config.tokens)
        self.sessions = Sessions(config.session_idle_s, config.session_longest_s)
        self.on_guessed: Callable[[str, int], None] = lambda address, times: None
        self._guesses = Guesses()
        self._config = config
        self._now = now
        self._proxies = [
            ipaddress.ip_network(each, strict=False) for each in config.trusted_proxies
        ]
        self._origins = frozenset(_normal(origin) for origin in config.allowed_origins)
        self._hosts = {_host_of(origin) for origin in config.allowed_origins} - {""}
        self._is_behind_proxy = bool(public_url or self._proxies)
        self._listens_on_loopback = listen.is_loopback
        self._user_header = config.user_header.lower()
        self._groups_header = config.groups_header.lower()
        self.headers = frozenset(
            ("host", *FORWARDED_HEADERS, self._user_header, self._groups_header)
        ) - {""}

    @property
    def is_configured(self) -> bool:
        """Whether somebody could show who they are, so that everybody has to."""
        return bool(self.book.is_configured or self._config.oidc.issuer or self._user_header)

    @property
    def single_sign_on(self) -> OidcConfig | None:
        """The OpenID Connect provider that people log in at; None: there is none."""
        return self._config.oidc if self._config.oidc.issuer else None

    @property
    def trusts_this_machine(self) -> bool:
        """Whether a client on this machine needs neither token nor login."""
        if self._config.trust_loopback:
            return True
        is_open = self._listens_on_loopback and not self._is_behind_proxy
        return is_open and not self.is_configured

    def arrival(self, peer: str, headers: Mapping[str, str], *, is_secure: bool = False) -> Arrival:
        """Find out where a request comes from.

        ``peer`` is the other end of the connection. ``headers`` are by name in lower case, several
        of one name joined by commas.

        Raises:
            ProtocolError: FORBIDDEN: it says who makes it as only a trusted proxy may.
        """
        if not self._is_proxy(peer):
            for name in (self._user_header, self._groups_header):
                if name and name in headers:
                    raise ProtocolError(
                        ErrorCode.FORBIDDEN,
                        f"got the header {name} from an address that is not in"
                        " access.trusted_proxies, expected it of those alone",
                    )
            is_direct = is_loopback(peer) and not any(name in headers for name in FORWARDED_HEADERS)
            is_local = is_direct and self.trusts_this_machine and self._is_own(headers.get("host"))
            return Arrival(peer, is_secure, is_local)
        if self._config.proxy_headers == "forwarded":
            hops = list(_forwarded(headers.get("forwarded", "")))
        else:
            # The proxy's own word about TLS is the last one, whatever the client wrote before it.
            scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            addresses = headers.get("x-forwarded-for", "").split(",")
            hops = [(address.strip(), scheme) for address in addresses]
        scheme = hops[-1][1] if hops else ""
        address = self._client(peer, [address for address, _ in hops])
        return Arrival(
            address, is_secure=scheme == "https", is_local=False, given=self._given(headers)
        )

    def check_vouched(self, values_of: Callable[[str], Sequence[str]]) -> None:
        """Refuse a request in which a header that vouches for somebody comes twice.

        ``values_of`` returns the values of a header by its name in lower case.

        Raises:
            ProtocolError: FORBIDDEN.
        """
        # A proxy that adds its header instead of replacing it leaves the client's own before it.
        for name in (self._user_header, self._groups_header):
            if name and len(values_of(name)) > 1:
                raise ProtocolError(
                    ErrorCode.FORBIDDEN,
                    f"got the header {name} twice, expected it once; the proxy has to replace what"
                    " clients send",
                )

    def _given(self, headers: Mapping[str, str]) -> Given | None:
        """Return whom a trusted proxy's headers vouch for."""
        name = headers.get(self._user_header, "").strip() if self._user_header else ""
        if not name:
            return None
        groups = headers.get(self._groups_header, "").split(",") if self._groups_header else []
        return self.given(name, [group.strip() for group in groups])

    def given(self, name: str, groups: Iterable[str]) -> Given | None:
        """Return a person whom somebody else vouches for; None if its groups have no role."""
        config = self._config
        return given_by_groups(name[:MAX_NAME], groups, config.group_roles, config.group_teams)

    def who(self, arrival: Arrival, token: str | None = None, session: str | None = None) -> Who:
        """Return who makes a request.

        A token, see :func:`bearer_token`, goes before the session, see :func:`session_of`.

        Raises:
            ProtocolError: UNAUTHORIZED.
        """
        now = self._now()
        found = self._by_token(arrival, token, now) if token else None
        if found is None and not token and session and (open_ := self.session(session)) is not None:
            found = self.who_of(open_)
        if found is None and not token and arrival.given is not None:
            found = arrival.given.who(f"{_VOUCHED}proxy:{arrival.given.name}")
        if found is None and arrival.is_local:
            found = MACHINE
        if found is not None:
            return found
        got = "an unknown access token" if token else "no access token"
        raise ProtocolError(
            ErrorCode.UNAUTHORIZED,
            f"got {got}, expected one from the setting access.tokens or from"
            " `emotion-monitor token create`",
        )

    def _by_token(self, arrival: Arrival, token: str, now: float) -> Who | None:
        if arrival.is_local:
            return self.book.by_token(token, now)
        self.check_attempt(arrival.address, token)
        who = self.book.by_token(token, now)
        self.note_attempt(arrival.address, token, is_right=who is not None)
        return who

    def check_attempt(self, address: str, secret: str) -> None:
        """Refuse one more guess from an address with too many wrong ones.

        Raises:
            ProtocolError: UNAUTHORIZED, with how long to wait.
        """
        wait_s = self._guesses.begin(address, secret, self._now())
        if wait_s:
            raise ProtocolError(
                ErrorCode.UNAUTHORIZED,
                "got too many wrong tokens or passwords from this address; wait before the next",
                retry_after_s=wait_s,
            )

    @contextlib.contextmanager
    def signature(self, arrival: Arrival) -> Iterator[None]:
        """Count a signature that is checked inside as a wrong guess if that raises UNAUTHORIZED.

        Raises:
            ProtocolError: UNAUTHORIZED, with how long to wait after many wrong ones.
        """
        try:
            yield
        except ProtocolError as error:
            if error.code is ErrorCode.UNAUTHORIZED and not arrival.is_local:
                self.note_attempt(arrival.address, "", is_right=False)
                self.check_attempt(arrival.address, "")
            raise
        # A right one never waits: nobody guesses a signature, each is new, and a stranger behind
        # the same address must not keep a platform's calls out.

    def note_attempt(self, address: str, secret: str, *, is_right: bool) -> None:
        """Note whether what :meth:`check_attempt` let through was right."""
        if is_right:
            self._guesses.was_right(address, secret)
            return
        times = self._guesses.was_wrong(address)
        # At 1, 2, 4, 8, ...: an attacker must not fill the log.
        if times.bit_count() == 1:
            self.on_guessed(address, times)

    def admit(
        self,
        scope: Scope,
        arrival: Arrival,
        token: str | None = None,
        session: str | None = None,
    ) -> Who:
        """Return who makes a request, if it has a scope.

        Raises:
            ProtocolError: UNAUTHORIZED or FORBIDDEN.
        """
        who = self.who(arrival, token, session)
        if (reason := refusal(who, scope)) is not None:
            raise ProtocolError(ErrorCode.FORBIDDEN, reason)
        return who

    def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie, None if it is not valid."""
        return self.sessions.read(cookie, self._now())

    def is_open(self, session: Session) -> bool:
        """Whether a session has neither ended nor timed out."""
        return self.sessions.is_valid(session, self._now())

    def seen(self, session: Session) -> str | None:
        """Return a new cookie for a session that is in use; None: its cookie is new enough."""
        again = self.sessions.seen(session, self._now())
        return None if again is None else self.sessions.cookie(again)

    def log_in(self, name: str, secret: str, address: str) -> Session:
        """Return a new session. May take a tenth of a second.

        Without a name ``secret`` is a token, else a password.

        Raises:
            ProtocolError: UNAUTHORIZED.
        """
        now, attempt = self._now(), f"{name}\n{secret}"
        self.check_attempt(address, attempt)
        if name:
            who = self.book.by_password(name, secret, now)
        else:
            who = self.book.by_token(secret, now)
        self.note_attempt(address, attempt, is_right=who is not None)
        if who is None:
            raise ProtocolError(
                ErrorCode.UNAUTHORIZED,
                "got a wrong name, password or token; check them and try again",
            )
        return self.sessions.begin(who.ref, now)

    def log_out(self, session: Session) -> None:
        """End a session."""
        self.sessions.end(session, self._now())

    def who_of(self, session: Session) -> Who | None:
        """Return who has a session, None if the token or person is not valid any more."""
        if session.given is not None:
            return session.given.who(session.ref)
        return self.book.by_ref(session.ref, self._now())

    def begin_given(self, given: Given, subject: str, session_id: str = "") -> Session:
        """Return a new session of a person whom an OpenID Connect provider vouches for.

        ``subject`` is what the provider calls it, for ever; ``session_id`` that of the provider's
        own session, "": it does not say.
        """
        ref, elsewhere = f"{_VOUCHED}oidc:{subject}", _session_elsewhere(session_id)
        return self.sessions.begin(ref, self._now(), given, elsewhere)

    def end_given(self, subject: str, session_id: str, at: float) -> None:
        """End what a provider's session has begun; without its id all sessions of the person.

        Sessions that began after ``at`` go on.
        """
        key = _session_elsewhere(session_id) or f"{_VOUCHED}oidc:{subject}"
        self.sessions.end_elsewhere(key, at)

    def is_current(self, who: Who, session: Session | None = None) -> bool:
        """Whether somebody who was let in would be let in again as the same.

        Whether the session timed out is not asked: on a connection that lasts no newer cookie
        comes.
        """
        # A cookie comes unasked: who showed a token as well was let in by that.
        if session is not None and session.ref == who.ref:
            if self.sessions.has_ended(session, self._now()):
                return False
        # Whom somebody else vouches for is asked about when the session ends, or the connection.
        if not who.ref or who.ref.startswith(_VOUCHED):
            return True
        return self.book.by_ref(who.ref, self._now()) == who

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Refuse pages of other sites, and names that are not this server's.

        ``origin`` is None for programs and for pages of this server's own.

        Raises:
            ProtocolError: FORBIDDEN_ORIGIN.
        """
        self.check_host(host)
        # Only browsers send Origin, and always with a WebSocket handshake (RFC 6455, section 4.1).
        if origin is None or _normal(origin) in self._origins:
            return
        page = _host_of(origin)
        if page and page == _host_of(f"//{host or ''}"):
            return
        if self.trusts_this_machine and is_loopback(page):
            return
        raise ProtocolError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"got a page of the origin '{_shown(origin)}', expected one of this server's or of the"
            " setting access.allowed_origins",
        )

    def check_host(self, host: str | None) -> None:
        """Refuse a name other than this machine's or an allowed origin's, where it is trusted.

        Raises:
            ProtocolError: FORBIDDEN_ORIGIN.
        """
        # One that others reach, too, may have any name; it trusts no request by another one.
        if not (self.trusts_this_machine and self._listens_on_loopback) or self._is_own(host):
            return
        raise ProtocolError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"got the host name '{_shown(host or '')}', expected localhost, a loopback address or"
            " the host of one of the setting access.allowed_origins",
        )

    def _is_own(self, host: str | None) -> bool:
        if host is None:
            return True
        name = _host_of(f"//{host}")
        return is_loopback(name) or name in self._hosts

    def _is_proxy(self, address: str) -> bool:
        known = _address(address)
        return known is not None and any(known in network for network in self._proxies)

    def _client(self, peer: str, addresses: list[str]) -> str:
        """Return the last address that is none of a trusted proxy."""
        # From the end: every proxy adds the address it was reached from, and what is before the
        # first trusted one is the client's own words.
        for text in reversed(addresses):
            address = _address(_without_port(text))
            if address is None:
                break
            if not self._is_proxy(str(address)):
                return str(address)
        return peer


def _session_elsewhere(session_id: str) -> str:
    # No name of a person can be taken for one.
    return f"sid:{session_id}" if session_id else ""


_FORWARDED_PAIR = re.compile(r'\s*([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s"]*)')


def _forwarded(header: str) -> Iterator[tuple[str, str]]:
    """Yield address and scheme of each element of a ``Forwarded`` header (RFC 7239, section 4)."""
    for element in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', header):
        pairs = {name.lower(): value.strip('"') for name, value in _FORWARDED_PAIR.findall(element)}
        if pairs:
            yield pairs.get("for", ""), pairs.get("proto", "").lower()


def _without_port(text: str) -> str:
    """Return an address without brackets and port: ``[::1]:4711``, ``10.0.0.7:4711``."""
    text = text.strip().strip('"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 peers as ::ffff:127.0.0.1 (RFC 4291, section 2.5.5.2).
    return getattr(address, "ipv4_mapped", None) or address


def _normal(origin: str) -> str:
    return origin.strip().rstrip("/").lower()


def _host_of(url: str) -> str:
    """Return the host of a URL, lower case, without port; "" if it has no host."""
    try:
        return (urlsplit(url.strip()).hostname or "").lower()
    except ValueError:
        return ""


def _shown(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
