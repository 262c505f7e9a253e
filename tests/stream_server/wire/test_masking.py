from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.wire.masking import MASK, masked, masked_text

# A secret is told apart from the rest of what is printed.
SECRET = "S3cr" + "et" * 4
passwords = st.text(string.ascii_letters + string.digits + "@/:?#%+=!$-_.~", max_size=10).map(
    lambda text: text + SECRET
)


@given(
    password=passwords, scheme=st.sampled_from(["postgresql+psycopg", "mqtts", "https", "redis"])
)
def test_a_password_of_a_url_is_not_shown_whatever_is_in_it(password: str, scheme: str):
    url = f"{scheme}://user:{password}@db.example.org:5432/name?sslmode=require"
    assert SECRET not in str(masked({"url": url}))
    assert SECRET not in masked_text(f"cannot open {url}: refused")
    assert "db.example.org:5432/name" in masked({"url": url})["url"]


@given(
    password=st.text(string.printable, max_size=10).map(lambda text: text.replace("&", "") + SECRET)
)
def test_a_password_of_a_query_is_not_shown(password: str):
    for name in ("password", "sslpassword", "access_token", "api_key", "PASSWD"):
        url = f"postgresql://host/db?{name}={password}&sslmode=require"
        assert SECRET not in masked({"url": url})["url"].replace(" ", "") or ";" in password


values = st.recursive(
    st.sampled_from([SECRET, [SECRET], {"a": SECRET}, {SECRET: "a"}, [[SECRET]]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("x"), inner, max_size=2),
    max_leaves=4,
)


@given(values, st.sampled_from(["password", "twilio_auth_token", "webhook_secret", "api_key"]))
def test_a_secret_of_a_wrong_type_is_not_shown(value: object, name: str):
    assert SECRET not in repr(masked({"group": {name: value}}))


@pytest.mark.parametrize("value", [[SECRET], SECRET, {"crm": [SECRET]}, {"crm": {"x": SECRET}}])
def test_tokens_of_a_wrong_type_are_not_shown(value: object):
    assert SECRET not in repr(masked({"access": {"tokens": value}}))
    assert masked({"tokens": 1234567890123456}) == {"tokens": MASK}


@pytest.mark.parametrize(
    "text",
    [
        f"GET / HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\nHost: x",
        f"Invalid header value char:\n\n  b'Bearer {SECRET}\\x00'",
        f"{{'Authorization': 'Token {SECRET}'}}",
        f"Cookie: emotion_monitor_token={SECRET}; a=b",
        f"--set stream_server.access.tokens={{crm: {SECRET}}}",
        f"EMOTION_MONITOR__STREAM_SERVER__TELEPHONY__TWILIO_AUTH_TOKEN={SECRET}",
        f"/feed?token={SECRET}&stream=s1",
        f"connection failed: host=db password={SECRET} user=me",
        f"password='{SECRET} with spaces'",
        f'{{"password": "a\\"b{SECRET}"}}',
        f"password => {SECRET}",
        f"/login?refresh_token%3D{SECRET}",
        f"/feed?api%5Fkey={SECRET}",
        f"nats://{SECRET}@bus.example.org:4222",
        f"https://hooks.example.org/x?sig={SECRET}&sv=1",
        f"https://monitor.example.org/callback?code={SECRET}",
        f"AccountKey={SECRET};Endpoint=x",
        f"aws_secret_access_key={SECRET}",
        f"Sec-WebSocket-Protocol: token, {SECRET}9",
        f"subprotocols ['token', '{SECRET}9']",
        f"emotion-monitor stream --token {SECRET}",
        f"['emotion-monitor', '--password', '{SECRET}']",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
        f"got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.{SECRET}",
    ],
)
def test_a_secret_in_a_text_is_not_shown(text: str):
    assert SECRET not in masked_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "stream limit of this token (5) reached",
        "got a token of 3 characters for access.tokens.crm, expected 16 or more",
        "--set stream_server.access.tokens.crm: got 3, expected a valid string",
        "https://monitor.example.org/feed?stream=s1",
        "postgresql://monitor@db.example.org/name",
        "mqtt://dashboard@broker",
        "--token is given twice",
        "no access token; send 'Authorization: …'"[:16],
        "sqlite:////data/x.db",
        "--set stream_server.limits.max_streams_per_token=12",
    ],
)
def test_what_is_no_secret_stays(text: str):
    assert masked_text(text) == text


def test_a_limit_of_tokens_is_no_secret():
    assert masked({"max_streams_per_token": 256}) == {"max_streams_per_token": 256}
