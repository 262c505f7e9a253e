"""A real OpenID Connect provider (oidc-provider-mock, made with Authlib) in a thread of the test.

It is made stricter than it comes: a code is exchanged only with the verifier of its challenge
(RFC 7636), which the package itself does not ask for.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

__all__ = ["TestProvider", "log_in", "provider"]


@dataclass
class TestProvider:
    """A running provider.

    Attributes:
        issuer: its URL.
        requests: paths that were asked for.
        forms: what its token endpoint was sent.
    """

    __test__ = False

    issuer: str
    _app: Any
    requests: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)

    def add(self, sub: str, **claims: Any) -> None:
        """Add a person."""
        client = self._app.test_client()
        assert client.put(f"/users/{sub}", json=claims).status_code == 204

    def logout_token(self, **claims: Any) -> str:
        """Return what a provider tells clients when a session ends, signed with its key."""
        import flask
        from joserfc import jwt
        from joserfc.jwk import RSAKey

        with self._app.test_request_context("/"):
            self._app.preprocess_request()
            own = flask.g.oidc_provider_mock_storage.jwk
        key = RSAKey.import_key(own.as_dict(is_private=True))
        now = int(time.time())
        told = {
            **{"iss": self.issuer, "aud": "monitor", "iat": now, "exp": now + 120, "jti": "1"},
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **claims,
        }
        return jwt.encode({"alg": "RS256", "typ": "logout+jwt"}, told, key)

    def change_key(self) -> None:
        """Sign with another key from now on, and publish that one only."""
        import flask

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from authlib.jose import JsonWebKey

            with self._app.test_request_context("/"):
                self._app.preprocess_request()
                flask.g.oidc_provider_mock_storage.jwk = JsonWebKey.generate_key(
                    "RSA", 2048, is_private=True
                )


@contextlib.contextmanager
def provider(**options: Any) -> Iterator[TestProvider]:
    """Run a provider at a free port of localhost."""
    # Before the filter: it has one of its own.
    import authlib.deprecate  # noqa: F401
    import flask
    import werkzeug.serving

    with warnings.catch_warnings():
        # It uses a part of Authlib that has moved to joserfc.
        warnings.simplefilter("ignore")
        import oidc_provider_mock

    app = flask.Flask(oidc_provider_mock.__name__)
    oidc_provider_mock.init_app(app, **options)
    app.secret_key = "of a test"
    challenges: dict[str, str] = {}
    running = TestProvider("", app)

    @app.before_request
    def check_verifier() -> Any:
        request = flask.request
        running.requests.append(request.path)
        if request.path != "/oauth2/token":
            return None
        running.forms.append(dict(request.form))
        digest = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if challenges.pop(request.form.get("code", ""), None) != challenge:
            return {"error": "invalid_grant"}, 400
        return None

    @app.after_request
    def note_challenge(response: Any) -> Any:
        query = parse_qs(urlsplit(response.headers.get("Location", "")).query)
        if flask.request.path == "/oauth2/authorize" and "code" in query:
            assert flask.request.args["code_challenge_method"] == "S256"
            challenges[query["code"][0]] = flask.request.args["code_challenge"]
        return response

    server = werkzeug.serving.make_server("localhost", 0, app, threaded=True)
    running.issuer = f"http://localhost:{server.server_port}"
    # It looks for the end this often, s.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def log_in(
    session: aiohttp.ClientSession, url: str, sub: str, next_path: str = "/"
) -> aiohttp.ClientResponse:
    """Log in as a browser does; return the server's last answer, its body read.

    Args:
        session: keeps the cookies.
        url: of the server.
        sub: the person.
        next_path: the page that was asked for.
    """
    begin = f"{url}/login/oidc"
    async with session.get(begin, params={"next": next_path}, allow_redirects=False) as answer:
        if answer.status != 303:
            await answer.read()
            return answer
        authorize = answer.headers["Location"]
    async with session.get(authorize) as answer:
        assert (answer.status, "<form" in await answer.text()) == (200, True)
    async with session.post(authorize, data={"sub": sub}, allow_redirects=False) as answer:
        assert answer.status == 302, await answer.text()
        back = answer.headers["Location"]
    async with session.get(back, headers={"Accept": "text/html"}, allow_redirects=False) as answer:
        await answer.read()
        return answer
