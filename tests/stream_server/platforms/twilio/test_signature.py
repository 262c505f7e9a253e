"""Held against Twilio's own library, in both directions."""

from __future__ import annotations

import pytest

from stream_server.platforms.twilio import is_signed

TOKEN = "0123456789abcdef0123456789abcdef"
URL = "wss://monitor.example.org/twilio"


def sign(url: str, token: str = TOKEN, params: dict[str, str] | None = None) -> str:
    from twilio.request_validator import RequestValidator

    signature: str = RequestValidator(token).compute_signature(url, params or {})
    return signature


def test_a_published_example():
    # The URL and the sorted form of the example in Twilio's documentation, and its signature.
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    form = "CallSidCA1234567890ABCDECaller+14158675309Digits1234From+14158675309To+18005551212"
    assert is_signed("12345", [url + form], "RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    assert not is_signed("12346", [url + form], "RSOYDt4T1cUTdK1PDd93/VVr8B8=")


@pytest.mark.needs("twilio")
def test_what_twilio_signs_is_right():
    assert is_signed(TOKEN, [URL], sign(URL))
    assert is_signed(TOKEN, ["wss://other.example/", URL], sign(URL))


@pytest.mark.needs("twilio")
@pytest.mark.parametrize(
    "url",
    [
        "https://monitor.example.org/twilio",
        "wss://monitor.example.org/",
        "wss://monitor.example.com/twilio",
    ],
)
def test_another_url_is_not(url: str):
    assert not is_signed(TOKEN, [URL], sign(url))


@pytest.mark.needs("twilio")
def test_another_token_is_not():
    assert not is_signed(TOKEN, [URL], sign(URL, TOKEN[::-1]))
    assert not is_signed(TOKEN, [], sign(URL))


@pytest.mark.parametrize("signature", ["", "x", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", "ü", "\ud800"])
def test_nonsense_is_not(signature: str):
    assert not is_signed(TOKEN, [URL], signature)


@pytest.mark.needs("twilio")
def test_a_query_as_it_is_or_as_a_form():
    with_query = f"{URL}?b=2&a=1%202"
    assert is_signed(TOKEN, [with_query], sign(with_query))
    assert is_signed(TOKEN, [with_query], sign(URL, params={"a": "1 2", "b": "2"}))
    assert not is_signed(TOKEN, [with_query], sign(URL))


@pytest.mark.needs("twilio")
def test_the_algorithm_that_the_settings_header_names():
    from twilio.request_validator import RequestValidator

    signature = RequestValidator(TOKEN).compute_signature(URL, {}, "HMAC_SHA256")
    settings = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    assert is_signed(TOKEN, [URL], signature, settings)
    assert not is_signed(TOKEN, [URL], signature)
    assert not is_signed(TOKEN, [URL], sign(URL), settings)
    assert is_signed(TOKEN, [URL], sign(URL), "key=1,algorithm=HMAC_SHA1")
