"""The aiohttp application: the checks every request passes, health and metrics.

Whatever else is served (feeds, pages, interfaces) is added to the same application and is guarded
by it: ``app.router.add_get(...)``, or ``app.add_subapp(...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import hdrs, web

from stream_server.access import Access
from stream_server.http.guard import ACCESS, METRICS, guard, secure
from stream_server.http.login import LOGIN_PATH, logged_in
from stream_server.metrics import Metrics

__all__ = ["Readiness", "make_app"]

_MAX_BODY_BYTES = 1 << 20

Readiness = Callable[[], Sequence[str]]
"""Returns why the server is not ready, one sentence each; nothing when it is. Must not block."""


def make_app(*, access: Access, metrics: Metrics, readiness: Readiness) -> web.Application:
    """Return an application with ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        access: who may come in.
        metrics: what ``/metrics`` shows.
        readiness: what ``/readyz`` asks.
    """
    app = web.Application(middlewares=[guard], client_max_size=_MAX_BODY_BYTES)
    app[ACCESS] = access
    app[METRICS] = metrics
    app.on_response_prepare.append(secure)

    async def healthz(_: web.Request) -> web.Response:
        """The process is alive: what to restart it by."""
        return web.json_response({"alive": True})

    async def readyz(_: web.Request) -> web.Response:
        """The server can take streams: what to send it traffic by."""
        reasons = list(readiness())
        return web.json_response(
            {"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200
        )

    async def log_in(request: web.Request) -> web.StreamResponse:
        """Let a browser keep a token that is one."""
        form = await request.post()
        token = str(form.get("token", "")).strip()
        # As from elsewhere: on loopback any token would do.
        access.authorize(token or None, peer_is_loopback=False)
        return logged_in(request, token, str(form.get("next", "/")))

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={hdrs.CONTENT_TYPE: metrics.content_type}
        )

    app.router.add_post(LOGIN_PATH, log_in)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app
