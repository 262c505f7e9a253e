"""Routes of the JSON interface, declared once: for the router, the check of a query, and OpenAPI.

A handler stands below its route, and its docstring is what OpenAPI says of it. It gets a
:class:`Call`, whose query and body have been checked against the route, and answers or raises
:class:`ApiError`::

    ROUTES = Routes()

    @ROUTES.on("GET", "/streams", params=..., response=...)
    async def list_streams(call: Call) -> web.Response:
        '''Streams, newest first.'''
"""

from __future__ import annotations

import asyncio
import csv
import io
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import structlog
from aiohttp import hdrs, web
from multidict import MultiMapping, istr

from dashboard.api.listing import Listing
from dashboard.backend import Backend
from dashboard.config import DashboardConfig
from dashboard.errors import ApiError
from dashboard.jobs import Jobs
from dashboard.live.endpoint import LiveEndpoint
from dashboard.live.tiles import StreamItem
from dashboard.live.wall import Wall
from dashboard.report.page import LANGUAGES
from ser_engine.files.annotations import SUFFIXES
from stream_server.access.policy import Scope, Who, team_of_stream
from stream_server.at_rest import EncryptedFile, PlainFile
from stream_server.http import WHO, needs
from stream_server.http.login import note
from stream_server.store import Store, StoreError, StoreUnavailableError

PREFIX = "/api/v1"

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_MAX_BODY_BYTES = 65_536
_COPY_BYTES = 1 << 18
# Characters of a wrong value that an error repeats.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with; one of each for a server."""

    backend: Backend
    config: DashboardConfig
    wall: Wall
    listing: Listing
    jobs: Jobs
    live: LiveEndpoint

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            ApiError: this server keeps nothing.
        """
        if self.backend.store is None:
            raise ApiError("no_store", "this server keeps no results")
        return self.backend.store

    def acknowledged(self, alert_id: str) -> None:
        """Show an alert as acknowledged, on all walls."""
        self.wall.acknowledge(alert_id)
        self.backend.acknowledged(alert_id)

    def named(self, stream_id: str) -> None:
        """Have the open pages of a stream read the names of its speakers again."""
        self.live.named(stream_id)
        self.backend.named(stream_id)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, checked.

    Attributes:
        query: the value of every parameter of the route, by name.
        body: an instance of the route's ``body``; None where it takes none.
    """

    services: Services
    request: web.Request
    query: Any
    body: Any = None

    @property
    def who(self) -> Who:
        """Who asks."""
        return self.request[WHO]

    @property
    def asker(self) -> str:
        """Who asks, as it is kept with what it says: its name, or else its kind."""
        return self.who.name or self.who.kind

    async def stream(self, stream_id: str) -> StreamItem:
        """Return a stream.

        Raises:
            ApiError: it is unknown or another team's; both get the same answer.
        """
        item = await self.services.listing.one(stream_id, self.who)
        if item is None:
            raise ApiError("not_found", "stream not found")
        return item

    def team_of_new(self, asked: str) -> str:
        """Return the team of what somebody brings.

        Raises:
            ApiError: it is not one of the sender's.
        """
        try:
            return team_of_stream(self.who, (asked,))
        except ValueError as error:
            raise ApiError("forbidden", str(error)) from None

    def note(self, action: str, *, target: str = "", detail: str = "") -> None:
        """Add to the audit what is done."""
        note(self.request, self.who, action, target=target, detail=detail)

    def part(self, name: str) -> str:
        """Return a part of the path."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True)
class Param:
    """An optional parameter of a query.

    Attributes:
        kind: a ``list`` is written with commas, or by repeating the parameter.
        about: for people, in OpenAPI.
        low, high: range of a number, inclusive.
        choices: allowed values of a string or of a list's items; empty: any.
        max_length: of a string, in characters.
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
        """Convert what a query says.

        Raises:
            ApiError: it is not allowed here.
        """
        if self.kind == "list":
            words = [part.strip() for value in values for part in value.split(",")]
            return tuple(self._string(word) for word in words if word) or self.default
        if len(values) > 1:
            raise _bad(f"{self.name} is given {len(values)} times, expected once")
        text = values[0]
        if self.kind == "boolean":
            if text not in ("true", "false"):
                raise _bad(f"{self.name} is '{text[:_SHOWN]}', expected true or false")
            return text == "true"
        return self._string(text) if self.kind == "string" else self._number(text)

    def _string(self, text: str) -> str:
        if self.choices and text not in self.choices:
            allowed = ", ".join(self.choices)
            raise _bad(f"{self.name} is '{text[:_SHOWN]}', expected one of {allowed}")
        if len(text) > self.max_length:
            raise _bad(
                f"{self.name} has {len(text)} characters, expected at most {self.max_length}"
            )
        return text

    def _number(self, text: str) -> float:
        try:
            # int() of a text of thousands of digits is quadratic, and an error before Python 3.12.
            value = int(text) if self.kind == "integer" and len(text) < 20 else float(text)
        except ValueError:
            value = math.nan
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        is_whole = self.kind != "integer" or isinstance(value, int)
        # NaN fails the comparison; infinity passes it where there is no limit.
        if not (low <= value <= high and math.isfinite(value) and is_whole):
            kind = "a whole number" if self.kind == "integer" else "a number"
            raise _bad(
                f"{self.name} is '{text[:_SHOWN]}', expected {kind} from {low:g} to {high:g}"
            )
        return value

    def schema(self) -> dict[str, Any]:
        """Return the parameter as an OpenAPI parameter object."""
        item: dict[str, Any] = {"type": "string" if self.kind == "list" else self.kind}
        if self.choices:
            item["enum"] = list(self.choices)
        elif self.kind == "string":
            item["maxLength"] = self.max_length
        if self.low is not None:
            item["minimum"] = self.low
        if self.high is not None:
            item["maximum"] = self.high
        schema = {"type": "array", "items": item} if self.kind == "list" else item
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


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

