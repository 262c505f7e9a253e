"""Held against PyJWT, in both directions."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.vonage import LEEWAY_S, MAX_AGE_S, verified_claims

SECRET = "a signature secret of more than thirty-two bytes"
NOW_S = 1_700_000_000
CLAIMS = {"iss": "Vonage", "iat": NOW_S, "jti": "1", "application_id": "2"}

pytestmark = pytest.mark.needs("pyjwt")


def sign(claims: Any = None, secret: str = SECRET, **options: Any) -> str:
    import jwt

    token: str = jwt.encode(
        CLAIMS if claims is None else claims, secret, **{"algorithm": "HS256", **options}
    )
    return token


def test_what_is_signed_comes_back():
    assert verified_claims(sign(), SECRET, NOW_S) == CLAIMS


def test_another_secret_is_refused():
    assert verified_claims(sign(), SECRET + "!", NOW_S) is None


@pytest.mark.parametrize("algorithm", ["none", "HS384", "HS512"])
def test_another_algorithm_is_refused(algorithm: str):
    secret = "" if algorithm == "none" else SECRET * 2
    assert verified_claims(sign(secret=secret, algorithm=algorithm), secret, NOW_S) is None


def test_a_changed_claim_is_refused():
    header, _, signature = sign().split(".")
    claims = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "jti": "3"}).encode()).decode()
    assert verified_claims(f"{header}.{claims.rstrip('=')}.{signature}", SECRET, NOW_S) is None


@pytest.mark.parametrize(
    ("times", "is_good"),
    [
        ({"iat": NOW_S - MAX_AGE_S}, True),
        ({"iat": NOW_S - MAX_AGE_S - LEEWAY_S}, False),
        ({"iat": NOW_S + LEEWAY_S}, True),
        ({"iat": NOW_S + LEEWAY_S + 1}, False),
        ({"iat": NOW_S - 86_400, "exp": NOW_S + 1}, True),
        ({"iat": NOW_S - 10, "exp": NOW_S - LEEWAY_S}, False),
        ({"exp": NOW_S + 1}, True),
        ({"exp": NOW_S + 1, "nbf": NOW_S + LEEWAY_S + 1}, False),
        ({"exp": NOW_S + 1, "nbf": NOW_S + LEEWAY_S}, True),
        ({}, False),
        ({"iat": "now"}, False),
        ({"iat": True}, False),
        ({"iat": NOW_S, "exp": "never"}, False),
        ({"iat": NOW_S, "exp": None}, True),
    ],
)
def test_only_tokens_of_now(times: dict[str, Any], is_good: bool):
    # PyJWT does not encode claims that are of a wrong type.
    header = base64.urlsafe_b64encode(b'{"alg": "HS256"}').decode().rstrip("=")
    claims = base64.urlsafe_b64encode(json.dumps(times).encode()).decode().rstrip("=")
    token = resigned(f"{header}.{claims}")
    assert (verified_claims(token, SECRET, NOW_S) is not None) is is_good


def resigned(signed: str) -> str:
    from jwt.algorithms import HMACAlgorithm
    from jwt.utils import base64url_encode

    signature = HMACAlgorithm(HMACAlgorithm.SHA256).sign(signed.encode(), SECRET.encode())
    return f"{signed}.{base64url_encode(signature).decode()}"


@given(
    st.dictionaries(
        st.sampled_from(["iat", "exp", "nbf"]), st.integers(NOW_S - 1000, NOW_S + 1000)
    ),
    st.booleans(),
)
def test_pyjwt_agrees_wherever_a_token_says_when_it_expires(times: dict[str, int], good: bool):
    import jwt

    token = sign(times, SECRET if good else SECRET[::-1])
    expected: dict[str, Any] | None
    try:
        options: Any = {"verify_iat": True, "require": ["exp"]}
        # PyJWT's clock cannot be set, so the times are moved to it.
        shifted = {name: value - NOW_S + _pyjwt_now() for name, value in times.items()}
        jwt.decode(
            sign(shifted, SECRET if good else SECRET[::-1]),
            SECRET,
            ["HS256"],
            options=options,
            leeway=LEEWAY_S,
        )
        expected = times
    except jwt.InvalidTokenError:
        expected = None
    if "exp" in times and not any(
        abs(abs(value - NOW_S) - LEEWAY_S) <= 2 for value in times.values()
    ):
        assert verified_claims(token, SECRET, NOW_S) == expected


def _pyjwt_now() -> int:
    import time

    return int(time.time())


@given(st.text())
def test_nonsense_is_refused(token: str):
    assert verified_claims(token, SECRET, NOW_S) is None


@given(st.lists(st.text("ABCabc019-_=", max_size=12), min_size=3, max_size=3))
def test_what_looks_like_a_token_is_refused(parts: list[str]):
    assert verified_claims(".".join(parts), SECRET, NOW_S) is None
