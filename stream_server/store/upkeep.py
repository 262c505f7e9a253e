"""Changes to what is stored, besides writing results. Each function is one short transaction."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from msgspec import structs
from sqlalchemy import delete, func, insert, null, select, update
from sqlalchemy.engine import Connection

from ser_engine.frames import samples_to_s
from stream_server.store.records import Annotation, with_name
from stream_server.store.schema import (
    alerts,
    annotated,
    consents,
    gaps,
    marks,
    measured,
    points,
    segments,
    server_keys,
    streams,
    warnings,
)

_POINTS_AT_A_TIME = 5000
_PAGES_AT_A_TIME = 1000
_KEY_BYTES = 32


def key_of(connection: Connection, name: str) -> bytes:
    """Return a secret of this database's servers; made when it is first asked for.

    Called with the lock held under which the tables are made: two servers that open a database at
    once must not make two.
    """
    found = select(server_keys.c.value).where(server_keys.c.name == name)
    key: bytes | None = connection.execute(found).scalar_one_or_none()
    if key is None:
        key = secrets.token_bytes(_KEY_BYTES)
        connection.execute(insert(server_keys).values(name=name, value=key))
    return key


def touch(connection: Connection) -> None:
    """Write without changing anything, to see whether that is possible."""
    value = server_keys.c.value
    connection.execute(update(server_keys).values(value=value))


def close_abandoned(connection: Connection, owner: str) -> int:
    """Close the streams that this server left open when it died; return how many.

    They end where their last result does, with the reason ``server_stopped``. What is added takes
    the numbers (``seq``) after the last one stored.
    """
    left = select(streams.c.key, streams.c.opened_at).where(
        streams.c.closed_at.is_(None), streams.c.owner == owner
    )
    abandoned = connection.execute(left).all()
    for key, opened_at in abandoned:
        seq = last_seq(connection, key)
        end_sample = _last_sample(connection, key)
        closed_at = opened_at + samples_to_s(end_sample)
        still_raised = (
            select(alerts.c.id)
            .where(alerts.c.stream_key == key, alerts.c.cleared_at.is_(None))
            .order_by(alerts.c.raised_at)
        )
        for alert_id in connection.execute(still_raised).scalars().all():
            seq += 1
            connection.execute(
                update(alerts)
                .where(alerts.c.id == alert_id)
                .values(cleared_seq=seq, cleared_at=closed_at, cleared_sample=end_sample)
            )
        for table in (segments, gaps):
            connection.execute(
                update(table)
                .where(table.c.stream_key == key, table.c.final.is_(False))
                .values(final=True)
            )
        values = {
            "closed_seq": seq + 1,
            "closed_at": closed_at,
            "reason": "server_stopped",
            "duration_s": samples_to_s(end_sample),
        }
        connection.execute(update(streams).where(streams.c.key == key).values(values))
    return len(abandoned)


def last_seq(connection: Connection, key: int) -> int:
    """Return the largest number of a stream's stored results."""
    own = select(
        streams.c.opened_seq,
        func.coalesce(streams.c.summary_seq, -1),
        func.coalesce(streams.c.closed_seq, -1),
    ).where(streams.c.key == key)
    of_alerts = select(
        func.coalesce(func.max(alerts.c.raised_seq), -1),
        func.coalesce(func.max(alerts.c.cleared_seq), -1),
    ).where(alerts.c.stream_key == key)
    found: list[int] = [-1, *connection.execute(own).one(), *connection.execute(of_alerts).one()]
    for table in (points, segments, gaps, marks, warnings, measured, consents):
        largest = func.coalesce(func.max(table.c.seq), -1)
        query = select(largest).where(table.c.stream_key == key)
        found.append(connection.execute(query).scalar_one())
    return max(found)


def _last_sample(connection: Connection, key: int) -> int:
    found: list[int] = [0]
    for table in (segments, gaps):
        end = select(func.max(table.c.end_sample)).where(table.c.stream_key == key)
        found.append(connection.execute(end).scalar_one() or 0)
    # Each channel's points come in order of time, and a stream has at most eight channels: the
    # largest end is among the last points. There is no index on end_sample.
    last = (
        select(points.c.end_sample)
        .where(points.c.stream_key == key)
        .order_by(points.c.seq.desc())
        .limit(16)
    )
    found += connection.execute(last).scalars()
    return max(found)


