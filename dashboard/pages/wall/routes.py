"""What the wall is fed from: live data over WebSocket, and the sample call that fills it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from dashboard.api.routes import Call, Param, Routes, reply
from dashboard.backend import BusyError
from dashboard.errors import ApiError
from stream_server.access.policy import Scope


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that has begun."""

    stream_id: str


class Nothing(msgspec.Struct, frozen=True):
    """An empty object."""


ROUTES = Routes()


@ROUTES.on(
    "GET",
    "/live",
    params=(
        Param("stream", "string", "show this stream; default: the wall"),
        Param("after_seq", "integer", "with stream: the last seq received", None, -1, 10**15),
    ),
    content="websocket",
    status=101,
    errors=("not_found", "too_many_viewers", "store_away"),
)
async def live(call: Call) -> web.StreamResponse:
    """Live data for a page, over WebSocket: the wall, or one stream."""
    query = call.query
    stream_id = query["stream"]
    if stream_id is not None:
        await call.stream(stream_id)
    call.note("wall" if stream_id is None else "stream_watched", target=stream_id or "")
    return await call.services.live.handle(
        call.request, call.who, query["stream"], query["after_seq"]
    )


@ROUTES.on(
    "POST",
    "/sample-call",
    body=Nothing,
    response=Started,
    status=201,
    errors=("not_ready", "too_many_sample_calls"),
    needs=Scope.INGEST,
    audit="sample_call",
)
async def play_sample_call(call: Call) -> web.Response:
    """Play the sample call, 42 s with an agent and a customer, as a live stream."""
    backend = call.services.backend
    if not backend.models().is_ready:
        raise ApiError("not_ready", "the model is still being loaded")
    try:
        stream_id = await backend.play_sample_call(call.team_of_new(""))
        return reply(Started(stream_id=stream_id), status=201)
    except BusyError as error:
        raise ApiError("too_many_sample_calls", str(error), retry_after_s=10.0) from None
