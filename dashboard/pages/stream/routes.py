"""Streams, live and ended: lists of them, and one with its results and its audio."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import get_args

import msgspec
from aiohttp import hdrs, web

from dashboard.api.labels import (
    MAX_S,
    GivenLabels,
    Labels,
    NamedSpeaker,
    checked_name,
    checked_spans,
    labels_view,
)
from dashboard.api.routes import (
    ANNOTATION_FORMAT,
    PAGE,
    REPORT_LANGUAGE,
    STORED,
    Call,
    Param,
    Routes,
    csv_rows,
    reply,
    send_audio,
)
from dashboard.errors import ApiError
from dashboard.live.tiles import StreamItem
from dashboard.report import report_of_stream
from dashboard.report.page import report_page
from ser_engine.files.annotations import (
    SUFFIXES,
    AnnotationFormat,
    Interval,
    SpeakerNames,
    Tier,
    annotation_text,
    speaker_tier_of_events,
    tier_of_events,
)
from ser_engine.files.tables import as_cell
from stream_server.access.policy import Scope
from stream_server.store import Annotation, ResultKind, Store, StreamRecord
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import SpeakerTold
from stream_server.wire.results import Gap, Point, Result, Segment, StreamChannel
from stream_server.wire.start import check_told

_RATE_HZ = 16_000
_MOST_ALERTS = 1000
_LATEST_S = 1e11
_POINT_FIELDS = (
    *("channel", "role", "start_s", "end_s", "label", "best", "confidence", "speech_share"),
    *("provisional", "widened", "narrow_band", "model"),
)


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """Streams, newest first; ``more``: there are more beyond ``limit``."""

    streams: list[StreamItem]
    more: bool


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Results in order of ``seq``.

    Attributes:
        complete: False: there are more; ask again with ``after_seq`` set to ``next_seq``.
    """

    results: list[Result]
    complete: bool
    next_seq: int


