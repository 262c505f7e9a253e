from __future__ import annotations

import pytest

from stream_server.access import Access, AccessConfig, ListenConfig, bearer_token, is_loopback
from stream_server.wire.errors import ErrorCode, ProtocolError

CRM, DESK = "crm-0123456789abcdef", "desk-0123456789abcdef"
CONFIG = AccessConfig(tokens={"crm": CRM, "desk": DESK})


def local(config: AccessConfig = CONFIG) -> Access:
    return Access(config, ListenConfig())


def public(*origins: str) -> Access:
    config = AccessConfig(tokens=CONFIG.tokens, allowed_origins=origins)
    return Access(config, ListenConfig(host="0.0.0.0"))


def refused(code: ErrorCode):
    return pytest.raises(ProtocolError, check=lambda error: error.code is code)


@pytest.mark.parametrize(("token", "name"), [(CRM, "crm"), (DESK, "desk")])
def test_a_token_has_a_name(token: str, name: str):
    assert public().authorize(token, peer_is_loopback=False) == name
    assert local().authorize(token, peer_is_loopback=True) == name


@pytest.mark.parametrize("token", [None, "", "wrong", CRM[:-1], CRM + "x", "ü" * 20, "\udcff"])
@pytest.mark.parametrize("peer_is_loopback", [True, False])
def test_elsewhere_than_on_loopback_a_token_is_needed(token: str | None, peer_is_loopback: bool):
    with refused(ErrorCode.UNAUTHORIZED) as caught:
        public().authorize(token, peer_is_loopback)
    assert "access.tokens" in str(caught.value)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_on_loopback_none_is_needed(token: str | None):
    assert local().authorize(token, peer_is_loopback=True) is None
    with refused(ErrorCode.UNAUTHORIZED):
        local().authorize(token, peer_is_loopback=False)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer  ", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
    ],
)
def test_the_header_of_a_token(header: str | None, token: str | None):
    assert bearer_token(header) == token


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("dashboard.localhost", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
        (None, False),
    ],
)
def test_what_loopback_is(host: str | None, expected: bool):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:7860"),
        (None, None),
        ("http://localhost:7860", "localhost:8765"),
        ("http://127.0.0.1:3000", "localhost:8765"),
        ("http://[::1]:7860", "[::1]:7860"),
    ],
)
def test_on_loopback_its_own_pages_may_connect(origin: str | None, host: str | None):
    local().check_origin(origin, host)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost.evil.example", "null", "", "http://[bad", "file://"],
)
def test_on_loopback_other_pages_may_not(origin: str):
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        local().check_origin(origin, "localhost:7860")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example"])
def test_a_rebound_name_is_refused(host: str):
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        local().check_origin(f"http://{host}", host)
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        local().check_origin(None, host)


def test_the_name_of_an_allowed_origin_is_no_rebinding():
    config = AccessConfig(allowed_origins=("https://monitor.example.org/",))
    access = Access(config, ListenConfig())
    access.check_origin("https://monitor.example.org", "monitor.example.org")
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        access.check_origin("http://monitor.example.org", "monitor.example.org")


def test_elsewhere_pages_of_the_same_host_may_connect():
    public().check_origin("https://monitor.example.org", "monitor.example.org:8765")
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        public().check_origin("https://other.example.org", "monitor.example.org:8765")
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        public().check_origin("http://localhost:3000", "monitor.example.org:8765")


def test_elsewhere_allowed_origins_may_connect():
    public("https://app.example.org").check_origin("https://APP.example.org", "10.0.0.1:8765")


def test_what_comes_through_the_proxy_is_not_local():
    access = Access(CONFIG, ListenConfig(), "wss://monitor.example.org/calls")
    assert access.is_local("127.0.0.1", "localhost:8765")
    assert access.is_local("::1", None)
    assert not access.is_local("127.0.0.1", "monitor.example.org")
    assert not access.is_local("127.0.0.1", "Monitor.Example.org:443")
    assert not access.is_local("10.0.0.7", "localhost:8765")
    access.check_host("monitor.example.org")
    with refused(ErrorCode.FORBIDDEN_ORIGIN):
        access.check_host("evil.example.org")


def test_without_a_proxy_a_missing_host_name_is_local():
    assert local().is_local("127.0.0.1", None)
    assert local().is_local("127.0.0.1", "")
