"""The OpenAPI file, made from the routes and from the types they answer with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from dashboard.api.routes import PREFIX, Route
from dashboard.errors import API_ERRORS
from dashboard.live.tiles import LiveResults, LiveSnapshot, WallChanges, WallSnapshot
from stream_server.wire.messages import Error

# What is sent over ``/live``; OpenAPI 3.1 cannot describe WebSockets.
LIVE_MESSAGES = (WallSnapshot, WallChanges, LiveSnapshot, LiveResults)

_PART = re.compile(r"\{(\w+)\}")
_NOT_WORD = re.compile(r"\W+")
_REF = "#/components/schemas/{name}"


def openapi(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the interface as an OpenAPI 3.1 document; ``version`` is the project's."""
    types = [route.response for route in routes if route.response is not None]
    types += [route.body for route in routes if route.body is not None]
    schemas, components = msgspec.json.schema_components(
        [*types, Error, *LIVE_MESSAGES], ref_template=_REF
    )
    schema_of = dict(zip(map(id, [*types, Error, *LIVE_MESSAGES]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, schema_of)
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Emotion Monitor",
            "version": version,
            "description": "Streams, results, alerts, and analysis: docs/reference/api.md.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # Either none or a token: on loopback no token is needed.
        "security": [{}, {"token": []}],
    }


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    parts = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PART.findall(route.path)
    ]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.method.lower() + _NOT_WORD.sub("_", route.path).rstrip("_"),
        "parameters": [*parts, *(param.schema() for param in route.params)],
        "responses": {str(route.status): _answer(route, schema_of)} | _refusals(route, schema_of),
    }
    if route.body is not None:
        content = {"application/json": {"schema": schema_of[id(route.body)]}}
        # An empty body stands for the defaults.
        operation["requestBody"] = {"required": False, "content": content}
    if route.form is not None:
        content = {"multipart/form-data": {"schema": route.form}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    if route.response is not None:
        content = {"application/json": {"schema": schema_of[id(route.response)]}}
        return {"description": route.summary, "content": content}
    if route.content == "websocket":
        messages = [schema_of[id(message)] for message in LIVE_MESSAGES]
        return {"description": "WebSocket", "x-messages": messages}
    if not route.content:
        return {"description": "Done."}
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": route.summary, "content": {route.content: binary}}


def _refusals(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for code in ("bad_request", *route.errors):
        codes.setdefault(API_ERRORS[code][0], []).append(code)
    content = {"application/json": {"schema": schema_of[id(Error)]}}
    return {
        str(status): {"description": ", ".join(named), "content": content}
        for status, named in sorted(codes.items())
    }
