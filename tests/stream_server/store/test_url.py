from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ser_engine.errors import ConfigError
from stream_server.config import StoreConfig
from stream_server.store import parse_store_url


def test_the_default_is_a_file_in_the_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    url = parse_store_url(StoreConfig().url)
    assert url.database == "/home/somebody/.local/share/emotion-monitor/timelines.db"


def test_a_relative_file_is_in_the_present_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert parse_store_url("sqlite:///a.db").database == str(tmp_path / "a.db")


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_uses_psycopg(scheme: str):
    assert parse_store_url(f"{scheme}://user:pw@host/db").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "is not a database URL"),
        ("postgresql://user:pw@host:port/db", "is not a database URL"),
        ("mysql://host/db", "the driver 'mysql'"),
        ("postgresql+asyncpg://host/db", r"the driver 'postgresql\+asyncpg'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://folder/file.db", "has a host"),
        ("sqlite:///~nobody-of-that-name/x.db", "no home folder"),
    ],
)
def test_a_wrong_url_is_refused(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        parse_store_url(text)


@pytest.mark.needs("postgresql")
def test_postgresql_without_a_database_is_refused_without_telling_the_password():
    with pytest.raises(ConfigError, match="names no database") as caught:
        parse_store_url("postgresql://user:secret@host")
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'emotion-monitor\[postgresql\]'"):
        parse_store_url("postgresql://host/db")
