"""How fast lists, searches and timelines are in a large store, and how fast it is written.

::

    python -m benchmarks.store --points 100000000 --json benchmarks/results/store.json

Fills a PostgreSQL of its own, in a folder that is removed at the end, with calls of five minutes
with 600 points each, spread over 90 days, then asks what pages and the JSON interface ask. Of each
question it keeps the median time of a few, each about another call, and whether PostgreSQL read a
whole table of points for it. A row takes about 180 bytes, so 10^8 of them need 20 GB.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from benchmarks.report import Report, argument_parser
from emotion_monitor.local_services import PostgreSQL, bin_dir
from ser_engine.schema import ModelNotice
from stream_server.bus import Bus
from stream_server.config import StoreConfig
from stream_server.store import Store, partitions
from stream_server.wire.results import Point, Result, StreamChannel, StreamOpened

POINTS_OF_A_STREAM = 600
# As of a database that has a machine, a small one; filling it without checkpoints all the time.
_OPTIONS = (
    "-c shared_buffers=1GB -c max_wal_size=16GB -c full_page_writes=off -c synchronous_commit=off"
    " -c wal_level=minimal -c max_wal_senders=0"
)
_SECONDS = 300
_DAYS = 90
_TRIES = 7
_TEAMS = 20
_WRITTEN_STREAMS, _WRITTEN_POINTS = 200, 200

_CALLS = """(
    SELECT n, CAST(:began AS double precision) + n * CAST(:every AS double precision) AS began
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
) AS calls"""
_STEPS = "generate_series(1, CAST(:steps AS bigint)) AS s"
_STREAMS = f"""
INSERT INTO streams (key, id, owner, name, model, model_licence, model_notice, labels, channels,
    metadata, sample_rate, encoding, step_ms, opened_seq, opened_at, closed_seq, closed_at, reason,
    duration_s, team)
SELECT n, 'stream-' || n, 'benchmark', 'Call ' || md5(n::text), 'compact', '', '',
    '["angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown"]',
    '[{{"index": 0, "role": "customer", "name": "", "analysed": true}}]', '{{"queue": "sales"}}',
    8000, 'mulaw', 500, 0, began, 100000, began + 300, 'stopped', 300, 'team ' || n % {_TEAMS}
FROM {_CALLS}
"""
_POINTS = f"""
INSERT INTO points (stream_key, seq, channel, start_sample, end_sample, posteriors, label,
    confidence, speech_share, flags)
SELECT n, s * 2, 0, (s - 1) * 8000, s * 8000, decode(repeat('00', 36), 'hex'), 'neutral', 0.8, 0.9,
    4
FROM {_CALLS}, {_STEPS}
"""
_SEGMENTS = f"""
INSERT INTO segments (stream_key, channel, start_sample, end_sample, seq, label, confidence, final)
SELECT n, 0, (s - 1) * 8000, (s + 19) * 8000, s * 2 + 1, 'neutral', 0.8, true
FROM {_CALLS}, {_STEPS} WHERE s % 20 = 0
"""
_ALERTS = f"""
INSERT INTO alerts (id, stream_key, rule, severity, channel, role, labels, since_sample, raised_seq,
    raised_at, raised_sample, raised_posterior, cleared_seq, cleared_at, cleared_sample,
    cleared_posterior)
SELECT 'stream-' || n || '-1', n, 'angry', 'warning', 0, 'customer', '["angry"]', 160000, 41,
    began + 15, 240000, 0.8, 81, began + 25, 400000, 0.2
