"""The points in PostgreSQL, in partitions of about a day's streams each, so that old ones go whole.

::

    points ─┬─ points_0_1           what there was before there were partitions
            ├─ points_1_10001       by streams.key: FROM (1) TO (10001)
            ├─ points_10001_20001   the next one is there before a stream needs it
            └─ points_default       empty, unless nobody made the next one in time

They are cut by the key of the stream, not by a date: keys grow with time, so a partition's streams
are of one time, too, and everything that reads points names the stream, so it looks into one
partition only. A partition is as wide as the number of streams that began in the last day. It is
dropped when the last of its streams is older than anything is kept; streams that are kept shorter,
or are erased, leave it row by row before.

SQLite has none of this: the functions do nothing there.
"""

from __future__ import annotations

import re

from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection

from stream_server.store.schema import streams

LEAST_STREAMS = 10_000
"""Streams of a partition where fewer begin in a day."""
_DAY_S = 86_400.0
# One server at a time makes and drops them: "EmoP" in ASCII, beside the lock of migrations.
_LOCK = 0x456D6F50
# Writers wait as long as a partition waits for its lock: rather try again later.
_LOCK_TIMEOUT = "2s"
_NAME = re.compile(r"points_(\d+)_(\d+)")


def ensure(connection: Connection, least_streams: int = LEAST_STREAMS) -> None:
    """Make partitions for as many streams as began in the last day, ahead of the newest stream."""
    if not _is_locked(connection):
        return
    newest = _newest_key(connection)
    last = select(func.max(streams.c.opened_at)).scalar_subquery()
    lately = select(func.count()).where(streams.c.opened_at > last - _DAY_S)
    width = max(least_streams, connection.execute(lately).scalar_one())
    end = max((end for _, end in _bounds(connection)), default=0)
    if newest >= end:
        # Nobody made it in time: what the default partition has by now, or gets now, stays there.
        end = newest + least_streams
    while end <= newest + width:
        name = f"points_{end}_{end + width}"
        connection.exec_driver_sql(
            f"CREATE TABLE {name} PARTITION OF points FOR VALUES FROM ({end}) TO ({end + width})"
        )
        end += width


def drop_expired(connection: Connection, before: float) -> int:
    """Drop the partitions all of whose streams ended before a time; return how many."""
    if not _is_locked(connection):
        return 0
    newest = _newest_key(connection)
    dropped = 0
    for start, end in _bounds(connection):
        if end > newest:
            continue  # It gets more streams, or has just had its last one.
        kept = select(streams.c.key).where(
            streams.c.key >= start,
            streams.c.key < end,
            streams.c.closed_at.is_(None) | (streams.c.closed_at >= before),
        )
        if connection.execute(kept.limit(1)).first() is None:
            connection.exec_driver_sql(f"DROP TABLE points_{start}_{end}")
            dropped += 1
    return dropped


def _is_locked(connection: Connection) -> bool:
    """Take the lock; return False where there is none, or another server has it."""
    if connection.dialect.name != "postgresql":
        return False
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    lock = text("SELECT pg_try_advisory_xact_lock(:lock)")
    return bool(connection.execute(lock, {"lock": _LOCK}).scalar_one())


def _newest_key(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(streams.c.key), 0))).scalar_one())


def _bounds(connection: Connection) -> list[tuple[int, int]]:
    """Return the first key of each partition and the one after its last, in order."""
    found = connection.execute(
        text(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'points'::regclass"
        )
    )
    matches = (_NAME.fullmatch(name) for name in found.scalars())
    return sorted((int(match[1]), int(match[2])) for match in matches if match)
