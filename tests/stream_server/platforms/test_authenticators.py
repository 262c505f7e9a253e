from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.authenticators import SeenNonces, signed_urls

PUBLIC = "wss://monitor.example.org"


def test_the_public_url_comes_first_with_and_without_port_and_slash():
    assert signed_urls(PUBLIC, "10.0.0.1:8765", "/twilio", ["wss"]) == [
        "wss://monitor.example.org/twilio",
        "wss://monitor.example.org/twilio/",
        "wss://monitor.example.org:443/twilio",
        "wss://monitor.example.org:443/twilio/",
    ]


def test_without_one_it_is_the_host_header():
    urls = signed_urls("", "calls.example.org:8443", "/twilio", ["wss"])
    assert urls == ["wss://calls.example.org:8443/twilio", "wss://calls.example.org:8443/twilio/"]


def test_the_port_of_the_scheme_may_be_left_out():
    urls = signed_urls("wss://a.example:443", "", "/plivo", ["wss"])
    assert "wss://a.example/plivo" in urls and "wss://a.example:443/plivo" in urls


def test_what_a_proxy_takes_away_is_put_back():
    urls = signed_urls(f"{PUBLIC}/ingest/", "", "/twilio?x=1", ["wss"])
    assert f"{PUBLIC}/ingest/twilio?x=1" in urls and f"{PUBLIC}/ingest/twilio/?x=1" in urls


@pytest.mark.parametrize(
    ("public", "schemes"), [(PUBLIC, {"wss", "https"}), ("ws://a.example", {"ws", "http"})]
)
def test_only_schemes_that_are_as_secure_as_the_public_url(public: str, schemes: set[str]):
    urls = signed_urls(public, "", "/plivo", ["wss", "https", "ws", "http"])
    assert {url.partition("://")[0] for url in urls} == schemes


@given(st.text(), st.text())
def test_whatever_a_client_says_it_stays_a_few(host: str, target: str):
    assert 1 <= len(signed_urls("", host, target, ["wss", "https", "ws", "http"])) <= 24


def test_a_nonce_is_new_once():
    seen = SeenNonces()
    assert [seen.is_new(nonce) for nonce in "abab"] == [True, True, False, False]


def test_the_oldest_nonces_are_forgotten():
    seen = SeenNonces(capacity=2)
    assert all(seen.is_new(nonce) for nonce in "abc")
    assert [seen.is_new(nonce) for nonce in "bca"] == [False, False, True]