class LeftOutSpeaker(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a speaker of a live channel is left out, as an agent is; it holds from here on."""

    speaker: str
    left_out: bool = True
    channel: int = 0


_ONE = "/streams/{stream_id}"
ROUTES = Routes()


@ROUTES.on(
    "GET",
    "/streams",
    params=(
        Param("live", "boolean", "true: live ones only; false: ended ones only"),
        *PAGE,
        Param("since", "number", "opened at or after, s since 1970, UTC", None, 0, _LATEST_S),
        Param("until", "number", "opened before, s since 1970, UTC", None, 0, _LATEST_S),
        Param("name", "string", "part of the name, upper or lower case", ""),
    ),
    response=Streams,
    errors=("store_away",),
)
async def list_streams(call: Call) -> web.Response:
    """Streams, live and ended, newest first."""
    limit = call.query["limit"]
    # One more than asked for tells whether there are more.
    items = await call.services.listing.page(**{**call.query, "limit": limit + 1}, who=call.who)
    return reply(Streams(streams=items[:limit], more=len(items) > limit))


@ROUTES.on("GET", _ONE, response=StreamItem, errors=("not_found", "store_away"), audit="stream")
async def show(call: Call) -> web.Response:
    """One stream."""
    return reply(await call.stream(call.part("stream_id")))


@ROUTES.on(
    "DELETE",
    _ONE,
    status=204,
    errors=("not_found", "stream_is_live", *STORED),
    audit="stream_deleted",
)
async def delete(call: Call) -> web.Response:
    """Delete a stream that has ended, with its results and its audio."""
    record = await _record(call)
    if record.is_live:
        raise ApiError("stream_is_live", "the stream is still live")
    await call.services.store.delete_stream(record.stream_id)
    return web.Response(status=204)


@ROUTES.on(
    "GET",
    _ONE + "/results",
    params=(
        Param("from_s", "number", "leave out what ends before, s", 0.0, 0, MAX_S),
        Param("to_s", "number", "leave out what begins after, s", None, 0, MAX_S),
        Param("types", "list", "of results; default: all", choices=get_args(ResultKind)),
        Param("after_seq", "integer", "only later results", -1, -1, 10**15),
        Param("limit", "integer", "how many at most", 10_000, 1, 50_000),
    ),
    response=Results,
    errors=("not_found", *STORED),
    audit="stream_results",
)
async def results(call: Call) -> web.Response:
    """The results of a stream, as they are stored."""
    query, record = call.query, await _record(call)
    found = await call.services.store.results(
        record.stream_id,
        from_sample=round(query["from_s"] * _RATE_HZ),
        after_seq=query["after_seq"],
        kinds=query["types"] or None,
        limit=query["limit"],
    )
    if found is None:
        raise _not_found()
    to_s = query["to_s"]
    # next_seq is that of the last result read, shown or not: else paging stops at a page that
    # to_s empties.
    return reply(
        Results(
            results=[one for one in found.results if to_s is None or _begin_s(one) <= to_s],
            complete=found.is_complete,
            next_seq=found.results[-1].seq if found.results else query["after_seq"],
        )
    )


@ROUTES.on(
    "GET",
    _ONE + "/points.csv",
    content="text/csv",
    errors=("not_found", *STORED),
    audit="stream_exported",
)
async def points_csv(call: Call) -> web.StreamResponse:
    """The points of a stream as a table, one column for each class."""
    record = await _record(call)
    called = record.speaker_names()
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: "text/csv; charset=utf-8",
            hdrs.CONTENT_DISPOSITION: f'attachment; filename="{record.stream_id}.csv"',
        }
    )
    await response.prepare(call.request)
    await response.write(csv_rows([(*_POINT_FIELDS, "speaker", *record.labels)]).encode())
    async for page in call.services.store.pages(record.stream_id, kinds=["point"]):
        rows = [
            (
                *(getattr(point, name) for name in _POINT_FIELDS),
                _called(called, point),
                *point.posteriors,
            )
            for point in page
            if isinstance(point, Point)
        ]
        await response.write(csv_rows(rows).encode())
    await response.write_eof()
    return response


def _called(names: SpeakerNames, point: Point) -> str:
    speaker = point.speaker or ""
    return str(as_cell(names.get(str(point.channel), {}).get(speaker, speaker)))


@ROUTES.on(
    "GET",
    _ONE + "/annotations",
    params=(ANNOTATION_FORMAT,),
    content="text/plain",
    errors=("not_found", *STORED),
    audit="stream_exported",
)
async def annotation(call: Call) -> web.Response:
    """The segments of a stream for Praat (TextGrid), ELAN (EAF) or Audacity.

    A tier a channel, and one of its speakers.
    """
    record = await _record(call)
    kind: AnnotationFormat = call.query["format"]
    events, end_s = await _events(call.services.store, record)
    ours, called = _our_tiers(record, events), record.speaker_names()
    speakers = [
        speaker_tier_of_events(f"{ours[index].name} speakers", each, called.get(str(index), {}))
        for index, each in events.items()
    ]
    people = await _tiers_of_people(call.services.store, record.stream_id)
    tiers = [
        *ours.values(),
        *(tier for tier in speakers if tier.intervals),
        *(replace(tier, name=f"{who} {channel}") for (who, channel), tier in people.items()),
    ]
    name = f'attachment; filename="{record.stream_id}{SUFFIXES[kind]}"'
    text = annotation_text(kind, tiers, end_s)
    return web.Response(text=text, headers={hdrs.CONTENT_DISPOSITION: name})


@ROUTES.on(
    "POST",
    _ONE + "/speakers",
    body=LeftOutSpeaker,
    status=204,
    errors=("not_found", "stream_has_ended", "store_away"),
    needs=Scope.OPERATE,
    audit="speaker_named",
)
async def leave_speaker_out(call: Call) -> web.Response:
    """Say that a speaker of a live channel is an agent, who is left out, or is none."""
    stream_id, rights = call.part("stream_id"), call.services.backend.rights
    await call.stream(stream_id)
    if rights is None:
        raise _not_found()
    try:
        check_told(told := SpeakerTold(**msgspec.structs.asdict(call.body)))
    except ProtocolError as error:
        raise ApiError("bad_request", str(error)) from None
    if not rights.tell(stream_id, told):
        raise ApiError("stream_has_ended", "the stream has ended")
    return web.Response(status=204)


@ROUTES.on(
    "PUT",
    _ONE + "/speakers/{channel}",
    body=NamedSpeaker,
    status=204,
    errors=("not_found", *STORED),
    needs=Scope.OPERATE,
    audit="speaker_called",
)
async def name_speaker(call: Call) -> web.Response:
    """Say what a speaker of a channel is called, on pages and in exports."""
    record, named = await _record(call), checked_name(call.body)
    index = _channel(record, call).index
    await call.services.store.name_speaker(record.stream_id, index, named.speaker, named.name)
    call.services.named(record.stream_id)
    return web.Response(status=204)


def _channel(record: StreamRecord, call: Call) -> StreamChannel:
    for channel in record.channels:
        if str(channel.index) == call.part("channel"):
            return channel
    raise ApiError("not_found", "the stream has no such channel")


@ROUTES.on(
    "GET",
    _ONE + "/labels",
    response=Labels,
    errors=("not_found", *STORED),
    audit="stream_results",
)
async def labels(call: Call) -> web.Response:
    """What people hear in a stream, and how far they agree with the model."""
    record = await _record(call)
    people = await _tiers_of_people(call.services.store, record.stream_id)
    events, _ = await _events(call.services.store, record)
    return reply(labels_view(people, _our_tiers(record, events)))


@ROUTES.on(
    "PUT",
    _ONE + "/labels/{channel}",
    body=GivenLabels,
    status=204,
    errors=("not_found", *STORED),
    needs=Scope.OPERATE,
    audit="stream_labelled",
)
async def put_labels(call: Call) -> web.Response:
    """Say what one hears in a channel; replaces what the same person said before."""
    record = await _record(call)
    channel = _channel(record, call)
    spans = checked_spans(call.body.labels, record.labels)
    who, now = call.asker, time.time()
    await call.services.store.annotate(
        record.stream_id,
        who,
        channel.index,
        [
            Annotation(
                who=who,
                channel=channel.index,
                start_sample=round(span.start_s * _RATE_HZ),
                end_sample=round(span.end_s * _RATE_HZ),
                label=span.label,
                at=now,
            )
            for span in spans
        ],
    )
    return web.Response(status=204)


async def _tiers_of_people(store: Store, stream_id: str) -> dict[tuple[str, int], Tier]:
    """Return the tier of each person and channel."""
    intervals: dict[tuple[str, int], list[Interval]] = {}
    for one in await store.annotations(stream_id):
        span = Interval(one.start_sample / _RATE_HZ, one.end_sample / _RATE_HZ, one.label)
        intervals.setdefault((one.who, one.channel), []).append(span)
    return {key: Tier(key[0], tuple(found)) for key, found in intervals.items()}


Events = dict[int, list[Segment | Gap]]


async def _events(store: Store, record: StreamRecord) -> tuple[Events, float]:
    """Return segments and gaps of each analysed channel, and where the last one ends, s."""
    events: Events = {channel.index: [] for channel in record.channels if channel.analysed}
    end_s = 0.0
    async for page in store.pages(record.stream_id, kinds=["segment", "gap"]):
        for one in page:
            if isinstance(one, Segment | Gap) and one.channel in events:
                events[one.channel].append(one)
                end_s = max(end_s, one.end_s)
    return events, end_s


def _our_tiers(record: StreamRecord, events: Events) -> dict[int, Tier]:
    """Return the model's tier of each analysed channel."""
    roles = {channel.index: channel.role for channel in record.channels}
    return {
        index: tier_of_events(f"{roles[index]} {index}", each) for index, each in events.items()
    }


@ROUTES.on(
    "GET",
    _ONE + "/report.html",
    params=(REPORT_LANGUAGE,),
    content="text/html",
    errors=("not_found", *STORED),
    audit="stream_exported",
)
async def report(call: Call) -> web.Response:
    """A stream on one page, self-contained: timeline, wholes, measures, alerts, limits."""
    record, store = await _record(call), call.services.store
    pages = store.pages(record.stream_id, kinds=["segment", "gap", "marked", "warning"])
    results = [one async for page in pages for one in page]
    alerts = await store.alerts(stream_id=record.stream_id, limit=_MOST_ALERTS)
    made = report_of_stream(record, results, alerts)
    text = await asyncio.to_thread(report_page, made, call.query["lang"])
    name = f'attachment; filename="{record.stream_id}.html"'
    headers = {hdrs.CONTENT_DISPOSITION: name}
    return web.Response(text=text, content_type="text/html", headers=headers)


@ROUTES.on(
    "GET",
    _ONE + "/recording/{channel}",
    content="audio/flac",
    errors=("not_found",),
    audit="recording_heard",
)
async def recording(call: Call) -> web.StreamResponse:
    """The audio of a channel, if it is kept; takes Range."""
    recordings, suffix = call.services.backend.recordings, f".{call.part('channel')}"
    await _check_seen(call)
    paths = (
        []
        if recordings is None
        else await asyncio.to_thread(recordings.files, call.part("stream_id"))
    )
    # Looked up among the files there are: no part of the request becomes a path.
    path = next((path for path in paths if path.suffixes[-2] == suffix), None)
    if path is None or recordings is None:
        raise ApiError("not_found", "this channel has no recording")
    try:
        file = await asyncio.to_thread(recordings.open, path)
    except OSError as error:
        raise ApiError("not_found", f"the recording cannot be read: {error}") from None
    return await send_audio(call.request, path, file)


async def _record(call: Call) -> StreamRecord:
    stream_id = call.part("stream_id")
    store = call.services.store
    await call.services.listing.settle(stream_id)
    record = await store.stream(stream_id)
    if record is None or not call.who.sees(record.team):
        raise _not_found()
    return record


async def _check_seen(call: Call) -> None:
    """Refuse a stream of another team, as one that is not known."""
    # A recording may outlive its row, or there is no store: then only who sees everything hears it.
    if call.who.has_all_teams:
        return
    await call.stream(call.part("stream_id"))


def _begin_s(result: Result) -> float:
    begin: float = getattr(result, "start_s", getattr(result, "at_s", 0.0))
    return begin


def _not_found() -> ApiError:
    return ApiError("not_found", "stream not found")