# The errors of a route that cannot do without the store.
STORED = ("no_store", "store_away")

PAGE = (
    Param("limit", "integer", "how many at most", 100, 1, 1000),
    Param("offset", "integer", "how many of the newest to leave out", 0, 0, 10**9),
)


# A stream's segments and a file's are exported in the same formats.
ANNOTATION_FORMAT = Param(
    "format",
    "string",
    "textgrid: Praat; eaf: ELAN; audacity: a label track",
    "textgrid",
    choices=tuple(SUFFIXES),
)

# A stream's report and a file's are in the languages of the pages.
REPORT_LANGUAGE = Param("lang", "string", "of the report", "en", choices=LANGUAGES)


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        path: below :data:`PREFIX`, with ``{parts}``.
        summary: one sentence for people, in OpenAPI.
        body: type of the JSON that is posted; an empty body stands for its defaults.
        response: type of the JSON that is answered; None: see ``content``.
        content: media type of any other answer, "" where there is no body.
        status: of the answer if all goes well.
        errors: codes it may answer with besides ``bad_request``.
        form: JSON Schema of the multipart form it takes.
        needs: what it takes to ask; None: ``read`` for GET, ``operate`` for what changes something.
        audit: what is added to the audit once it has succeeded, with the id of the path; "": the
            handler does so itself, or it shows nothing of anybody's emotion.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    params: Sequence[Param] = ()
    body: type[msgspec.Struct] | None = None
    response: Any = None
    content: str = ""
    status: int = 200
    errors: Sequence[str] = ()
    form: dict[str, Any] | None = None
    needs: Scope | None = None
    audit: str = ""

    @property
    def scope(self) -> Scope:
        """What it takes to ask."""
        if self.needs is not None:
            return self.needs
        return Scope.READ if self.method == hdrs.METH_GET else Scope.OPERATE


class Routes(list[Route]):
    """The routes of a module, in the order in which they are tried."""

    def on(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[Param] = (),
        body: type[msgspec.Struct] | None = None,
        response: Any = None,
        content: str = "",
        status: int = 200,
        errors: Sequence[str] = (),
        form: dict[str, Any] | None = None,
        needs: Scope | None = None,
        audit: str = "",
    ) -> Callable[[H], H]:
        """Add the route of the handler below, see :class:`Route`."""

        def add(handler: H) -> H:
            summary = " ".join((handler.__doc__ or "").split())
            self.append(
                Route(
                    method,
                    path,
                    summary,
                    handler,
                    params=params,
                    body=body,
                    response=response,
                    content=content,
                    status=status,
                    errors=errors,
                    form=form,
                    needs=needs,
                    audit=audit,
                )
            )
            return handler

        return add


