"""What every request passes: host, origin and token; what every answer carries."""

from __future__ import annotations

import math

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from stream_server.access import Access, bearer_token, cookie_token
from stream_server.http.login import LOGIN_PATH, login_page, wants_page
from stream_server.metrics import Metrics
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import error_message

__all__ = ["ACCESS", "METRICS", "OPEN_PATHS", "TOKEN_NAME", "error_response", "guard", "secure"]

ACCESS = web.AppKey("access", Access)
METRICS = web.AppKey("metrics", Metrics)

TOKEN_NAME = web.RequestKey("token_name", str)
"""Name of the token a request came with; not set where none was needed."""

_ORIGIN_ALLOWED = web.RequestKey("origin_allowed", bool)

OPEN_PATHS = frozenset(("/healthz", "/readyz", LOGIN_PATH))
"""Paths that take no token: what probes a server has no secrets, and these tell none."""

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Defaults; a handler that sets one of them itself has its way."""


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request pass, or answer it with the error it deserves."""
    try:
        _check(request)
        if _is_preflight(request):
            return web.Response(status=204)
        return await handler(request)
    except ProtocolError as error:
        request.config_dict[METRICS].refused(error.code.value)
        if error.code is ErrorCode.UNAUTHORIZED and wants_page(request):
            return login_page(request)
        return error_response(error)


def _check(request: web.Request) -> None:
    access = request.config_dict[ACCESS]
    access.check_origin(request.headers.get(hdrs.ORIGIN), request.headers.get(hdrs.HOST))
    request[_ORIGIN_ALLOWED] = True
    if request.path in OPEN_PATHS or _is_preflight(request):
        return
    token = bearer_token(request.headers.get(hdrs.AUTHORIZATION))
    token = token or cookie_token(request.headers.get(hdrs.COOKIE))
    host = request.headers.get(hdrs.HOST)
    name = access.authorize_client(token, request.remote or "", host)
    if name is not None:
        request[TOKEN_NAME] = name


def _is_preflight(request: web.Request) -> bool:
    """Whether a browser asks if it may ask. It never sends a token with that."""
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer before they are sent; also those of streams."""
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    # The server's name and version help nobody but an attacker.
    response.headers[hdrs.SERVER] = "emotion-monitor"
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or not request.get(_ORIGIN_ALLOWED, False):
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    if _is_preflight(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, PATCH, DELETE"
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
            "Authorization, Content-Type, Last-Event-ID"
        )
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"


def error_response(error: ProtocolError) -> web.Response:
    """Return an error as a client of the native protocol would get it, with its HTTP status."""
    headers = {}
    if error.retry_after_s is not None:
        headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after_s))
    if error.code is ErrorCode.UNAUTHORIZED:
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return web.Response(
        body=msgspec.json.encode(error_message(error)),
        status=error.kind.http_status,
        content_type="application/json",
        headers=headers,
    )
