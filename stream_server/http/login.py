"""The login form for browsers, and the cookie that holds the token.

A browser cannot send an ``Authorization`` header when it opens a page. The cookie is HttpOnly, sent
to this host only and never with a request that another site caused (SameSite=Strict); the check of
``Origin`` applies as well. It lasts until the browser is closed.
"""

from __future__ import annotations

import html
from urllib.parse import quote

from aiohttp import hdrs, web

from stream_server.access import COOKIE_NAME
from stream_server.http.paths import BASE_PATH, own_path, own_path_qs, to_root

LOGIN_PATH = "/login"

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
  [role=alert] {{ color: #D55E00; opacity: 1 }}
</style>
<form method="post" action="{path}">
  <h1>Emotion Monitor</h1>
  <p>This server asks for an access token. / <span lang="zh">此服务器需要访问令牌。</span></p>
  {problem}
  <label for="token">Access token / <span lang="zh">访问令牌</span></label>
  <input id="token" name="token" type="password" required autofocus autocomplete="current-password">
  <input type="hidden" name="next" value="{next}">
  <button>Open / <span lang="zh">打开</span></button>
</form>
"""
_PROBLEM = '<p role="alert">This token is not valid. / <span lang="zh">令牌无效。</span></p>'


def wants_page(request: web.Request) -> bool:
    """Whether a browser opens a page, as opposed to a program or a script of a page."""
    if own_path(request) == LOGIN_PATH:
        return True
    accepts = "text/html" in request.headers.get(hdrs.ACCEPT, "")
    return request.method == hdrs.METH_GET and accepts


def login_page(request: web.Request) -> web.Response:
    """Return the form, which leads on to the requested page."""
    again = own_path(request) == LOGIN_PATH
    text = _PAGE.format(
        path=to_root(request) + LOGIN_PATH[1:],
        problem=_PROBLEM if again else "",
        next="/" if again else html.escape(_local(own_path_qs(request))),
    )
    return web.Response(
        text=text,
        status=401,
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": _POLICY, hdrs.WWW_AUTHENTICATE: "Bearer"},
    )


def logged_in(request: web.Request, token: str, next_path: str) -> web.Response:
    """Return the redirect to the requested page, with the cookie."""
    # Relative to the form's path (RFC 9110, section 10.2.2).
    location = to_root(request) + _local(next_path)[1:]
    response = web.Response(status=303, headers={hdrs.LOCATION: location})
    response.set_cookie(
        COOKIE_NAME,
        quote(token, safe=""),
        httponly=True,
        samesite="Strict",
        secure=request.secure,
        path=request.config_dict[BASE_PATH] or "/",
    )
    return response


def _local(path: str) -> str:
    """Return the path if it is one of this server's, else "/"."""
    # "//host" and "/\\host" are other hosts to a browser: an open redirect (CWE-601).
    plain = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if plain and path.isprintable() else "/"