def add_routes(app: web.Application, routes: Sequence[Route], services: Services) -> None:
    """Serve routes; any other path or method below the prefix is answered with an error."""
    methods: dict[str, list[str]] = {}
    for route in routes:
        resource = app.router.add_resource(PREFIX + route.path)
        handle = needs(route.scope, _handle(route, services))
        resource.add_route(route.method, handle)
        methods.setdefault(route.path, []).append(route.method)
        # RFC 9110, 9.3.2: HEAD is GET without the body. A handshake has none to leave out.
        if route.method == hdrs.METH_GET and route.content != "websocket":
            resource.add_route(hdrs.METH_HEAD, handle)
    # Last: aiohttp takes the first resource that matches.
    for path, allowed in methods.items():
        app.router.add_route("*", PREFIX + path, needs(Scope.READ, _method_not_allowed(allowed)))
    app.router.add_route("*", PREFIX + "{tail:.*}", needs(Scope.READ, _not_found))


def reply(body: Any, *, status: int = 200) -> web.Response:
    """Return a body as JSON."""
    return web.Response(body=_encode(body), status=status, content_type="application/json")


def csv_rows(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as lines that end with CRLF (RFC 4180)."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def csv_file(name: str, rows: Iterable[Iterable[object]]) -> web.Response:
    """Return a table to be saved as a file."""
    return web.Response(
        text=csv_rows(rows),
        content_type="text/csv",
        charset="utf-8",
        headers={hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"'},
    )


async def send_audio(request: web.Request, path: Path, file: PlainFile) -> web.StreamResponse:
    """Send kept audio, FLAC, or the part of it that ``Range`` asks for; close its file.

    ``file`` was opened from ``path`` and decrypts what is encrypted.
    """
    headers = {hdrs.CONTENT_TYPE: "audio/flac", hdrs.CACHE_CONTROL: "private, no-cache"}
    try:
        if not isinstance(file, EncryptedFile):
            return web.FileResponse(path, headers=headers)
        return await _send_range(request, file, headers)
    finally:
        file.close()


async def _send_range(
    request: web.Request, file: EncryptedFile, headers: Mapping[istr, str]
) -> web.StreamResponse:
    """Send a file, or the part of it that ``Range`` asks for (RFC 9110, section 14)."""
    size = file.size
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError:
        start, stop = 0, size  # Not understood, so ignored.
    is_part = hdrs.RANGE in request.headers and (start, stop) != (0, size)
    if start >= size > 0:
        return web.Response(status=416, headers={hdrs.CONTENT_RANGE: f"bytes */{size}"})
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    if is_part:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{size}"
    response.content_length = stop - start
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        for at in range(start, stop, _COPY_BYTES):
            data = await asyncio.to_thread(file.pread, min(_COPY_BYTES, stop - at), at)
            await response.write(data)
        await response.write_eof()
    return response


def _handle(
    route: Route, services: Services
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            query = _read_query(request.query, route.params)
            body = await _read_body(request, route.body) if route.body is not None else None
            call = Call(services, request, query, body)
            response = await route.handler(call)
            if route.audit:
                target = next(iter(request.match_info.values()), "")
                call.note(route.audit, target=target, detail=request.query_string)
            return response
        except ApiError as error:
            return error.response()
        except StoreUnavailableError as error:
            _log.warning("api_without_store", error=str(error))
            return ApiError(
                "store_away", "the database does not answer", retry_after_s=5.0
            ).response()
        except StoreError as error:
            # The text may name tables and values: it is for the log, not for the network.
            _log.error("api_failed", error=str(error))
            return ApiError("failed", "the database reported an error").response()

    return handle


def _read_query(query: MultiMapping[str], params: Sequence[Param]) -> Mapping[str, Any]:
    known = {param.name: param for param in params}
    for name in query:
        # A misspelt filter must not return everything.
        if name not in known:
            allowed = f"some of {', '.join(known)}" if known else "none"
            raise _bad(f"unknown parameter '{name[:_SHOWN]}', expected {allowed}")
    return {
        name: param.read(values) if (values := query.getall(name, [])) else param.default
        for name, param in known.items()
    }


async def _read_body(request: web.Request, kind: type[msgspec.Struct]) -> Any:
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > _MAX_BODY_BYTES:
            raise _bad(f"the body is too long, expected at most {_MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(bytes(data) or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise _bad(f"the body does not match: {str(error)[:200]}") from None


def _method_not_allowed(
    methods: Sequence[str],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        allowed = " or ".join(methods)
        error = ApiError("method_not_allowed", f"got {request.method}, expected {allowed}")
        response = error.response()
        response.headers[hdrs.ALLOW] = ", ".join(methods)
        return response

    return refuse


async def _not_found(_: web.Request) -> web.Response:
    return ApiError("not_found", f"{PREFIX} has no such path").response()


def _bad(message: str) -> ApiError:
    return ApiError("bad_request", message)
