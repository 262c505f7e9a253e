from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from stream_server.config import StoreConfig
from stream_server.store import Store, StoreVersionError, database
from stream_server.store.database import (
    make_engine,
    newest_revision,
    parse_store_url,
    upgrade_schema,
)
from stream_server.store.schema import metadata

MIGRATIONS = Path(database.__file__).parent / "migrations"
_OPTIONS = {
    "compare_type": True,
    # PostgreSQL has partitions of points, which are made as streams come.
    "include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("points_"),
}


def test_an_empty_database_gets_the_tables_of_the_schema(store_url: str):
    engine = make_engine(parse_store_url(store_url), read_only=False)
    with engine.begin() as connection:
        upgrade_schema(connection)
        context = MigrationContext.configure(connection, opts=_OPTIONS)
        with warnings.catch_warnings():
            # Which kinds of index a database can tell about is not what is tested.
            warnings.simplefilter("ignore")
            assert compare_metadata(context, metadata) == []
        assert context.get_current_heads() == (newest_revision(),)
    engine.dispose()


def test_rows_go_with_their_stream_by_the_keys_of_the_schema(store_url: str):
    engine = make_engine(parse_store_url(store_url), read_only=False)
    with engine.begin() as connection:
        upgrade_schema(connection)
        found = inspect(connection)
        for table in metadata.sorted_tables:
            keys = found.get_foreign_keys(table.name)
            assert [key["name"] for key in keys] == [
                constraint.name for constraint in table.foreign_key_constraints
            ]
            assert all(key["options"]["ondelete"] == "CASCADE" for key in keys)
    engine.dispose()


def test_a_database_of_the_first_version_gets_what_is_missing(store_url: str):
    engine = make_engine(parse_store_url(store_url), read_only=False)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        assert "jobs" not in inspect(connection).get_table_names()
        upgrade_schema(connection)
        assert "jobs" in inspect(connection).get_table_names()
    engine.dispose()


def test_points_that_were_kept_before_have_their_label_as_best(store_url: str):
    engine = make_engine(parse_store_url(store_url), read_only=False)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    insert = text(
        "INSERT INTO points (stream_key, seq, channel, start_sample, end_sample, posteriors,"
        " label, confidence, speech_share, flags) VALUES (1, :seq, 0, 0, 1, :none, :label, 0, 1, 0)"
    )
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        # Those with a default of the database came later.
        needed = [c for c in metadata.tables["streams"].c if not (c.nullable or c.server_default)]
        row = dict.fromkeys((c.name for c in needed), "")
        for name in ("labels", "channels", "metadata"):
            row[name] = "[]"
        for name in ("key", "sample_rate", "step_ms", "opened_seq", "opened_at"):
            row[name] = "1"
        names, values = ", ".join(row), ", ".join(f"'{value}'" for value in row.values())
        connection.exec_driver_sql(f"INSERT INTO streams ({names}) VALUES ({values})")
        connection.execute(insert, {"seq": 1, "label": "sad", "none": b""})
        upgrade_schema(connection)
        # In the same transaction: the tables are as they are now at once.
        connection.execute(insert, {"seq": 2, "label": None, "none": b""})
        found = connection.execute(text("SELECT label, best FROM points ORDER BY seq")).all()
    assert found == [("sad", None), (None, None)]
    with engine.begin() as connection:
        connection.execute(insert, {"seq": 3, "label": None, "none": b""})
        if store_url.startswith("sqlite"):
            checked = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
            assert checked == "ok"
    engine.dispose()


async def test_opening_again_changes_nothing(store_url: str):
    for _ in range(2):
        store = await Store.open(StoreConfig(url=store_url))
        assert store.is_ready
        await store.close()


async def test_a_database_of_a_newer_version_is_refused(store_url: str):
    store = await Store.open(StoreConfig(url=store_url))
    await store.close()
    engine = make_engine(parse_store_url(store_url), read_only=False)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    message = f"version '9999', newer than '{newest_revision()}'"
    with pytest.raises(StoreVersionError, match=message):
        await Store.open(StoreConfig(url=store_url))


def test_sqlite_is_set_up_as_documented(tmp_path: Path):
    engine = make_engine(parse_store_url(f"sqlite:///{tmp_path}/timelines.db"), read_only=False)
    with engine.begin() as connection:
        upgrade_schema(connection)
    wanted = {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 5000}
    wanted |= {"secure_delete": 1, "auto_vacuum": 2}
    with engine.connect() as connection:
        got = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in wanted}
    assert got == wanted
    engine.dispose()
