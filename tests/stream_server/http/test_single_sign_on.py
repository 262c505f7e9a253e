"""What a provider says is believed only if it is signed by it, for this server, for this login."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from stream_server.access import OidcConfig
from stream_server.access.oidc import (
    LOGOUT_EVENT,
    Attempt,
    OidcError,
    authorization_url,
    claims_of_id_token,
    logout_of_token,
    new_attempt,
    provider_of,
)
from stream_server.http.single_sign_on import KEPT_S, ProviderClient
from tests.support.oidc_provider import TestProvider, provider

# Of the provider, which runs in this process and uses what Authlib and Flask call outdated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NOW = 1_800_000_000
ISSUER = "https://login.example.org"
CONFIG = OidcConfig(issuer=ISSUER, client_id="monitor", clock_skew_s=60)
KEY = RSAKey.generate_key(parameters={"kid": "a"})
GOOD = {
    **{"iss": ISSUER, "aud": "monitor", "sub": "anna", "nonce": "n"},
    **{"iat": NOW, "exp": NOW + 300},
}


def token(key: Any = KEY, alg: str = "RS256", **changes: Any) -> str:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": "a"}, claims, key, algorithms=[alg])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["monitor", "other"], "azp": "monitor"},
        # Within the skew of the clocks, to both sides.
        {"exp": NOW - 59},
        {"iat": NOW + 60, "nbf": NOW + 60},
    ],
)
def test_an_id_token_for_this_login_is_taken(changes: dict[str, Any]):
    keys = KeySet([KEY])
    assert claims_of_id_token(token(**changes), keys, CONFIG, "n", NOW)["sub"] == "anna"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": None},
        {"aud": ["monitor", "other"]},
        {"aud": ["monitor", "other"], "azp": "other"},
        {"azp": "other"},
        {"exp": NOW - 60},
        {"exp": None},
        {"exp": "soon"},
        {"iat": NOW + 61},
        {"iat": None},
        {"nbf": NOW + 61},
        {"nonce": "of another login"},
        {"nonce": None},
        {"sub": None},
        {"sub": 7},
    ],
)
def test_an_id_token_that_is_not_for_this_login_is_refused(changes: dict[str, Any]):
    with pytest.raises(OidcError):
        claims_of_id_token(token(**changes), KeySet([KEY]), CONFIG, "n", NOW)


LOGOUT: dict[str, Any] = {"nonce": None, "jti": "1", "events": {LOGOUT_EVENT: {}}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("anna", "", NOW)),
        ({"sid": "s1"}, ("anna", "s1", NOW)),
        ({"sid": "s1", "sub": None}, ("", "s1", NOW)),
        # One that is sent again: what has begun since goes on.
        ({"iat": NOW - 200}, ("anna", "", NOW - 139)),
    ],
)
def test_a_logout_token_says_whose_sessions_end(
    changes: dict[str, Any], expected: tuple[str, str, float]
):
    found = logout_of_token(token(**LOGOUT | changes), KeySet([KEY]), CONFIG, NOW)
    assert (found.subject, found.session_id, found.at) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "n"},
        {"events": None},
        {"events": {}},
        {"events": {LOGOUT_EVENT: True}},
        {"events": "backchannel-logout"},
        {"sub": None},
        {"sub": 7},
        {"sid": ["s1"]},
        {"jti": None},
        {"exp": None},
        {"exp": NOW - 60},
        {"iat": NOW + 61},
        {"aud": "other"},
        {"iss": "https://evil.example.org"},
    ],
)
def test_a_token_that_is_about_no_logout_here_ends_nothing(changes: dict[str, Any]):
    with pytest.raises(OidcError):
        logout_of_token(token(**LOGOUT | changes), KeySet([KEY]), CONFIG, NOW)


def _with_another_key() -> str:
    return token(RSAKey.generate_key(parameters={"kid": "a"}))


def _with_a_shared_secret() -> str:
    return token(OctKey.import_key("k" * 32), "HS256")


def _unsigned() -> str:
    return token(alg="none")


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    "make",
    [
        _with_another_key,
        _with_a_shared_secret,
        _unsigned,
        lambda: token()[:-4] + "AAAA",
        lambda: "a.b.c",
        lambda: "",
    ],
)
def test_an_id_token_with_another_signature_is_refused(make: Callable[[], str]):
    with pytest.raises(OidcError):
        claims_of_id_token(make(), KeySet([KEY]), CONFIG, "n", NOW)


def test_a_document_of_another_issuer_is_refused():
    document = (
        b'{"issuer": "%s", "authorization_endpoint": "https://l/a", "jwks_uri": "%s",'
        b' "token_endpoint": "https://l/t"}'
    )
    assert provider_of(document % (ISSUER.encode(), b"https://l/k"), CONFIG)
    for issuer, keys in ((ISSUER + "/", "https://l/k"), (ISSUER, "http://l/k")):
        with pytest.raises(OidcError):
            provider_of(document % (issuer.encode(), keys.encode()), CONFIG)


async def code_for(client: ProviderClient, config: OidcConfig, sub: str) -> tuple[Attempt, str]:
    """Log a person in at the provider."""
    attempt = new_attempt("/", "http://localhost/callback", 0.0)
    url = authorization_url(await client.provider(), config, attempt)
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data={"sub": sub}, allow_redirects=False) as answer:
            query = parse_qs(urlsplit(answer.headers["Location"]).query)
    return attempt, query["code"][0]


def config_of(idp: TestProvider) -> OidcConfig:
    return OidcConfig(issuer=idp.issuer, client_id="monitor", client_secret="a")


async def test_a_changed_key_is_fetched_and_a_code_is_good_once_with_its_verifier():
    with provider() as idp:
        idp.add("anna", groups=["leads"])
        config, clock = config_of(idp), [0.0]
        client = ProviderClient(config, now_s=lambda: clock[0])
        attempt, code = await code_for(client, config, "anna")
        assert (await client.claims(attempt, code, time.time()))["groups"] == ["leads"]
        with pytest.raises(OidcError, match="status 400"):
            await client.claims(attempt, code, time.time())
        # Somebody who caught the code has not the verifier.
        _, code = await code_for(client, config, "anna")
        with pytest.raises(OidcError, match="status 400"):
            await client.claims(attempt, code, time.time())
        idp.change_key()
        for passes_s, is_taken in ((0.0, False), (11.0, True)):
            # At once strangers could make this server ask without end.
            clock[0] += passes_s
            attempt, code = await code_for(client, config, "anna")
            if is_taken:
                assert (await client.claims(attempt, code, time.time()))["sub"] == "anna"
            else:
                with pytest.raises(OidcError):
                    await client.claims(attempt, code, time.time())
        await client.aclose()


async def test_the_document_is_kept_while_the_provider_is_away():
    clock = [0.0]
    with provider() as idp:
        client = ProviderClient(config_of(idp), now_s=lambda: clock[0])
        first = await client.provider()
        clock[0] += KEPT_S - 1
        assert await client.provider() is first
        assert idp.requests.count("/.well-known/openid-configuration") == 1
    clock[0] += 2
    assert await client.provider() is first
    await client.aclose()
