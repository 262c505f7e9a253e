"""OpenID Connect, without I/O: the code flow with PKCE.

After OpenID Connect Core 1.0, RFC 6749 and RFC 7636.

::

    browser                       this server                       provider
      /login/oidc      ──▶   Attempt, kept in a signed cookie
                       ◀──   authorization_url()      ──────────▶   the person logs in there
      /login/oidc/callback?code&state                 ◀──────────
                       ──▶   token_request()          ──────────▶   token endpoint
                             claims_of_id_token()     ◀──────────   ID token
                             person_of() ─▶ a session of this server's own

After that the provider is asked for nothing more. It may say that its session has ended::

                             logout_of_token()        ◀──────────   POST /login/oidc/logout
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from stream_server.access.config import OidcConfig
from stream_server.wire.errors import shown

ATTEMPT_S = 600.0
"""How long somebody may take to log in at the provider."""

# Signatures with a provider's public key. Never "none", and none with a shared secret: with those a
# public key could be taken for the secret (RFC 8725, section 2.1).
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")


class OidcError(Exception):
    """The login cannot be completed; the text is for the log."""


class Provider(msgspec.Struct, frozen=True):
    """What a provider's discovery document says (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


def provider_of(document: bytes, config: OidcConfig) -> Provider:
    """Return a provider by its discovery document.

    Raises:
        OidcError: it is none, or that of another issuer.
    """
    try:
        provider = msgspec.json.decode(document, type=Provider)
    except msgspec.MsgspecError as error:
        raise OidcError(f"got a discovery document that cannot be read: {error}") from None
    if provider.issuer != config.issuer:
        # OpenID Connect Discovery 1.0, section 4.3: to the letter.
        raise OidcError(
            f"got the issuer '{provider.issuer}' in the discovery document, expected access.oidc"
            f".issuer '{config.issuer}'"
        )
    own = urlsplit(config.issuer).scheme
    for url in (provider.authorization_endpoint, provider.token_endpoint, provider.jwks_uri):
        if urlsplit(url).scheme not in ("https", own):
            raise OidcError(f"got the endpoint '{url}', expected an https address")
    return provider


def discovery_url(config: OidcConfig) -> str:
    """Return where the discovery document is."""
    return config.issuer.rstrip("/") + "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login that has begun, as the browser keeps it meanwhile.

    Attributes:
        state: ties the answer to this browser (RFC 6749, section 10.12).
        nonce: ties the ID token to this attempt.
        verifier: proves that who exchanges the code is who asked for it (RFC 7636).
        next_path: the page that was asked for.
        begun_at: seconds since 1970, UTC.
        redirect_uri: that the provider was told.
    """

    state: str
    nonce: str
    verifier: str
    next_path: str
    begun_at: float
    redirect_uri: str


def new_attempt(next_path: str, redirect_uri: str, now: float) -> Attempt:
    """Return a new attempt."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Attempt(state, nonce, verifier, next_path, now, redirect_uri)


def authorization_url(provider: Provider, config: OidcConfig, attempt: Attempt) -> str:
    """Return where the browser is sent to log in."""
    digest = hashlib.sha256(attempt.verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": config.client_id,
        "redirect_uri": attempt.redirect_uri,
        "scope": " ".join(config.scopes),
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    mark = "&" if "?" in provider.authorization_endpoint else "?"
    return f"{provider.authorization_endpoint}{mark}{urlencode(query)}"


def code_of(query: Mapping[str, str], attempt: Attempt, config: OidcConfig, now: float) -> str:
    """Return the code that a browser brings back.

    Raises:
        OidcError: the provider refused, or it is no answer to this attempt.
    """
    if not secrets.compare_digest(query.get("state", "").encode(), attempt.state.encode()):
        raise OidcError("got the answer to another login than this browser's latest; log in again")
    if now - attempt.begun_at > ATTEMPT_S:
        raise OidcError(f"the login took more than {ATTEMPT_S / 60:g} minutes; log in again")
    # RFC 9207: an answer of another provider of the same client.
    if query.get("iss", config.issuer) != config.issuer:
        raise OidcError("got an answer from another provider; log in again")
    if "error" in query:
        raise OidcError(f"the provider answered {shown(query['error'])}")
    if not query.get("code"):
        raise OidcError("got an answer without a code from the provider; log in again")
    return query["code"]


def token_request(
    provider: Provider, config: OidcConfig, attempt: Attempt, code: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return form and headers of the request that exchanges a code for tokens."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": attempt.redirect_uri,
        "code_verifier": attempt.verifier,
    }
    headers = {"Accept": "application/json"}
    methods = provider.token_endpoint_auth_methods_supported
    if not config.client_secret:
        form["client_id"] = config.client_id
    elif "client_secret_basic" in methods or "client_secret_post" not in methods:
        # RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
        pair = f"{quote(config.client_id, safe='')}:{quote(config.client_secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": config.client_id, "client_secret": config.client_secret}
    return form, headers


