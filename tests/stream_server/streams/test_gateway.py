from __future__ import annotations

import base64

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from stream_server.platforms.route import Handshake
from stream_server.wire.errors import ErrorCode, ProtocolError


def handshake(target: str = "/", *headers: tuple[str, str]) -> Handshake:
    return Handshake.of(Request(target, Headers(headers)), "127.0.0.1")


def authorization(value: str) -> str | None:
    return handshake("/", ("Authorization", value)).header_token


@pytest.mark.parametrize(
    ("target", "root", "path_token"),
    [
        ("/", "/", None),
        ("/twilio", "/twilio", None),
        ("/twilio/", "/twilio", None),
        ("/twilio/secret", "/twilio", "secret"),
        ("/v1/listen?model=x", "/v1", "listen"),
        ("/a%2Fb", "/a", "b"),
        ("", "/", None),
    ],
)
def test_the_first_part_of_the_path_says_who_comes(
    target: str, root: str, path_token: str | None
) -> None:
    got = handshake(target)
    assert (got.root, got.path_token) == (root, path_token)


def test_a_query_names_everything_once() -> None:
    got = handshake("/?a=1&b=%20&a=2")
    assert got.query_pairs == (("a", "1"), ("b", " "), ("a", "2"))
    with pytest.raises(ProtocolError, match="got 'a' more than once") as caught:
        _ = got.query
    assert caught.value.code is ErrorCode.BAD_START
    assert handshake("/?a=1&b=").query == {"a": "1", "b": ""}


def test_the_target_stays_as_it_came() -> None:
    assert handshake("/a%20b?c=%2F").target == "/a%20b?c=%2F"


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    got = handshake("/", ("X-Signature", "first"), ("x-signature", "second"))
    assert got.headers == {"x-signature": "first"}


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Token abc", "abc"),
        ("token", None),
        ("Basic " + base64.b64encode(b"user:pass:word").decode(), "pass:word"),
        ("Basic " + base64.b64encode(b"user").decode(), None),
        ("Basic %%%", None),
        ("Basic " + base64.b64encode(b"\xff\xfe:").decode(), None),
        ("Digest abc", None),
        ("", None),
    ],
)
def test_tokens_come_in_several_forms(value: str, token: str | None) -> None:
    assert authorization(value) == token


def test_a_browser_has_its_session_in_a_cookie() -> None:
    assert handshake("/", ("Cookie", "a=b; emotion_monitor_session=x")).session == "x"
    assert handshake("/").session is None


@pytest.mark.parametrize(
    ("target", "team", "root", "path_token"),
    [
        ("/teams/sales/twilio/abc", "sales", "/twilio", "abc"),
        ("/teams/sales", "sales", "/", None),
        ("/twilio/teams/sales", "", "/twilio", "teams/sales"),
    ],
)
def test_a_path_may_name_a_team(target: str, team: str, root: str, path_token: str | None) -> None:
    found = handshake(target)
    assert (found.team, found.root, found.path_token) == (team, root, path_token)
    assert found.target == target


def test_what_proxies_add_is_read_to_its_end() -> None:
    found = handshake("/", ("X-Forwarded-For", "8.8.8.8"), ("X-Forwarded-For", "203.0.113.7"))
    assert found.headers["x-forwarded-for"] == "8.8.8.8, 203.0.113.7"
