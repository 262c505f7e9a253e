"""Points in partitions of PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Table, insert, inspect, text
from sqlalchemy.engine import Connection

from emotion_monitor.local_services import PostgreSQL
from stream_server.store import partitions
from stream_server.store.database import make_engine, parse_store_url, upgrade_schema
from stream_server.store.rows import StreamInfo, point_row, stream_row
from stream_server.store.schema import points, streams
from tests.support.results import make_opened, make_point

pytestmark = pytest.mark.needs("postgresql")

DAY_S = 86_400.0


def add_stream(connection: Connection, *, closed_at: float | None, num_points: int = 3) -> int:
    number = connection.execute(text("SELECT COUNT(*) FROM streams")).scalar_one()
    opened = make_opened(f"s{number}", opened_at=(closed_at or DAY_S) - 60)
    row = {**stream_row(opened, "one"), "closed_at": closed_at}
    insert_into(connection, streams, [row])
    key = connection.execute(text("SELECT MAX(key) FROM streams")).scalar_one()
    info = StreamInfo("s", "fake", {0: "customer"})
    rows = [point_row(make_point(seq=seq), key, info) for seq in range(num_points)]
    insert_into(connection, points, rows)
    return int(key)


def insert_into(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert what the table has columns for at the version it is at."""
    there = {column["name"] for column in inspect(connection).get_columns(table.name)}
    kept = [{name: each[name] for name in each if name in there} for each in rows]
    connection.execute(insert(table), kept)


def tables(connection: Connection) -> dict[str, int]:
    """Return how many points each partition has."""
    found = text("SELECT tableoid::regclass::text, COUNT(*) FROM points GROUP BY 1 ORDER BY 1")
    return {name: count for name, count in connection.execute(found)}


def test_old_points_go_with_their_partition_and_no_stream_lacks_one(postgresql_cluster: PostgreSQL):
    engine = make_engine(parse_store_url(postgresql_cluster.new_database()), read_only=False)
    with engine.begin() as connection:
        upgrade_schema(connection)
        partitions.ensure(connection, least_streams=2)
        for closed_at in (10.0, 20.0, 30.0, 40.0, 50.0):
            add_stream(connection, closed_at=closed_at)
        # Nobody made the next ones in time.
        assert tables(connection) == {"points_1_3": 6, "points_default": 9}
    with engine.begin() as connection:
        partitions.ensure(connection, least_streams=2)
        # What is in the default partition stays there, and some streams more may go there.
        live = [add_stream(connection, closed_at=None) for _ in range(3)]
        assert tables(connection)["points_7_12"] == 6
        # The second stream of the first partition is still kept; what there was before there were
        # partitions, which is nothing, is not.
        assert partitions.drop_expired(connection, 20.0) == 1
        assert partitions.drop_expired(connection, 25.0) == 1
        assert "points_1_3" not in tables(connection)
        # A live stream is never dropped.
        assert partitions.drop_expired(connection, 1e9) == 0
        assert sum(tables(connection).values()) == 18
        # What is left of a stream goes with it.
        connection.execute(streams.delete().where(streams.c.key.not_in(live)))
        assert sum(tables(connection).values()) == 9
    engine.dispose()


def test_points_that_were_kept_before_are_the_first_partition(postgresql_cluster: PostgreSQL):
    from alembic import command
    from alembic.config import Config

    from tests.stream_server.store.test_migrate import MIGRATIONS

    engine = make_engine(parse_store_url(postgresql_cluster.new_database()), read_only=False)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        add_stream(connection, closed_at=10.0)
    with engine.begin() as connection:
        upgrade_schema(connection)
        partitions.ensure(connection)
        add_stream(connection, closed_at=None)
        assert tables(connection) == {"points_0_2": 3, "points_2_10002": 3}
        assert partitions.drop_expired(connection, 20.0) == 1
        assert tables(connection) == {"points_2_10002": 3}
    engine.dispose()
