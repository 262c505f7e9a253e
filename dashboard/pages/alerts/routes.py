"""Alerts: listed, explained, acknowledged by somebody who has dealt with them, and judged."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import structs

from dashboard.api.routes import PAGE, STORED, Call, Param, Routes, reply
from dashboard.errors import ApiError
from ser_engine.schema import Shares
from ser_engine.timeline.course import whole_of
from stream_server.alerts.judgement import Outcome, Precision, outcome, precision_by_week
from stream_server.store import AlertRecord, Verdict
from stream_server.wire.results import Gap, Point, Segment

_RATE_HZ = 16_000
_MINUTE_SAMPLES = 60 * _RATE_HZ
_WEEK_S = 7 * 86_400.0
_MOST_OF_A_STREAM, _MOST_COUNTED, _MOST_RESULTS = 10_000, 100_000, 50_000

_STATES = ("unacknowledged", "acknowledged", "raised", "cleared", "all")


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, newest first; ``more``: there are more beyond ``limit``."""

    alerts: list[AlertRecord]
    more: bool


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about an alert, for those who look back."""

    note: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that somebody has dealt with; ``acknowledged_at`` in seconds since 1970."""

    alert_id: str
    acknowledged_at: float
    acknowledged_note: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to deal with an alert; "": nobody in particular."""

    to: Annotated[str, msgspec.Meta(max_length=80)]


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """An alert and who is to deal with it; null: nobody in particular."""

    alert_id: str
    assigned_to: str | None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an alert was right; null takes a verdict back."""

    verdict: Verdict | None


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An alert and its verdict."""

    alert_id: str
    verdict: Verdict | None


class AlertDetail(msgspec.Struct, frozen=True, kw_only=True):
    """An alert, why it came, and what became of it.

    Attributes:
        held_s: time from where the condition began to hold to where the alert was raised.
        minute: how the channel spent the minute before the alert was raised; null: not stored.
        outcome: of the emotion after somebody acknowledged it; null: nobody has, or there was too
            little speech to say.
    """

    alert: AlertRecord
    held_s: float
    minute: Shares | None
    outcome: Outcome | None


class Precisions(msgspec.Struct, frozen=True, kw_only=True):
    """How often rules were right, by rule, the newest week first."""

    weeks: list[Precision]


ROUTES = Routes()


@ROUTES.on(
    "GET",
    "/alerts",
    params=(
        Param("state", "string", "which ones", "all", choices=_STATES),
        Param("stream", "string", "only those of this stream"),
        Param("since", "number", "raised at or after, s since 1970", None, 0, 1e11),
        *PAGE,
    ),
    response=Alerts,
    errors=STORED,
)
async def list_alerts(call: Call) -> web.Response:
    """Alerts, newest first."""
    query = call.query
    limit = query["limit"]
    # One more than asked for tells whether there are more.
    alerts = await call.services.store.alerts(
        state=None if query["state"] == "all" else query["state"],
        stream_id=query["stream"],
        since=query["since"],
        limit=limit + 1,
        offset=query["offset"],
        teams=call.who.visible_teams,
    )
    return reply(Alerts(alerts=alerts[:limit], more=len(alerts) > limit))


@ROUTES.on(
    "POST",
    "/alerts/{alert_id}/acknowledge",
    body=Acknowledgement,
    response=Acknowledged,
    errors=("not_found", *STORED),
    audit="alert_acknowledged",
)
async def acknowledge(call: Call) -> web.Response:
    """Acknowledge an alert; a second time replaces the note."""
    await _stream_of(call)
    alert_id, note = call.part("alert_id"), call.body.note
    await call.services.store.acknowledge(alert_id, note, who=call.asker)
    call.services.acknowledged(alert_id)
    return reply(
        Acknowledged(alert_id=alert_id, acknowledged_at=time.time(), acknowledged_note=note)
    )


# Before the next one, whose path takes this one for an id.
@ROUTES.on(
    "GET",
    "/alerts/precision",
    params=(Param("weeks", "integer", "how many back", 8, 1, 104),),
    response=Precisions,
    errors=STORED,
)
async def precision(call: Call) -> web.Response:
    """How often each rule was right, a week, of what was judged."""
    since = time.time() - call.query["weeks"] * _WEEK_S
    alerts = await call.services.store.alerts(
        since=since, limit=_MOST_COUNTED, teams=call.who.visible_teams
    )
    counted = precision_by_week((each.rule, each.raised_at, each.verdict) for each in alerts)
    return reply(Precisions(weeks=counted))


@ROUTES.on(
    "GET",
    "/alerts/{alert_id}",
    response=AlertDetail,
    errors=("not_found", *STORED),
    audit="alert",
)
async def show(call: Call) -> web.Response:
    """An alert, what led to it, and what became of it."""
    stream_id = await _stream_of(call)
    store = call.services.store
    alerts = await store.alerts(stream_id=stream_id, limit=_MOST_OF_A_STREAM)
    alert = next((each for each in alerts if each.alert_id == call.part("alert_id")), None)
    record = await store.stream(stream_id)
    if alert is None or record is None:
        raise _not_found()
    raised_s = alert.raised_sample / _RATE_HZ
    begin = max(0, alert.raised_sample - _MINUTE_SAMPLES)
    found = await store.results(
        stream_id,
        from_sample=begin,
        kinds=("point", "segment", "gap"),
        limit=_MOST_RESULTS,
    )
    results = found.results if found is not None else ()
    spans = [
        clipped
        for each in results
        if isinstance(each, Segment | Gap) and each.channel == alert.channel
        if (clipped := _within(each, begin, alert.raised_sample))
    ]
    whole = whole_of(spans)
    became = None
    if alert.acknowledged_at is not None:
        labels = [record.labels.index(name) for name in alert.labels if name in record.labels]
        points = (
            each for each in results if isinstance(each, Point) and each.channel == alert.channel
        )
        became = outcome(points, labels, raised_s + alert.acknowledged_at - alert.raised_at)
    return reply(
        AlertDetail(
            alert=alert,
            held_s=(alert.raised_sample - alert.since_sample) / _RATE_HZ,
            minute=None if whole is None else whole.shares,
            outcome=became,
        )
    )


@ROUTES.on(
    "POST",
    "/alerts/{alert_id}/assign",
    body=Assignment,
    response=Assigned,
    errors=("not_found", *STORED),
    audit="alert_assigned",
)
async def assign(call: Call) -> web.Response:
    """Say who is to deal with an alert."""
    await _stream_of(call)
    alert_id, to = call.part("alert_id"), call.body.to.strip()
    await call.services.store.assign(alert_id, to)
    return reply(Assigned(alert_id=alert_id, assigned_to=to or None))


@ROUTES.on(
    "POST",
    "/alerts/{alert_id}/judge",
    body=Judgement,
    response=Judged,
    errors=("not_found", *STORED),
    audit="alert_judged",
)
async def judge(call: Call) -> web.Response:
    """Say whether an alert was right."""
    await _stream_of(call)
    alert_id, verdict = call.part("alert_id"), call.body.verdict
    await call.services.store.judge(alert_id, verdict)
    return reply(Judged(alert_id=alert_id, verdict=verdict))


async def _stream_of(call: Call) -> str:
    """Return the stream of the alert that the path names.

    Raises:
        ApiError: it is unknown or another team's; both get the same answer.
    """
    alert_id, store = call.part("alert_id"), call.services.store
    place = await store.alert_place(alert_id)
    if place is None:
        # The store writes in batches: an alert raised a moment ago may not have its row yet.
        await store.flush()
        place = await store.alert_place(alert_id)
    if place is None or not call.who.sees(place[1]):
        raise _not_found()
    return place[0]


def _within(span: Segment | Gap, begin: int, end: int) -> Segment | Gap | None:
    """Return the part of a span between two positions, relative to the first; None: no overlap.

    A whole counts from the beginning of its clock on, which is that of the minute here.
    """
    start, end = max(span.start_sample, begin) - begin, min(span.end_sample, end) - begin
    return structs.replace(span, start_sample=start, end_sample=end) if start < end else None


def _not_found() -> ApiError:
    return ApiError("not_found", "alert not found")
