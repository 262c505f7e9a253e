"""Held against the algorithm as Plivo's Python library has it, written down once more here."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from stream_server.platforms.plivo import is_signed

TOKEN = "MzQ1Njc4OTAxMjM0NTY3ODkw"
URL = "wss://monitor.example.org/plivo"
NONCE = "12345678901234567890"


def sign(signed: str, token: str = TOKEN, nonce: str = NONCE) -> str:
    mac = hmac.new(token.encode(), f"{signed}.{nonce}".encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def test_what_plivo_signs_is_right():
    assert is_signed(TOKEN, [URL], NONCE, [sign(URL)])
    assert is_signed(TOKEN, ["https://a.example", URL], NONCE, [sign(URL)])


def test_one_of_several_signatures_is_enough():
    assert is_signed(TOKEN, [URL], NONCE, [f"{sign(URL, 'other')}, {sign(URL)}"])
    assert is_signed(TOKEN, [URL], NONCE, [sign(URL, "other"), sign(URL)])


def test_the_query_is_sorted():
    assert is_signed(TOKEN, [f"{URL}?b=2&a=%20&b=1"], NONCE, [sign(f"{URL}?a= &b=1&b=2")])


@pytest.mark.parametrize(
    "signature",
    ["", ",", "ü", sign(URL, "other"), sign(URL, nonce="1"), sign("https://a.example"), "\ud800"],
)
def test_anything_else_is_not(signature: str):
    assert not is_signed(TOKEN, [URL], NONCE, [signature])


def test_no_signature_is_not():
    assert not is_signed(TOKEN, [URL], NONCE, [])
