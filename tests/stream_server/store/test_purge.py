"""What was deleted is gone from the files of the database, SQLite's and PostgreSQL's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from emotion_monitor.local_services import PostgreSQL
from stream_server.config import StoreConfig
from stream_server.store import Store
from stream_server.store.database import make_engine, parse_store_url
from stream_server.store.persons import purge_database
from tests.support.results import make_closed, make_opened, make_point

CALLER = b"+49-30-7654321"


def has_caller(folder: Path) -> bool:
    return any(CALLER in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.needs("postgresql")
async def test_what_postgresql_keeps_of_deleted_rows_is_purged(
    postgresql_cluster: PostgreSQL,
):
    url = postgresql_cluster.new_database()
    store = await Store.open(StoreConfig(url=url))
    engine = make_engine(parse_store_url(url), read_only=False)
    backup = make_engine(parse_store_url(url), read_only=True)
    by_itself = engine.execution_options(isolation_level="AUTOCOMMIT")
    files = postgresql_cluster.folder / "data" / "base"
    for stream_id in ("first", "second"):
        opened = make_opened(stream_id, name=CALLER.decode())
        store.write(msgspec.structs.replace(opened, metadata={"caller": CALLER.decode()}))
        store.write(make_point(stream_id=stream_id))
        store.write(make_closed(stream_id=stream_id, seq=2))
    await store.flush()
    with by_itself.connect() as connection:
        # Two streams with one value make it a frequent one, which statistics name.
        connection.execute(text("ANALYZE"))
    with backup.connect() as reader:
        # A transaction that began before the erasure.
        reader.execute(text("SELECT 1")).all()
        for stream_id in ("first", "second"):
            assert await store.erase_stream(stream_id)
        assert not await store.purge(), "it cannot promise this of a database server"
        with by_itself.connect() as connection:
            connection.execute(text("CHECKPOINT"))
        assert has_caller(files)
        assert "try again when it has ended" in purge_database(engine)
    assert purge_database(engine) == ""
    with by_itself.connect() as connection:
        connection.execute(text("CHECKPOINT"))
    assert not has_caller(files)
    await store.close()
    engine.dispose()
    backup.dispose()