def acknowledge(connection: Connection, alert_id: str, note: str, at: float, who: str) -> bool:
    """Note that somebody has dealt with an alert; return False if there is none with that id."""
    changed = connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id)
        .values(acknowledged_at=at, acknowledged_note=note, acknowledged_by=who or None)
    )
    return bool(changed.rowcount)


def assign(connection: Connection, alert_id: str, to: str) -> bool:
    """Assign an alert to a person; return False if no alert has this id."""
    changed = connection.execute(
        update(alerts).where(alerts.c.id == alert_id).values(assigned_to=to or None)
    )
    return bool(changed.rowcount)


def judge(connection: Connection, alert_id: str, verdict: str | None) -> bool:
    """Note whether an alert was right; return False if there is none with that id."""
    changed = connection.execute(
        update(alerts).where(alerts.c.id == alert_id).values(verdict=verdict)
    )
    return bool(changed.rowcount)


def annotate(
    connection: Connection, stream_id: str, who: str, channel: int, tier: Sequence[Annotation]
) -> bool:
    """Replace a person's tier of a channel; return False if there is no such stream."""
    key = connection.execute(select(streams.c.key).where(streams.c.id == stream_id)).scalar()
    if key is None:
        return False
    table = annotated
    connection.execute(
        delete(table).where(
            table.c.stream_key == key, table.c.who == who, table.c.channel == channel
        )
    )
    if tier:
        rows = [{**structs.asdict(one), "stream_key": key} for one in tier]
        connection.execute(insert(table), rows)
    return True


def name_speaker(
    connection: Connection, stream_id: str, channel: int, speaker: str, name: str
) -> bool:
    """Call a speaker of a stream by a name; return False if there is no such stream."""
    # Locked: names that two servers are told at once are both kept. SQLite has one writer anyway.
    query = select(streams.c.key, streams.c.speakers).where(streams.c.id == stream_id)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None:
        return False
    named = with_name(row.speakers, channel, speaker, name)
    statement = update(streams).where(streams.c.key == row.key)
    connection.execute(statement.values(speakers=null() if named is None else named))
    return True


def ended_before(
    connection: Connection,
    at: float,
    limit: int,
    *,
    team: str | None = None,
    but: Collection[str] = (),
) -> Sequence[tuple[int, str]]:
    """Return key and id of the ``limit`` streams that ended first, before ``at`` (s since 1970).

    Streams of one team, None: of all, but not those of the teams ``but``.
    """
    query = select(streams.c.key, streams.c.id).where(streams.c.closed_at < at)
    if team is not None:
        query = query.where(streams.c.team == team)
    if but:
        query = query.where(streams.c.team.not_in(but))
    query = query.order_by(streams.c.closed_at).limit(limit)
    return [(key, stream_id) for key, stream_id in connection.execute(query)]


def key_of_ended(connection: Connection, stream_id: str) -> tuple[int, bool] | None:
    """Return the key of a stream and whether it has ended; None: there is no such stream."""
    query = select(streams.c.key, streams.c.closed_at).where(streams.c.id == stream_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.key, row.closed_at is not None)


def delete_points(connection: Connection, key: int) -> int:
    """Delete some points of a stream; return how many, 0: none is left."""
    first = (
        select(points.c.seq)
        .where(points.c.stream_key == key)
        .order_by(points.c.seq)
        .limit(_POINTS_AT_A_TIME)
    )
    deleted = connection.execute(
        delete(points).where(points.c.stream_key == key, points.c.seq.in_(first))
    )
    return int(deleted.rowcount)


def delete_stream(connection: Connection, key: int) -> None:
    """Delete a stream and, by the foreign keys, what is left of its results."""
    connection.execute(delete(streams).where(streams.c.key == key))


def give_space_back(connection: Connection) -> None:
    """Make a SQLite file smaller; PostgreSQL's autovacuum does that by itself."""
    if connection.dialect.name == "sqlite":
        free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        # incremental_vacuum(N) frees one page with each step of the statement, and Python's driver
        # makes only the first step of a statement that returns no rows.
        for _ in range(min(free, _PAGES_AT_A_TIME)):
            connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
