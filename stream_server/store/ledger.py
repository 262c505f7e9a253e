"""What must be shown later of how people were treated: notices, decisions, halts.

They are kept apart from timelines, for ``rights.decision_retention_days``, and hold neither names
nor metadata. When a stream is erased, its decisions lose their scores and the id of the stream.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from stream_server.rights import Halt
from stream_server.store.rows import clean
from stream_server.store.schema import alerts, decisions, halts, ledger, streams

DecisionKind = Literal["raised", "cleared", "acknowledged", "overridden"]


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of consent and notice in a stream, and what became of it.

    Attributes:
        at: seconds since 1970, UTC.
        withheld: why nothing was analysed from then on; None: it was.
    """

    at: float
    stream_id: str
    team: str
    consent: str
    source: str
    notice_version: str
    notice_language: str
    notice_how: str
    withheld: str | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An alert, and what people did about it.

    Attributes:
        at: seconds since 1970, UTC.
        stream_id: "": the stream was erased.
        model, model_sha256: what scored it.
        labels: the labels that the rule watches.
        posterior: the sum of their posteriors then; None: erased, or a person's decision.
        who: who acknowledged or overrode it; "": the rule decided.
        note: in their words.
    """

    at: float
    kind: DecisionKind
    stream_id: str
    alert_id: str
    team: str
    model: str
    model_sha256: str
    rule: str
    severity: str
    role: str
    labels: tuple[str, ...]
    posterior: float | None
    who: str
    note: str


def list_ledger(
    connection: Connection,
    *,
    stream_id: str = "",
    since: float | None = None,
    teams: Collection[str] | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[LedgerEntry]:
    """Return entries, the newest first; of one stream, if it is named, and of teams."""
    query = select(*(ledger.c[name] for name in LedgerEntry.__struct_fields__))
    if stream_id:
        query = query.where(ledger.c.stream_id == stream_id)
    if since is not None:
        query = query.where(ledger.c.at >= since)
    if teams is not None:
        query = query.where(ledger.c.team.in_(teams))
    query = query.order_by(ledger.c.key.desc()).limit(limit).offset(offset)
    return [LedgerEntry(**row) for row in connection.execute(query).mappings()]


def list_decisions(
    connection: Connection,
    *,
    since: float | None = None,
    until: float | None = None,
    teams: Collection[str] | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[Decision]:
    """Return decisions, the newest first."""
    query = select(*(decisions.c[name] for name in Decision.__struct_fields__))
    if since is not None:
        query = query.where(decisions.c.at >= since)
    if until is not None:
        query = query.where(decisions.c.at < until)
    if teams is not None:
        query = query.where(decisions.c.team.in_(teams))
    query = query.order_by(decisions.c.key.desc()).limit(limit).offset(offset)
    return [
        Decision(**{**row, "labels": tuple(row["labels"])})
        for row in connection.execute(query).mappings()
    ]


def add_decision(
    connection: Connection, alert_id: str, kind: DecisionKind, who: str, note: str, at: float
) -> None:
    """Note what a person decided about an alert; nothing if there is no such alert."""
    columns: tuple[Any, ...] = (
        streams.c.id.label("stream_id"),
        *(streams.c[name] for name in ("team", "model", "model_sha256")),
        *(alerts.c[name] for name in ("rule", "severity", "role", "labels")),
    )
    query = (
        select(*columns)
        .join(alerts, alerts.c.stream_key == streams.c.key)
        .where(alerts.c.id == alert_id)
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is not None:
        # Without a number: numbers are those of results, and a person may decide again and again.
        told = {"who": clean(who), "note": clean(note), "posterior": None, "seq": None}
        values = {**row, "at": at, "kind": kind, "alert_id": alert_id, **told}
        connection.execute(insert(decisions).values(values))


def forget_stream(connection: Connection, stream_id: str) -> None:
    """Take out of the decisions about a stream what says anything of a person."""
    blank = {"stream_id": "", "posterior": None, "note": ""}
    connection.execute(update(decisions).where(decisions.c.stream_id == stream_id).values(blank))


def latest_halt(connection: Connection) -> Halt:
    """Return the last word of an overseer."""
    query = select(halts).order_by(halts.c.key.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is None:
        return Halt()
    return Halt(halted=row.halted, at=row.at, by=row.who, reason=row.reason)


def add_halt(connection: Connection, halt: Halt) -> None:
    """Note that an overseer halted all analysis, or let it go on."""
    values = {"at": halt.at, "halted": halt.halted}
    connection.execute(
        insert(halts).values(**values, who=clean(halt.by), reason=clean(halt.reason))
    )


def expire(connection: Connection, before: float) -> None:
    """Delete what was noted before a time; the last halt stays, as it holds."""
    for table in (decisions, ledger):
        connection.execute(delete(table).where(table.c.at < before))
    last = select(halts.c.key).order_by(halts.c.key.desc()).limit(1).scalar_subquery()
    connection.execute(delete(halts).where(halts.c.at < before, halts.c.key < last))


def objected(connection: Connection) -> Sequence[str]:
    """Return the streams that ended by an objection and are still there."""
    query = select(streams.c.id).where(
        streams.c.reason == "objected", streams.c.closed_at.is_not(None)
    )
    return connection.execute(query).scalars().all()
