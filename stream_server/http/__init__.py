"""The HTTP server: what every request must pass and every answer carries, health and metrics.

Whatever else is served (feeds, pages, interfaces) is added to the same application and is guarded
by it: ``app.router.add_get(...)``, or ``app.add_subapp(...)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from stream_server.access import (
    SESSION_COOKIE,
    Access,
    Arrival,
    Scope,
    Who,
    bearer_token,
    session_of,
)
from stream_server.access.credentials import Session
from stream_server.access.policy import refusal
from stream_server.http.connections import HttpConnections
from stream_server.http.login import (
    ARRIVAL,
    BACK_CHANNEL_PATH,
    BASE_PATH,
    BEGIN_PATH,
    CALLBACK_PATH,
    LOGIN_PATH,
    LOGOUT_PATH,
    NOTE,
    SSO_LABEL,
    Login,
    login_page,
    own_path,
    set_session,
    wants_page,
)
from stream_server.metrics import Metrics, format_for
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import error_message

ACCESS = web.AppKey("access", Access)
METRICS = web.AppKey("metrics", Metrics)

HELD: web.AppKey[dict[int, web.Request]] = web.AppKey("held", dict)
"""Requests that are being answered, by their id() as they cannot be hashed."""

WHO = web.RequestKey("who", Who)
"""Who makes a request; not set on open paths."""

SESSION = web.RequestKey("session", Session)
"""Set if the request's session is what let it in."""

_ORIGIN_ALLOWED = web.RequestKey("origin_allowed", bool)

OPEN_PATHS = frozenset(
    (
        *("/healthz", "/readyz", LOGIN_PATH, LOGOUT_PATH),
        *(BEGIN_PATH, CALLBACK_PATH, BACK_CHANNEL_PATH),
    )
)
"""Paths without a token: probes of an orchestrator have no secrets, and these reveal none."""

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Defaults; a handler may set its own, as the dashboard does for its pages."""


CONNECTIONS = web.AppKey("connections", HttpConnections)


@web.middleware
async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connections when a request begins and ends; the outermost middleware."""
    connections = request.config_dict[CONNECTIONS]
    connections.begin(request)
    try:
        return await handler(request)
    finally:
        connections.end(request)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check a request before its handler; answer a refusal as an error or the login page."""
    try:
        request = _check(request)
        if _is_preflight(request):
            return web.Response(status=204)
        return await _handle(request, handler)
    except ProtocolError as error:
        request.config_dict[METRICS].refused(error.code.value, "http")
        if error.code is ErrorCode.UNAUTHORIZED and wants_page(request):
            return login_page(request)
        return error_response(error)


def _check(request: web.Request) -> web.Request:
    """Return the request as it came to the outermost proxy that is trusted, if it is allowed."""
    access = request.config_dict[ACCESS]
    # First of all, and for open paths, too: a page of another site must not learn anything, and the
    # Host is compared against DNS rebinding.
    access.check_origin(request.headers.get(hdrs.ORIGIN), request.headers.get(hdrs.HOST))
    request[_ORIGIN_ALLOWED] = True
    headers = {
        name.lower(): ", ".join(request.headers.getall(name))
        for name in access.headers
        if name in request.headers
    }
    access.check_vouched(lambda name: request.headers.getall(name, []))
    arrival = access.arrival(request.remote or "", headers, is_secure=request.secure)
    request[ARRIVAL] = arrival
    if not (own_path(request) in OPEN_PATHS or _is_preflight(request)):
        _admit(request, access, arrival)
    if arrival.is_secure == request.secure:
        return request
    # For everything that looks at the scheme: policies, addresses on pages.
    return request.clone(scheme="https" if arrival.is_secure else "http")


def _admit(request: web.Request, access: Access, arrival: Arrival) -> None:
    token = bearer_token(request.headers.get(hdrs.AUTHORIZATION))
    cookie = session_of(request.headers.get(hdrs.COOKIE))
    request[WHO] = who = access.who(arrival, token, cookie)
    session = access.session(cookie) if cookie and not token else None
    if session is not None and session.ref == who.ref:
        request[SESSION] = session
    if (reason := refusal(who, _scope_of(request))) is not None:
        raise ProtocolError(ErrorCode.FORBIDDEN, reason)


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run a handler for as long as who asked may ask."""
    if WHO not in request:
        return await handler(request)
    held = request.config_dict[HELD]
    held[id(request)] = request
    try:
        return await handler(request)
    except ConnectionResetError:
        # The client hung up before the answer began; aiohttp would log it as the handler's error.
        return web.Response(status=499)
    finally:
        del held[id(request)]


def end_outdated(app: web.Application) -> None:
    """Cut the connections of those who were logged out, or whose token or role has ended.

    Feeds and live pages last for hours; a request is checked only when it comes.
    """
    access = app[ACCESS]
    for request in list(app[HELD].values()):
        session = request.get(SESSION)
        is_current = access.is_current(request[WHO])
        if session is not None:
            is_current = is_current and access.is_open(session)
        if not is_current and request.transport is not None:
            # Its handler is cancelled; there is nobody to be told more.
            request.transport.abort()