FROM {_CALLS} WHERE n % 10 = 0
"""


def fill(engine: Engine, num_streams: int, began: float) -> float:
    """Fill the tables; return the rows of points a second."""
    values: dict[str, Any] = {
        "began": began,
        "every": _DAYS * 86_400 / num_streams,
        "steps": POINTS_OF_A_STREAM,
    }
    began_s = time.monotonic()
    with engine.begin() as connection:
        # Those that are there for the first streams are made anew, as the others.
        partitioned = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = "
        names = connection.execute(sa.text(partitioned + "'points'::regclass")).scalars()
        for name in [each for each in names if each != "points_default"]:
            connection.execute(sa.text(f"DROP TABLE {name}"))
    for first in range(1, num_streams + 1, partitions.LEAST_STREAMS):
        end = first + partitions.LEAST_STREAMS
        name = f"points_{first}_{end}"
        values |= {"first": first, "last": min(end - 1, num_streams)}
        with engine.begin() as connection:
            # No foreign key is looked up for each row, and its index is made of all rows at once.
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            connection.execute(sa.text(f"CREATE TABLE {name} (LIKE points INCLUDING DEFAULTS)"))
            points = _POINTS.replace("INTO points", f"INTO {name}")
            for statement in (_STREAMS, points, _SEGMENTS, _ALERTS):
                connection.execute(sa.text(statement), values)
            key = f"ALTER TABLE {name} ADD PRIMARY KEY (stream_key, seq)"
            connection.execute(sa.text(key))
            bounds = f"FOR VALUES FROM ({first}) TO ({end})"
            connection.execute(sa.text(f"ALTER TABLE points ATTACH PARTITION {name} {bounds}"))
    with engine.begin() as connection:
        partitions.ensure(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            sa.text("SELECT setval('streams_key_seq', :last)"), {"last": num_streams}
        )
        connection.execute(sa.text("ANALYZE"))
    return num_streams * POINTS_OF_A_STREAM / (time.monotonic() - began_s)


class Watched:
    """Sees what the store asks of the database, and how it is answered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: list[tuple[str, Any]] = []
        sa.event.listen(engine, "before_cursor_execute", self._note)

    def _note(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            self._asked.append((statement, parameters))

    def scans(self) -> tuple[int, int]:
        """Return how many statements were planned, and how many read a whole table of points."""
        asked, self._asked = self._asked, []
        found = 0
        with self._engine.connect() as connection:
            for statement, parameters in asked:
                plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                found += any("Seq Scan on points" in str(row[0]) for row in plan)
        return len(asked), found


async def ask(store: Store, num_streams: int, began: float) -> dict[str, float]:
    """Return the median time of each question, ms."""
    every = _DAYS * 86_400 / num_streams

    def some(number: int) -> int:
        # Spread over all of them, none asked before.
        return 1 + (number + 1) * 7919 * 13 % num_streams

    questions: dict[str, Callable[[int], Awaitable[Any]]] = {
        "newest": lambda number: store.list_streams(limit=100),
        "of_a_day": lambda number: store.list_streams(
            limit=100,
            since=began + some(number) * every,
            until=began + some(number) * every + 86_400,
        ),
        "of_a_team": lambda number: store.list_streams(limit=100, teams=[f"team {number}"]),
        "page_100": lambda number: store.list_streams(limit=100, offset=10_000),
        "by_name": lambda number: store.list_streams(limit=100, name=_name(some(number))),
        "by_name_that_is_none": lambda number: store.list_streams(
            limit=100, name=f"nobody {number}"
        ),
        "timeline": lambda number: store.results(f"stream-{some(number)}"),
        "timeline_end": lambda number: store.results(
            f"stream-{some(number)}", from_sample=250 * 16_000
        ),
        "alerts": lambda number: store.alerts(limit=100),
        "alerts_open": lambda number: store.alerts(limit=100, state="raised"),
        "alerts_of_a_stream": lambda number: store.alerts(stream_id=f"stream-{some(number)}"),
        "live": lambda number: store.list_streams(limit=100, live_only=True),
    }
    found = {}
    for name, question in questions.items():
        times_ms = []
        for number in range(_TRIES):
            began_s = time.perf_counter()
            await question(number)
            times_ms.append(1000 * (time.perf_counter() - began_s))
        found[f"{name}_ms"] = round(statistics.median(times_ms), 1)
    return found


def _name(number: int) -> str:
    import hashlib

    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()[4:20]


async def write(store: Store) -> float:
    """Return how many results of live streams a second the store takes."""
    bus = Bus()
    running = asyncio.create_task(store.run(bus.subscribe(name="store", capacity=1_000_000)))
    results: list[Result] = [_opened(f"live-{each}") for each in range(_WRITTEN_STREAMS)]
    results += [
        _point(f"live-{each}", number)
        for number in range(_WRITTEN_POINTS)
        for each in range(_WRITTEN_STREAMS)
    ]
    began_s = time.monotonic()
    for at in range(0, len(results), 1000):
        for result in results[at : at + 1000]:
            bus.publish(result)
        await asyncio.sleep(0)
    bus.close()
    await running
    await store.flush()
    return len(results) / (time.monotonic() - began_s)


def _opened(stream_id: str) -> StreamOpened:
    return StreamOpened(
        stream_id=stream_id,
        seq=0,
        name="a call",
        channels=(StreamChannel(index=0, role="customer", name="", analysed=True),),
        model=ModelNotice(name="compact", licence=""),
        labels=("angry", "happy", "neutral", "sad"),
        metadata={},
        sample_rate=8000,
        encoding="mulaw",
        step_ms=500,
        opened_at=time.time(),
    )


def _point(stream_id: str, number: int) -> Point:
    return Point(
        stream_id=stream_id,
        seq=number + 1,
        channel=0,
        role="customer",
        start_sample=8000 * number,
        end_sample=8000 * (number + 1),
        start_s=number / 2,
        end_s=(number + 1) / 2,
        posteriors=(0.1, 0.1, 0.7, 0.1),
        label="neutral",
        confidence=0.7,
        speech_share=1.0,
        provisional=False,
        widened=False,
        narrow_band=True,
        frames=None,
        model="compact",
    )


async def measure(url: str, num_points: int) -> dict[str, Any]:
    """Fill a database and ask it."""
    config = StoreConfig(url=url, max_pending_results=10_000_000)
    store = await Store.open(config, owner="benchmark")
    engine = sa.create_engine(url)
    num_streams = max(1, num_points // POINTS_OF_A_STREAM)
    began = time.time() - _DAYS * 86_400
    try:
        filled_per_s = await asyncio.to_thread(fill, engine, num_streams, began)
        watched = Watched(store._readers)
        found: dict[str, Any] = await ask(store, num_streams, began)
        planned, scans = await asyncio.to_thread(watched.scans)
        with engine.connect() as connection:
            size = connection.execute(sa.text("SELECT pg_database_size(current_database())"))
            num_bytes = size.scalar_one()
        return {
            "points": num_streams * POINTS_OF_A_STREAM,
            "streams": num_streams,
            "database_gb": round(num_bytes / 1e9, 2),
            "filled_points_per_s": round(filled_per_s),
            **found,
            "statements_planned": planned,
            "whole_tables_read": scans,
            "written_per_s": round(await write(store)),
        }
    finally:
        engine.dispose()
        await store.close()


def main() -> None:
    """Run it."""
    parser = argument_parser(__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    options = parser.parse_args()
    if bin_dir() is None:
        parser.error("apt-get install postgresql")
    report = Report({"points": options.points})
    database = PostgreSQL(_OPTIONS)
    try:
        report.summary |= asyncio.run(measure(database.new_database(), options.points))
    finally:
        database.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
