"""What a path of the interface is: declared once, for the router and for the OpenAPI file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import hdrs, web

from dashboard.api.params import Param, read_query
from dashboard.errors import ApiError
from stream_server.store import StoreError, StoreUnavailableError

__all__ = ["PREFIX", "Call", "Route", "add_routes", "reply"]

PREFIX = "/api/v1"

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_MAX_BODY_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose query and body have been checked.

    Attributes:
        request: as it came.
        query: the value of every parameter.
        body: what was posted; None where the route takes none.
    """

    request: web.Request
    query: Any
    body: Any = None

    def part(self, name: str) -> str:
        """Return a part of the path."""
        return self.request.match_info[name]


Answer = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        method: of HTTP.
        path: below :data:`PREFIX`, with ``{parts}``.
        summary: one sentence, for people.
        answer: handles it.
        params: of the query.
        body: what is posted, as JSON; an empty body stands for its defaults.
        response: what is answered, as JSON; None: see ``content``.
        content: type of an answer that is no JSON of ours, "" for none at all.
        status: of the answer.
        errors: codes it may be refused with, beside ``bad_request``.
        form: the fields of a multipart form it takes, as a schema.
    """

    method: str
    path: str
    summary: str
    answer: Answer
    params: Sequence[Param] = ()
    body: type[msgspec.Struct] | None = None
    response: Any = None
    content: str = ""
    status: int = 200
    errors: Sequence[str] = ()
    form: dict[str, Any] | None = None


def add_routes(app: web.Application, routes: Sequence[Route]) -> None:
    """Serve routes; what else is asked for below the prefix is answered with an error."""
    methods: dict[str, list[str]] = {}
    for route in routes:
        resource = app.router.add_resource(PREFIX + route.path)
        resource.add_route(route.method, _handler(route))
        methods.setdefault(route.path, []).append(route.method)
        if route.method == hdrs.METH_GET and "websocket" not in route.content:
            resource.add_route(hdrs.METH_HEAD, _handler(route))
    for path, known in methods.items():
        app.router.add_route("*", PREFIX + path, _refuser(known))
    app.router.add_route("*", PREFIX + "{tail:.*}", _unknown)


def reply(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a body as JSON."""
    return web.Response(
        body=_encode(body), status=status, content_type="application/json", headers=headers
    )


def _handler(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            query = read_query(request.query, route.params)
            body = await _body(request, route.body) if route.body is not None else None
            return await route.answer(Call(request, query, body))
        except ApiError as error:
            return error.response()
        except StoreUnavailableError as error:
            _log.warning("api_without_store", error=str(error))
            return ApiError(
                "store_away", "got no answer from the database, expected one", retry_after_s=5.0
            ).response()
        except StoreError as error:
            _log.error("api_failed", error=str(error))
            return ApiError("failed", "got an error of the database").response()

    return handle


def _refuser(methods: Sequence[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        expected = " or ".join(methods)
        error = ApiError("method_not_allowed", f"got {request.method}, expected {expected}")
        response = error.response()
        response.headers[hdrs.ALLOW] = ", ".join(methods)
        return response

    return refuse


async def _unknown(_: web.Request) -> web.Response:
    return ApiError("not_found", f"got a path that {PREFIX} does not have").response()


async def _body(request: web.Request, kind: type[msgspec.Struct]) -> Any:
    """Return the body of a request.

    Raises:
        ApiError: it is no such JSON.
    """
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > _MAX_BODY_BYTES:
            raise ApiError(
                "bad_request", f"got more than {_MAX_BODY_BYTES} bytes, expected a small object"
            )
    try:
        return msgspec.json.decode(bytes(data) or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        reason = str(error)[:200]
        raise ApiError("bad_request", f"got a body that is wrong: {reason}") from None
