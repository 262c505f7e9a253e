"""Login by OpenID Connect: the two paths of it, and what is kept of the provider.

See :mod:`stream_server.access.oidc` for the protocol. Its discovery document and keys are fetched
when somebody logs in, and kept for :data:`KEPT_S`; a key that is not among them is looked for once
more, as providers change theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import aiohttp
import msgspec
import structlog
from aiohttp import hdrs, web
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from stream_server.access import Access, OidcConfig
from stream_server.access.oidc import (
    ATTEMPT_S,
    Attempt,
    OidcError,
    Provider,
    ProviderLogout,
    authorization_url,
    claims_of_id_token,
    code_of,
    discovery_url,
    key_id_of,
    logout_of_token,
    logout_url,
    new_attempt,
    person_of,
    provider_of,
    token_request,
)
from stream_server.http.login import (
    ARRIVAL,
    BACK_CHANNEL_PATH,
    BASE_PATH,
    BEGIN_PATH,
    CALLBACK_PATH,
    leading_to,
    local,
    login_page,
    note,
    set_session,
    to_root,
)

_log = structlog.get_logger(__name__)

ATTEMPT_COOKIE = "emotion_monitor_login"
KEPT_S = 3600.0
"""How long document and keys are used before they are fetched again."""
_RETRY_S = 10.0
"""Least time between two fetches: strangers cause them."""
_TIMEOUT_S = 10.0
_MAX_ANSWER_BYTES = 1 << 20
_MAX_AT_A_TIME = 8


class _Tokens(msgspec.Struct):
    """The answer of the token endpoint (OpenID Connect Core 1.0, section 3.1.3.3)."""

    id_token: str
    access_token: str = ""


class ProviderClient:
    """A provider, asked over HTTP."""

    def __init__(self, config: OidcConfig, now_s: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now_s = now_s
        self._provider: tuple[Provider, float] | None = None
        self._keys: tuple[KeySet, float] | None = None
        self._turn = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def provider(self) -> Provider:
        """Return the provider's discovery document.

        Raises:
            OidcError: it cannot be had.
        """
        async with self._turn:
            return await self._current_provider()

    async def _current_provider(self) -> Provider:
        now_s, known = self._now_s(), self._provider
        if known is not None and now_s - known[1] < KEPT_S:
            return known[0]
        try:
            provider = provider_of(await self._fetch(discovery_url(self._config)), self._config)
        except OidcError:
            if known is None:
                raise
            # Its document hardly ever changes; that it is away for a moment is more likely.
            self._provider = known[0], now_s - KEPT_S + _RETRY_S
            return known[0]
        self._provider = provider, now_s
        return provider

    async def keys(self, key_id: str, *, is_wrong: bool = False) -> KeySet:
        """Return the provider's public keys, that of ``key_id`` among them if it has it.

        ``key_id`` "": the token does not say. ``is_wrong``: none of those that are kept has signed
        it.

        Raises:
            OidcError: they cannot be had.
        """
        async with self._turn:
            provider = await self._current_provider()
            now_s, known = self._now_s(), self._keys
            if known is not None:
                age_s = now_s - known[1]
                has_it = any(key.kid == key_id for key in known[0].keys) if key_id else not is_wrong
                if age_s < (KEPT_S if has_it else _RETRY_S):
                    return known[0]
            try:
                answer = await self._fetch(provider.jwks_uri)
                keys = KeySet.import_key_set(msgspec.json.decode(answer))
            except (msgspec.MsgspecError, JoseError, ValueError, TypeError, KeyError) as error:
                raise OidcError(f"got signing keys that cannot be read: {error}") from None
            self._keys = keys, now_s
            return keys

    async def claims(self, attempt: Attempt, code: str, now: float) -> dict[str, Any]:
        """Exchange a code; return what the provider says of the person.

        Raises:
            OidcError: it refuses, or its answer is not valid.
        """
        provider = await self.provider()
        form, headers = token_request(provider, self._config, attempt, code)
        answer = await self._fetch(provider.token_endpoint, form=form, headers=headers)
        try:
            tokens = msgspec.json.decode(answer, type=_Tokens)
        except msgspec.MsgspecError:
            raise OidcError("got an answer of the token endpoint without an ID token") from None
        key_id, nonce = key_id_of(tokens.id_token), attempt.nonce
        keys = await self.keys(key_id)
        try:
            claims = claims_of_id_token(tokens.id_token, keys, self._config, nonce, now)
        except OidcError:
            # Without an id of the key only a wrong signature tells that it has changed.
            if key_id:
                raise
            again = await self.keys(key_id, is_wrong=True)
            claims = claims_of_id_token(tokens.id_token, again, self._config, nonce, now)
        if self._config.groups_claim in claims or not provider.userinfo_endpoint:
            return claims
        # Some providers keep ID tokens small, and tell the groups here only.
        bearer = {"Authorization": f"Bearer {tokens.access_token}"}
        more = msgspec.json.decode(await self._fetch(provider.userinfo_endpoint, headers=bearer))
        # OpenID Connect Core 1.0, section 5.3.2: else it may be about somebody else.
        if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
            raise OidcError("got userinfo about another person than the ID token")
        return {**more, **claims}

    async def logout(self, logout_token: str, now: float) -> ProviderLogout:
        """Return what a logout token says.

        Raises:
            OidcError: it is not valid.
        """
        key_id = key_id_of(logout_token)
        return logout_of_token(logout_token, await self.keys(key_id), self._config, now)

    async def _fetch(
        self,
        url: str,
        *,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            # Proxies of the environment: a call centre's servers often reach the world by one.
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        method = hdrs.METH_GET if form is None else hdrs.METH_POST
        try:
            async with self._session.request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as answer:
                body = await answer.content.read(_MAX_ANSWER_BYTES)
                # A read returns what is there, up to so many.
                while chunk := await answer.content.read(_MAX_ANSWER_BYTES - len(body)):
                    body += chunk
                if answer.status != 200:
                    raise OidcError(f"{url} answered with status {answer.status}")
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OidcError(f"{url} does not answer: {type(error).__name__} {error}") from None


class SingleSignOn:
    """The paths of a login by OpenID Connect.

    ``end_outdated`` cuts the connections of sessions that have ended.
    """

    def __init__(
        self,
        access: Access,
        config: OidcConfig,
        end_outdated: Callable[[], None],
    ) -> None:
        self._access = access
        self._config = config
        self._end_outdated = end_outdated
        self.client = ProviderClient(config)
        self._turns = asyncio.Semaphore(_MAX_AT_A_TIME)

    def add_to(self, app: web.Application) -> None:
        """Add them to an application."""
        app.router.add_get(BEGIN_PATH, self.begin)
        app.router.add_get(CALLBACK_PATH, self.finish)
        app.router.add_post(BACK_CHANNEL_PATH, self.log_out)

        async def close(_: web.Application) -> None:
            await self.client.aclose()

        app.on_cleanup.append(close)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send a browser to the provider."""
        try:
            async with self._turns:
                provider = await self.client.provider()
        except OidcError as error:
            return self._failed(request, error)
        attempt = new_attempt(
            local(request.query.get("next", "/")), self._redirect_uri(request), time.time()
        )
        location = authorization_url(provider, self._config, attempt)
        response = web.Response(status=303, headers={hdrs.LOCATION: location})
        response.set_cookie(
            ATTEMPT_COOKIE,
            self._access.sessions.sign(["attempt", *astuple(attempt)]),
            max_age=int(ATTEMPT_S),
            httponly=True,
            # The provider's page leads back here: with Strict the cookie would stay behind.
            samesite="Lax",
            secure=request[ARRIVAL].is_secure,
            path=self._cookie_path(request),
        )
        return response

    async def finish(self, request: web.Request) -> web.StreamResponse:
        """Take a browser back from the provider, and give it a session."""
        address, secret = request[ARRIVAL].address, request.query.get("code", "")
        self._access.check_attempt(address, secret)
        try:
            attempt = self._attempt(request)
            code = code_of(request.query, attempt, self._config, time.time())
            async with self._turns:
                claims = await self.client.claims(attempt, code, time.time())
        except OidcError as error:
            self._access.note_attempt(address, secret, is_right=False)
            return self._failed(request, error)
        self._access.note_attempt(address, secret, is_right=True)
        name, groups = person_of(claims, self._config)
        given = self._access.given(name, groups)
        if given is None:
            return self._refused(request, "none of your groups may come in here", name)
        # OpenID Connect Back-Channel Logout 1.0, section 2.1.
        session_id = claims.get("sid", "")
        session = self._access.begin_given(
            given, str(claims["sub"]), session_id if isinstance(session_id, str) else ""
        )
        # A page, not a redirect: the provider began this navigation, and browsers send a
        # SameSite=Strict cookie with none of its redirects.
        response = leading_to(to_root(request) + attempt.next_path[1:])
        set_session(request, response, self._access.sessions.cookie(session))
        response.del_cookie(ATTEMPT_COOKIE, path=self._cookie_path(request))
        note(request, self._access.who_of(session), "login", detail="OpenID Connect")
        return response

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """Take a provider's word that its session has ended (Back-Channel Logout 1.0)."""
        # Section 2.8: the answer is not to be kept.
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        form = await request.post()
        token, address = str(form.get("logout_token", "")), request[ARRIVAL].address
        self._access.check_attempt(address, token)
        try:
            async with self._turns:
                logout = await self.client.logout(token, time.time())
        except OidcError as error:
            self._access.note_attempt(address, token, is_right=False)
            _log.warning("oidc_failed", reason=str(error))
            problem = {"error": "invalid_request"}
            return web.json_response(problem, status=400, headers=headers)
        self._access.note_attempt(address, token, is_right=True)
        self._access.end_given(logout.subject, logout.session_id, logout.at)
        self._end_outdated()
        note(request, None, "logout", target=logout.subject, detail="at the provider")
        return web.Response(headers=headers)

    async def logout_address(self, request: web.Request) -> str | None:
        """Return where a person logs out of the provider, too; None: nowhere."""
        back_to = self._redirect_uri(request).removesuffix(CALLBACK_PATH) + "/"
        try:
            return logout_url(await self.client.provider(), self._config, back_to)
        except OidcError as error:
            _log.warning("oidc_failed", reason=str(error))
            return None

    def _failed(self, request: web.Request, error: OidcError) -> web.Response:
        # The texts of providers and libraries are for the log.
        _log.warning("oidc_failed", reason=str(error))
        return self._refused(request, "the login failed; begin again")

    def _attempt(self, request: web.Request) -> Attempt:
        fields = self._access.sessions.signed(request.cookies.get(ATTEMPT_COOKIE, ""))
        if not isinstance(fields, list) or fields[:1] != ["attempt"]:
            raise OidcError("got an answer without a login that began in this browser; begin again")
        return Attempt(*fields[1:])

    def _redirect_uri(self, request: web.Request) -> str:
        if self._config.redirect_uri:
            return self._config.redirect_uri
        scheme = "https" if request[ARRIVAL].is_secure else "http"
        return f"{scheme}://{request.host}{request.config_dict[BASE_PATH]}{CALLBACK_PATH}"

    @staticmethod
    def _cookie_path(request: web.Request) -> str:
        return request.config_dict[BASE_PATH] or "/"

    @staticmethod
    def _refused(request: web.Request, reason: str, name: str = "") -> web.Response:
        note(request, None, "login_failed", target=name, detail=reason)
        return login_page(request, problem=f"{reason[:1].upper()}{reason[1:]}.", next_path="/")
