"""How a platform's handshake is authenticated: an access token, and what signatures need.

Where a platform signs its requests and its secret is in the settings, every request must be signed,
wherever it comes from. Others give an access token, where :mod:`stream_server.access` asks for one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from stream_server.access import Access, Who
from stream_server.platforms.route import Handshake
from stream_server.wire.errors import ErrorCode, ProtocolError

MAX_NONCE_LENGTH = 256
_PORTS = {"wss": 443, "https": 443, "ws": 80, "http": 80}


class Authenticator(Protocol):
    """One way to authenticate a handshake.

    Attributes:
        is_signature: a refusal is HTTP 403, not 401: a password would not help.
    """

    is_signature: bool

    def authenticate(self, handshake: Handshake) -> Who:
        """Return who the client is. Raises ProtocolError: ``UNAUTHORIZED`` or ``FORBIDDEN``."""
        ...


class TokenAuthenticator:
    """An access token of the settings: in a header, as a password, or as the rest of the path.

    Args:
        header: another header that may carry the token, in lower case.
    """

    is_signature = False

    def __init__(self, access: Access, header: str = "") -> None:
        self._access = access
        self._header = header

    def authenticate(self, handshake: Handshake) -> Who:
        # Some platforms can be given only a URL, so the token may be in it. Headers come first, as
        # URLs end up in the logs of proxies.
        in_path = (handshake.path_token or "").rstrip("/") or None
        token = handshake.header_token or handshake.headers.get(self._header) or in_path
        try:
            return handshake.admit(self._access, token)
        except ProtocolError as error:
            if error.code is not ErrorCode.UNAUTHORIZED:
                raise
            raise ProtocolError(
                error.code,
                f"{error}, in Authorization (Bearer, or as the password of Basic) or as the rest"
                " of the path",
            ) from None


class SeenNonces:
    """Remembers the nonces of valid signatures; a second use is a replay.

    Nonces of invalid signatures do not belong here: an attacker could push the others out.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, nonce: str) -> bool:
        """Return whether ``nonce`` was not used before, and remember it."""
        # Bounded by number and not by time: these signatures do not say when they were made.
        if nonce in self._seen:
            return False
        self._seen[nonce] = None
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return True


def unauthorized(got: str) -> ProtocolError:
    """Return the error of a signature that is missing or wrong; it repeats no part of it."""
    return ProtocolError(
        ErrorCode.UNAUTHORIZED,
        f"got {got}, expected the platform's; check its secret and public_url in the settings"
        " of telephony",
    )


def signed_urls(public_url: str, host: str, target: str, schemes: Iterable[str]) -> list[str]:
    """Return the URLs that a platform may have signed for this request.

    Platforms and proxies differ in whether the URL has the port of its scheme and a trailing slash.
    Checking every form is safe: each names this server and this path.

    Args:
        public_url: what platforms connect to, e.g. ``wss://monitor.example.org``, perhaps with the
            beginning of a path that a proxy removes; "": ``host`` instead.
        schemes: that the platform may use; those of another security than ``public_url`` are left
            out.

    Returns:
        At most six for each scheme.
    """
    scheme_given, _, rest = (public_url or f"wss://{host}").partition("://")
    netloc, slash, beginning = rest.rstrip("/").partition("/")
    path, mark, query = target.partition("?")
    paths = sorted({path, path.rstrip("/"), path.rstrip("/") + "/"})
    is_secure = scheme_given == "wss"
    urls = []
    for scheme in schemes:
        # A signature made for ws:// must not open what is reached by wss://.
        if public_url and (_PORTS[scheme] == 443) != is_secure:
            continue
        # Twilio's helper libraries themselves try the URL with and without the port.
        for host_and_port in _hosts(netloc, _PORTS[scheme]):
            start = f"{scheme}://{host_and_port}{slash}{beginning}"
            urls += [f"{start}{each}{mark}{query}" for each in paths]
    return urls


def _hosts(netloc: str, port: int) -> tuple[str, ...]:
    """Return a host with and without the port that its scheme implies."""
    name, colon, given = netloc.rpartition(":")
    if colon and given.isdigit():
        return (name, netloc) if int(given) == port else (netloc,)
    return (netloc, f"{netloc}:{port}")