def key_id_of(id_token: str) -> str:
    """Return which of the provider's keys has signed a token; "": it does not say."""
    try:
        head = id_token.partition(".")[0]
        found = msgspec.json.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        key_id = found.get("kid", "")
    except (ValueError, AttributeError, msgspec.MsgspecError):
        return ""
    return key_id if isinstance(key_id, str) else ""


def claims_of_id_token(
    id_token: str, keys: KeySet, config: OidcConfig, nonce: str, now: float
) -> dict[str, Any]:
    """Return what an ID token says (OpenID Connect Core 1.0, section 3.1.3.7).

    Raises:
        OidcError: it is not signed by the provider, not for this client, not for this attempt, or
            not valid now.
    """
    expected = jwt.JWTClaimsRegistry(
        now=int(now),
        leeway=int(config.clock_skew_s),
        iss={"essential": True, "value": config.issuer},
        aud={"essential": True, "value": config.client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        claims = jwt.decode(id_token, keys, algorithms=_ALGORITHMS).claims
        expected.validate(claims)
    # Whatever a token makes of the library's own code is a token that is not valid.
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise OidcError(
            f"got an ID token that is not valid: {type(error).__name__}: {error}"
        ) from None
    # With several audiences the token may have been meant for one of the others.
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1:
        if claims.get("azp") != config.client_id:
            raise OidcError("got an ID token for several clients, expected it for this one")
    elif claims.get("azp", config.client_id) != config.client_id:
        raise OidcError("got an ID token of another client")
    return dict(claims)


LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass(frozen=True, slots=True)
class ProviderLogout:
    """A person has logged out of the provider, or was shut out.

    Attributes:
        subject, session_id: whose sessions end; one of them may be "".
        at: what began before it ends, seconds since 1970.
    """

    subject: str
    session_id: str
    at: float


def logout_of_token(
    logout_token: str, keys: KeySet, config: OidcConfig, now: float
) -> ProviderLogout:
    """Return what a logout token says (OpenID Connect Back-Channel Logout 1.0, section 2.6).

    Raises:
        OidcError: it is not signed by the provider, not for this client, not valid now, or not
            about a logout.
    """
    expected = jwt.JWTClaimsRegistry(
        now=int(now),
        leeway=int(config.clock_skew_s),
        iss={"essential": True, "value": config.issuer},
        aud={"essential": True, "value": config.client_id},
        exp={"essential": True},
        iat={"essential": True},
        jti={"essential": True},
    )
    try:
        claims = jwt.decode(logout_token, keys, algorithms=_ALGORITHMS).claims
        expected.validate(claims)
        is_logout = isinstance(claims.get("events", {}).get(LOGOUT_EVENT), dict)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise OidcError(
            f"got a logout token that is not valid: {type(error).__name__}: {error}"
        ) from None
    # An ID token, which browsers and proxies may have seen, must not pass for one: it has a nonce.
    if not is_logout or "nonce" in claims:
        raise OidcError("got a token that is about no logout")
    subject, session_id = claims.get("sub", ""), claims.get("sid", "")
    if not (isinstance(subject, str) and isinstance(session_id, str) and (subject or session_id)):
        raise OidcError("got a logout token without sub and sid")
    # In whole seconds, and of the provider's clock. Whoever sends an old token again ends nothing
    # that has begun since.
    at = min(now, claims["iat"] + 1 + config.clock_skew_s)
    return ProviderLogout(subject, session_id, at)


def person_of(claims: Mapping[str, Any], config: OidcConfig) -> tuple[str, list[str]]:
    """Return what a person is called here, and the groups."""
    names = (claims.get(claim) for claim in (config.name_claim, "email", "sub"))
    name = next((name for name in names if isinstance(name, str) and name.strip()), "")
    groups = claims.get(config.groups_claim, [])
    # Some providers send one group as a text.
    groups = [groups] if isinstance(groups, str) else groups
    if not isinstance(groups, list):
        groups = []
    return name.strip(), [group for group in groups if isinstance(group, str)]


def logout_url(provider: Provider, config: OidcConfig, back_to: str) -> str | None:
    """Return where the person logs out of the provider, too; None: it has no such place."""
    if not provider.end_session_endpoint:
        return None
    # RP-Initiated Logout 1.0, section 2: the client's id where there is no ID token any more.
    query = urlencode({"client_id": config.client_id, "post_logout_redirect_uri": back_to})
    mark = "&" if "?" in provider.end_session_endpoint else "?"
    return f"{provider.end_session_endpoint}{mark}{query}"
