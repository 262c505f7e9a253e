"""Who a request comes from, and which pages and names are this server's own."""

from __future__ import annotations

from typing import Any

import pytest

from stream_server.access import (
    MACHINE,
    Access,
    AccessConfig,
    Arrival,
    ListenConfig,
    Scope,
    bearer_token,
    is_loopback,
)
from stream_server.wire.errors import ErrorCode, ProtocolError

CRM, DESK = "crm-0123456789abcdef", "desk-0123456789abcdef"
CONFIG = AccessConfig(tokens={"crm": CRM, "desk": DESK})
HERE = Arrival("127.0.0.1", is_secure=False, is_local=True)
ADDRESS = "203.0.113.7"
ELSEWHERE = Arrival(ADDRESS, is_secure=False, is_local=False)


def local(**config: Any) -> Access:
    return Access(AccessConfig(**config), ListenConfig())


def public(*origins: str) -> Access:
    config = AccessConfig(tokens=CONFIG.tokens, allowed_origins=origins)
    return Access(config, ListenConfig(host="0.0.0.0"))


def refused(code: ErrorCode):
    return pytest.raises(ProtocolError, check=lambda error: error.code is code)


@pytest.mark.parametrize(("token", "name"), [(CRM, "crm"), (DESK, "desk")])
def test_a_token_of_the_settings_may_do_everything(token: str, name: str):
    who = public().who(ELSEWHERE, token)
    assert (who.kind, who.name) == ("token", name)
    assert all(who.may(scope) for scope in Scope)
    assert who.has_all_teams


@pytest.mark.parametrize("token", [None, "", "wrong", CRM[:-1], CRM + "x", "ü" * 20, "\udcff"])
def test_without_one_nobody_comes_in(token: str | None):
    with refused(ErrorCode.UNAUTHORIZED) as caught:
        public().who(ELSEWHERE, token)
    assert not token or token not in str(caught.value)


def test_a_client_of_this_machine_may_do_everything_without():
    assert public().who(HERE) == MACHINE


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, True),
        ({"tokens": {"crm": CRM}}, False),
        ({"tokens": {"crm": CRM}, "trust_loopback": True}, True),
        ({"trusted_proxies": ("127.0.0.1",)}, False),
    ],
)
def test_when_this_machine_is_trusted(config: dict[str, Any], expected: bool):
    assert local(**config).arrival("127.0.0.1", {}).is_local is expected
    assert local(**config).arrival("::1", {"host": "localhost:7860"}).is_local is expected
    assert not local(**config).arrival("10.0.0.7", {}).is_local
    assert not local(**config).arrival("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}).is_local
    # By another name: what a page of that name makes a browser ask for.
    assert not local(**config).arrival("127.0.0.1", {"host": "evil.example"}).is_local


def test_behind_a_public_url_it_is_not():
    access = Access(AccessConfig(), ListenConfig(), "wss://monitor.example.org")
    assert not access.arrival("127.0.0.1", {"host": "localhost"}).is_local


@pytest.mark.parametrize(
    ("kind", "headers", "address", "is_secure"),
    [
        ("x-forwarded", {}, "10.1.0.1", False),
        ("x-forwarded", {"x-forwarded-for": "203.0.113.7"}, "203.0.113.7", False),
        ("x-forwarded", {"x-forwarded-for": f"8.8.8.8, {ADDRESS}, 10.1.0.2"}, ADDRESS, False),
        ("x-forwarded", {"x-forwarded-for": "8.8.8.8, unknown"}, "10.1.0.1", False),
        ("x-forwarded", {"x-forwarded-for": "[2001:db8::1]:4711"}, "2001:db8::1", False),
        ("x-forwarded", {"x-forwarded-for": "203.0.113.7:4711"}, "203.0.113.7", False),
        (
            "x-forwarded",
            {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "http, https"},
            "203.0.113.7",
            True,
        ),
        ("x-forwarded", {"forwarded": "for=8.8.8.8;proto=https"}, "10.1.0.1", False),
        ("forwarded", {"forwarded": "for=203.0.113.7;proto=https"}, "203.0.113.7", True),
        (
            "forwarded",
            {"forwarded": 'for=8.8.8.8;proto=https, for="[2001:db8::1]:47";proto=http'},
            "2001:db8::1",
            False,
        ),
        (
            "forwarded",
            {"x-forwarded-for": "8.8.8.8"},
            "10.1.0.1",
            False,
        ),
        ("forwarded", {"forwarded": 'for="a,b";;=,,"'}, "10.1.0.1", False),
    ],
)
def test_a_trusted_proxy_says_who_comes_and_how(
    kind: Any, headers: dict[str, str], address: str, is_secure: bool
):
    access = local(tokens={"crm": CRM}, trusted_proxies=("10.1.0.0/16",), proxy_headers=kind)
    assert access.arrival("10.1.0.1", headers) == Arrival(address, is_secure, is_local=False)
    # From anybody else these are a client's words.
    assert access.arrival("10.2.0.1", headers) == Arrival("10.2.0.1", False, is_local=False)


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
    access = local(allowed_origins=("https://monitor.example.org/",))
    access.check_origin("https://monitor.example.org", "monitor.example.org")


def test_where_everybody_needs_a_token_pages_of_the_same_host_may_connect():
    for access in (public(), local(tokens={"crm": CRM})):
        access.check_origin("https://monitor.example.org", "monitor.example.org:8765")
        with refused(ErrorCode.FORBIDDEN_ORIGIN):
            access.check_origin("https://other.example.org", "monitor.example.org:8765")
        with refused(ErrorCode.FORBIDDEN_ORIGIN):
            access.check_origin("http://localhost:3000", "monitor.example.org:8765")


def test_elsewhere_allowed_origins_may_connect():
    public("https://app.example.org").check_origin("https://APP.example.org", "10.0.0.1:8765")
