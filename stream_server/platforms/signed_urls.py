"""The URLs a platform may have signed, seen from behind whatever stands in between."""

from __future__ import annotations

from collections.abc import Iterable

_PORTS = {"wss": 443, "https": 443, "ws": 80, "http": 80}


def signed_urls(public_url: str, host: str, target: str, schemes: Iterable[str]) -> list[str]:
    """Return the URLs that a client who came here may have been told to connect to.

    Platforms differ, and are not always of one mind with themselves, in whether the URL they sign
    has the port of its scheme, and proxies in whether they leave a slash at the end alone.

    Args:
        public_url: what platforms connect to, e.g. ``wss://monitor.example.org``, perhaps with the
            beginning of a path that a proxy takes away; "": ``host`` instead.
        host: the ``Host`` header, perhaps with a port.
        target: path and query as they came.
        schemes: that the platform may use where ``public_url`` is "" or of the same security.

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
        if public_url and (_PORTS[scheme] == 443) != is_secure:
            continue
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
