"""What a path of the interface is: declared once, for the router and for the OpenAPI file.

Parameters of a query: declared once, for the check of requests and for the OpenAPI file.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import structlog
from aiohttp import hdrs, web
from multidict import MultiMapping

from dashboard.errors import ApiError
from stream_server.store import StoreError, StoreUnavailableError

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter that may be left out.

    Attributes:
        name: as it is written.
        kind: ``list``: words with commas between them, or the parameter several times.
        about: what it is for, for people.
        default: where it is left out.
        low, high: range of a number.
        choices: the words there are.
        max_length: of a text.
    """

    name: str
    kind: Literal["integer", "number", "boolean", "string", "list"]
    about: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    max_length: int = 200

    def read(self, values: Sequence[str]) -> Any:
        """Return the value that a query spells.

        Raises:
            ApiError: it is none.
        """
        if self.kind == "list":
            words = [part.strip() for value in values for part in value.split(",")]
            return tuple(self._word(word) for word in words if word) or self.default
        if len(values) > 1:
            raise _bad(f"'{self.name}' {len(values)} times", "it once")
        text = values[0]
        match self.kind:
            case "boolean":
                if text not in ("true", "false"):
                    raise _bad(f"{self.name} '{text[:_SHOWN]}'", "true or false")
                return text == "true"
            case "string":
                return self._word(text)
            case _:
                return self._number(text)

    def _word(self, text: str) -> str:
        if self.choices and text not in self.choices:
            raise _bad(f"{self.name} '{text[:_SHOWN]}'", f"some of {', '.join(self.choices)}")
        if len(text) > self.max_length:
            raise _bad(f"{self.name} of {len(text)} characters", f"{self.max_length} or fewer")
        return text

    def _number(self, text: str) -> float:
        try:
            value = int(text) if self.kind == "integer" and len(text) < 20 else float(text)
        except ValueError:
            value = math.nan
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= value <= high or not math.isfinite(value) or self._is_broken(value):
            kind = "a whole number" if self.kind == "integer" else "a number"
            raise _bad(f"{self.name} '{text[:_SHOWN]}'", f"{kind} from {low:g} to {high:g}")
        return value

    def _is_broken(self, value: float) -> bool:
        return self.kind == "integer" and not isinstance(value, int)

    def schema(self) -> dict[str, Any]:
        """Return the parameter as OpenAPI has it."""
        schema: dict[str, Any] = {"type": self.kind}
        if self.kind == "list":
            items: dict[str, Any] = {"type": "string"}
            schema = {"type": "array", "items": items}
        else:
            items = schema
        if self.choices:
            items["enum"] = list(self.choices)
        elif self.kind == "string":
            schema["maxLength"] = self.max_length
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        if self.default is not None:
            schema["default"] = self.default
        entry = {
            "name": self.name,
            "in": "query",
            "required": False,
            "description": self.about,
            "schema": schema,
        }
        return entry | ({"style": "form", "explode": False} if self.kind == "list" else {})


def read_query(query: MultiMapping[str], params: Sequence[Param]) -> Mapping[str, Any]:
    """Return the value of every parameter.

    Raises:
        ApiError: one is unknown or wrong.
    """
    known = {param.name: param for param in params}
    for name in query:
        if name not in known:
            expected = f"some of {', '.join(known)}" if known else "none"
            raise _bad(f"the parameter '{name[:_SHOWN]}'", expected)
    return {
        name: param.read(values) if (values := query.getall(name, [])) else param.default
        for name, param in known.items()
    }


def _bad(got: str, expected: str) -> ApiError:
    return ApiError("bad_request", f"got {got}, expected {expected}")


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
