"""Opening a SQLite database that somebody else has in hand at that moment."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from stream_server.store import database


def _hold(path: Path) -> sqlite3.Connection:
    """Take a database's file as a server does that opens it too."""
    other = sqlite3.connect(path, isolation_level=None)
    # In an empty file the statement before would wait already, and in SQLite's own way.
    other.execute("CREATE TABLE mine (id INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_new_database_in_another_servers_hand_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "timelines.db"
    other = _hold(path)
    pauses_s: list[float] = []

    def pause(seconds: float) -> None:
        pauses_s.append(seconds)
        if len(pauses_s) == 3:
            other.execute("COMMIT")

    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 100)
    engine = database.make_engine(make_url(f"sqlite:///{path}"), read_only=False)
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    engine.dispose()
    other.close()
    assert (mode, len(pauses_s)) == ("wal", 3)


def test_a_database_that_stays_in_another_hand_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "timelines.db"
    other = _hold(path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 100)
    engine = database.make_engine(make_url(f"sqlite:///{path}"), read_only=False)
    with pytest.raises(OperationalError, match="locked"):
        engine.connect()
    engine.dispose()
    other.close()
