from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emotion_monitor.local_services import PostgreSQL
from stream_server.config import StoreConfig
from stream_server.store import Store

OpenStore = Callable[..., Awaitable[Store]]


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of our own. Needs ``postgresql``."""
    cluster = PostgreSQL()
    yield cluster
    cluster.close()


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))]
)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, one of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/timelines.db"
    cluster: PostgreSQL = request.getfixturevalue("postgresql_cluster")
    return cluster.new_database()


@pytest.fixture
async def open_store(store_url: str) -> AsyncIterator[OpenStore]:
    """Opens stores of one database; what is left open is closed after the test."""
    stores: list[Store] = []

    async def open_it(
        *, url: str = store_url, options: dict[str, Any] | None = None, **settings: Any
    ) -> Store:
        store = await Store.open(StoreConfig(url=url, **settings), **(options or {}))
        stores.append(store)
        return store

    yield open_it
    for store in stores:
        await store.close(timeout_s=5)


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """An open store of each kind."""
    return await open_store()
