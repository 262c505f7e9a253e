"""The login form for browsers, and the cookie of their session.

A browser cannot send an ``Authorization`` header when it opens a page. The cookie is HttpOnly, sent
to this host only and never with a request that another site caused (SameSite=Strict); the check of
``Origin`` applies as well. It ends with the session, with logging out, or with the browser.

Paths of requests are as this server knows them, below whatever path a proxy serves it::

    browser                       proxy                      this server
    /emotion/streams/a   ──▶   removes /emotion   ──▶   /streams/a            nothing to set
    /emotion/streams/a   ──▶   passes it on       ──▶   /emotion/streams/a    base_path: /emotion

What is sent to a browser is relative to the page it asked for, so it is right in both cases.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from aiohttp import hdrs, web

from stream_server.access import SESSION_COOKIE, Access, Arrival, Who, session_of
from stream_server.wire.errors import ProtocolError

BASE_PATH = web.AppKey("base_path", str)
"""The setting ``listen.base_path``."""


def own_path(request: web.Request) -> str:
    """Return the path of a request without the base path; it begins with "/"."""
    return request.path.removeprefix(request.config_dict[BASE_PATH])


def own_path_qs(request: web.Request) -> str:
    """Return the path with its query, as it was sent, without the base path."""
    return request.path_qs.removeprefix(request.config_dict[BASE_PATH])


def to_root(request: web.Request) -> str:
    """Return the way from the page of a request to "/": "./", "../" and so on."""
    # As it was sent: in "/streams/a%2Fb" the browser sees two parts.
    raw = request.rel_url.raw_path.removeprefix(request.config_dict[BASE_PATH])
    return "../" * (raw.count("/") - 1) or "./"


ARRIVAL = web.RequestKey("arrival", Arrival)
"""Where a request comes from."""

NOTE: web.AppKey[Callable[..., None]] = web.AppKey("note")
"""Adds an entry to the audit: takes the fields of ``AuditEntry`` but the time, as keywords."""


def note(
    request: web.Request,
    who: Who | None,
    action: str,
    *,
    target: str = "",
    team: str = "",
    detail: str = "",
) -> None:
    """Add to the audit what somebody does; ``who`` None: somebody who could not log in."""
    request.config_dict[NOTE](
        kind="nobody" if who is None else who.kind,
        name="" if who is None else who.name,
        address=request[ARRIVAL].address,
        action=action,
        target=target,
        team=team,
        detail=detail,
    )


LOGIN_PATH = "/login"
LOGOUT_PATH = "/logout"
BEGIN_PATH = "/login/oidc"
CALLBACK_PATH = "/login/oidc/callback"
BACK_CHANNEL_PATH = "/login/oidc/logout"
SSO_LABEL = web.AppKey("sso_label", str)
"""Text of the button that leads to :data:`BEGIN_PATH`; "": there is none."""
_MAX_AT_A_TIME = 2

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Emotion Monitor</title>
<style>
  :root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }}
  body {{ display: grid; place-items: center; min-height: 90vh; margin: 0 16px }}
  form {{ display: grid; gap: 12px; width: min(360px, 100%) }}
  h1 {{ font-size: 20px; margin: 0 }}
  p {{ margin: 0; opacity: .75 }}
  input, button {{ font: inherit; padding: 8px 12px; border-radius: 6px }}
  input {{ border: 1px solid #8A8F98 }}
  button {{ background: #0072B2; border: 0; color: #fff; cursor: pointer }}
  a {{ border: 1px solid #8A8F98; border-radius: 6px; color: inherit; padding: 8px 12px;
    text-align: center; text-decoration: none }}
  [role=alert] {{ color: #D55E00; opacity: 1 }}
</style>
<form method="post" action="{path}">
  <h1>Emotion Monitor</h1>
  <p>Log in with a name and a password, or with an access token. /
    <span lang="zh">请用用户名和密码或访问令牌登录。</span></p>
  {problem}
  <label for="name">Name; none with a token / <span lang="zh">用户名 / 用令牌时留空</span></label>
  <input id="name" name="name" autofocus autocomplete="username" maxlength="64">
  <label for="secret">Password or token / <span lang="zh">密码或令牌</span></label>
  <input id="secret" name="secret" type="password" required autocomplete="current-password">
  <input type="hidden" name="next" value="{next}">
  <button>Log in / <span lang="zh">登录</span></button>
  {elsewhere}
</form>
"""
_LEADING = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={url}">
<title>Emotion Monitor</title>
<p><a href="{url}">Emotion Monitor</a></p>
"""
_PROBLEM = (
    '<p role="alert">This name, password or token is not valid. /'
    ' <span lang="zh">用户名、密码或令牌无效。</span></p>'
)


def wants_page(request: web.Request) -> bool:
    """Whether a browser opens a page, as opposed to a program or a script of a page."""
    if own_path(request) == LOGIN_PATH:
        return True
    accepts = "text/html" in request.headers.get(hdrs.ACCEPT, "")
    return request.method == hdrs.METH_GET and accepts


def login_page(
    request: web.Request, problem: str = "", next_path: str | None = None
) -> web.Response:
    """Return the form, which leads on to the requested page.

    ``problem``: what went wrong before, for the person.
    """
    again = own_path(request) == LOGIN_PATH
    if next_path is None:
        next_path = "/" if again else local(own_path_qs(request))
    said = f'<p role="alert">{html.escape(problem)}</p>' if problem else _PROBLEM if again else ""
    label = request.config_dict.get(SSO_LABEL, "")
    url = f"{to_root(request)}{BEGIN_PATH[1:]}?{urlencode({'next': next_path})}"
    text = _PAGE.format(
        path=to_root(request) + LOGIN_PATH[1:],
        problem=said,
        next=html.escape(next_path),
        elsewhere=f'<a href="{html.escape(url)}">{html.escape(label)}</a>' if label else "",
    )
    return web.Response(
        text=text,
        status=401,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": _POLICY,
            hdrs.WWW_AUTHENTICATE: "Bearer",
            # Not no-referrer: with that a browser sends the form with the Origin "null" (Fetch
            # standard, section 3.2), which is refused.
            "Referrer-Policy": "same-origin",
        },
    )


def leading_to(url: str) -> web.Response:
    """Return a page that leads on to an address by itself."""
    return web.Response(
        text=_LEADING.format(url=html.escape(url)),
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": _POLICY},
    )


def set_session(request: web.Request, response: web.StreamResponse, cookie: str) -> None:
    """Give a browser the cookie of its session."""
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        httponly=True,
        samesite="Strict",
        secure=request[ARRIVAL].is_secure,
        path=request.config_dict[BASE_PATH] or "/",
    )


class Login:
    """Where browsers log in and out.

    ``logout_address`` returns where a person who logged in by OpenID Connect logs out of the
    provider; None: nowhere.
    """

    def __init__(
        self,
        access: Access,
        logout_address: Callable[[web.Request], Awaitable[str | None]] | None = None,
    ) -> None:
        self._access = access
        self._logout_address = logout_address
        self._turns = asyncio.Semaphore(_MAX_AT_A_TIME)

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Answer the form: lead on to the requested page, with a session."""
        form = await request.post()
        name = str(form.get("name", "")).strip()
        secret = str(form.get("secret", form.get("token", "")))
        try:
            # A token is pasted, often with a space; a password may begin with one.
            secret = secret if name else secret.strip()
            address = request[ARRIVAL].address
            # A few at a time: each takes 32 MiB and a tenth of a second of a processor.
            async with self._turns:
                session = await asyncio.to_thread(self._access.log_in, name, secret, address)
        except ProtocolError:
            note(request, None, "login_failed", target=name)
            raise
        # Relative to the form's path (RFC 9110, section 10.2.2).
        location = to_root(request) + local(str(form.get("next", "/")))[1:]
        response = web.Response(status=303, headers={hdrs.LOCATION: location})
        set_session(request, response, self._access.sessions.cookie(session))
        note(request, self._access.who_of(session), "login")
        return response

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """End the session, and lead to the form."""
        session = self._access.session(session_of(request.headers.get(hdrs.COOKIE)) or "")
        if session is not None:
            note(request, self._access.who_of(session), "logout")
            self._access.log_out(session)
        elsewhere = None
        if session is not None and session.given is not None and self._logout_address is not None:
            elsewhere = await self._logout_address(request)
        if elsewhere is None:
            response = web.Response(status=303, headers={hdrs.LOCATION: to_root(request)})
        else:
            # Not a redirect: a page's form-action applies to those of its form, too (CSP, 4.2).
            response = leading_to(elsewhere)
        response.del_cookie(SESSION_COOKIE, path=request.config_dict[BASE_PATH] or "/")
        return response


def local(path: str) -> str:
    """Return the path if it is one of this server's, else "/"."""
    # "//host" and "/\\host" are other hosts to a browser: an open redirect (CWE-601).
    plain = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if plain and path.isprintable() else "/"