def needs(scope: Scope, handler: Handler) -> Handler:
    """Return a handler that takes a scope; one without this takes ``admin``."""

    @functools.wraps(handler)
    async def scoped(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    _SCOPES[scoped] = scope
    return scoped


_SCOPES: WeakKeyDictionary[Handler, Scope] = WeakKeyDictionary()


def _scope_of(request: web.Request) -> Scope:
    if request.match_info.http_exception is not None:
        return Scope.READ  # Nothing is there; only that is not for everybody either.
    # A route that nobody thought about is not for everybody.
    return _SCOPES.get(request.match_info.handler, Scope.ADMIN)


def _is_preflight(request: web.Request) -> bool:
    """Whether this is a CORS preflight request, to which browsers add no token."""
    return (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Add headers before an answer is sent; a signal of aiohttp's, so streams get them, too."""
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    # aiohttp's default names its version and Python's, which helps attackers only.
    response.headers[hdrs.SERVER] = "emotion-monitor"
    if SESSION in request and (again := request.config_dict[ACCESS].seen(request[SESSION])):
        set_session(request, response, again)
        # aiohttp makes headers of cookies before it calls this.
        cookie = response.cookies[SESSION_COOKIE].OutputString()
        response.headers.add(hdrs.SET_COOKIE, cookie)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or not request.get(_ORIGIN_ALLOWED, False):
        return
    # A cache must not serve one origin's answer to another (Fetch standard, CORS and caches).
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    if _is_preflight(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, PATCH, DELETE"
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
            "Authorization, Content-Type, Last-Event-ID"
        )
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"


def error_response(error: ProtocolError) -> web.Response:
    """Return an error as the JSON of the native protocol, with its HTTP status."""
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


_MAX_BODY_BYTES = 1 << 20

Readiness = Callable[[], Sequence[str]]
"""Returns the reasons why the server is not ready, empty if it is. Must not block."""


def make_app(
    *,
    access: Access,
    metrics: Metrics,
    readiness: Readiness,
    base_path: str = "",
    note: Callable[..., None] | None = None,
    connections: HttpConnections | None = None,
) -> web.Application:
    """Return an application with ``/healthz``, ``/readyz`` and ``/metrics``.

    ``base_path``: where :func:`below` will put it. ``note``: see :data:`NOTE`; None: there is no
    audit. ``connections``: of its port, see :class:`~stream_server.http.connections.BoundedSite`;
    None: they are not watched.
    """
    middlewares = [guard] if connections is None else [watch, guard]
    app = web.Application(middlewares=middlewares, client_max_size=_MAX_BODY_BYTES)
    if connections is not None:
        app[CONNECTIONS] = connections
    app[ACCESS] = access
    app[METRICS] = metrics
    app[HELD] = {}
    app[BASE_PATH] = base_path
    app[NOTE] = note or (lambda **fields: None)
    app.on_response_prepare.append(secure)

    async def healthz(_: web.Request) -> web.Response:
        """Liveness: restart the process if this does not answer."""
        return web.json_response({"alive": True})

    async def readyz(_: web.Request) -> web.Response:
        """Readiness: send streams only while this says 200."""
        reasons = list(readiness())
        return web.json_response(
            {"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200
        )

    async def show_metrics(request: web.Request) -> web.Response:
        if not request[WHO].has_all_teams:
            return error_response(
                ProtocolError(
                    ErrorCode.FORBIDDEN,
                    "got a token or person of a team, expected one of all teams: metrics are totals"
                    " over all streams",
                )
            )
        content_type = format_for(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(
            body=metrics.exposition(content_type), headers={hdrs.CONTENT_TYPE: content_type}
        )

    sso = access.single_sign_on
    if sso is None:
        login = Login(access)
    else:
        # With its cryptography, only where it is wanted.
        from stream_server.http.single_sign_on import SingleSignOn

        single = SingleSignOn(access, sso, lambda: end_outdated(app))
        single.add_to(app)
        app[SSO_LABEL] = sso.label
        login = Login(access, single.logout_address)
    app.router.add_post(LOGIN_PATH, login.log_in)
    app.router.add_post(LOGOUT_PATH, login.log_out)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", needs(Scope.READ, show_metrics))
    return app


def below(base_path: str, app: web.Application) -> web.Application:
    """Return an application that serves ``app`` below a path, and nothing elsewhere.

    ``base_path`` "": ``app``, which has all its routes, is returned itself.
    """
    if not base_path:
        return app
    # The limit of a body is the outermost application's.
    root = web.Application(client_max_size=_MAX_BODY_BYTES)

    async def enter(_: web.Request) -> web.Response:
        return web.Response(status=308, headers={hdrs.LOCATION: f"{base_path}/"})

    async def secure_elsewhere(request: web.Request, response: web.StreamResponse) -> None:
        # What ``app`` has let in gets its headers there.
        if not request.get(_ORIGIN_ALLOWED, False):
            await secure(request, response)

    root.on_response_prepare.append(secure_elsewhere)
    root.router.add_get(base_path, enter)
    root.add_subapp(base_path, app)
    return root
