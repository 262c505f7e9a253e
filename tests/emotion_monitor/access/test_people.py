"""``emotion-monitor token`` and ``user``, and the server that runs on the same store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from emotion_monitor.app import main
from stream_server.store.database import make_engine, parse_store_url
from tests.support.whole_server import whole_server

PASSWORD = "a long password"


class Commands:
    """The command line, on the store of a folder."""

    def __init__(self, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store = f"stream_server.store.url=sqlite:///{folder}/x.db"
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str, typed: str = "") -> str:
        """Return what was printed, the errors after the rest."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--set", self._store, *arguments])
        self.status = ended.value.code
        printed = self._capsys.readouterr()
        return str(printed.out + printed.err)


@pytest.fixture
def command(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(tmp_path, capsys, monkeypatch)


def test_a_token_is_shown_once_listed_and_revoked(command: Commands, tmp_path: Path):
    made = command("token", "create", "crm", "--scope", "read", "--team", "sales")
    token = made.splitlines()[0]
    assert token.startswith("emt_") and command.status == 0
    assert token not in command("token", "list")
    assert token.split("_")[2].encode() not in (tmp_path / "x.db").read_bytes()
    assert "crm: read, team sales" in command("token", "list")
    assert "expected another name" in command("token", "create", "crm", "--scope", "read")
    command("token", "revoke", "crm")
    assert "crm: read, team sales, revoked" in command("token", "list")
    assert "expected one that" in command("token", "revoke", "crm")
    assert command.status == 2


@pytest.mark.parametrize(
    ("arguments", "typed", "error"),
    [
        (("user", "add", "anna", "--role", "boss"), PASSWORD, "expected one of viewer"),
        (("user", "add", "anna", "--role", "viewer"), "short", "expected 10 or more"),
        (("user", "add", "anna", "--role", "viewer", "--team", "A B"), PASSWORD, "expected a-z"),
        (("token", "create", "", "--scope", "read"), "", "expected 1 to 64"),
    ],
)
def test_what_cannot_be_is_refused(
    command: Commands, arguments: tuple[str, ...], typed: str, error: str
):
    assert error in command(*arguments, typed=typed)
    assert command.status == 2


async def test_a_running_server_sees_what_the_command_line_does(command: Commands, tmp_path: Path):
    async with whole_server(tmp_path) as server, aiohttp.ClientSession(server.http_url) as session:

        async def status(**headers: str) -> int:
            async with session.get("/api/v1/streams", headers=headers) as answer:
                return answer.status

        assert await status() == 200  # Nobody is set up yet.
        command("user", "add", "anna", "--role", "supervisor", typed=f"{PASSWORD}\n")
        await server.refresh_access()
        assert await status() == 401
        token = command("token", "create", "crm", "--scope", "read").splitlines()[0]
        await server.refresh_access()
        bearer = {"Authorization": f"Bearer {token}"}
        assert await status(**bearer) == 200
        command("token", "revoke", "crm")
        await server.refresh_access()
        assert await status(**bearer) == 401

        form = {"name": "anna", "secret": PASSWORD, "next": "/history"}
        wrong = {**form, "secret": "another one"}
        async with session.post("/login", data=wrong, allow_redirects=False) as answer:
            assert (answer.status, len(answer.cookies)) == (401, 0)
        async with session.post("/login", data=form, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "./history")
            cookie = answer.cookies["emotion_monitor_session"].value
        assert await status() == 200  # The client keeps the cookie.
        async with session.get("/api/v1/info") as answer:
            me = (await answer.json())["me"]
            assert (me["kind"], me["name"]) == ("user", "anna")
            assert me["scopes"] == ["ingest", "read", "operate"]
        assert PASSWORD not in cookie
        async with session.post("/logout", allow_redirects=False) as answer:
            assert answer.status == 303
        assert await status() == 401
        # A copy of the cookie is of no use after leaving, nor one from before another start.
        assert await status(Cookie=f"emotion_monitor_session={cookie}") == 401

        assert server.store is not None
        await server.store.flush()
        entries = await server.store.audit()
        assert [(entry.action, entry.kind, entry.target or entry.name) for entry in entries] == [
            ("logout", "user", "anna"),
            ("login", "user", "anna"),
            ("login_failed", "nobody", "anna"),
            ("token_revoked", "command", "crm"),
            ("token_created", "command", "crm"),
            ("user_added", "command", "anna"),
        ]
        assert all(PASSWORD not in str(entry) and token not in str(entry) for entry in entries)


async def test_the_audit_says_who_saw_what_and_cannot_be_changed(tmp_path: Path):
    token = "0123456789abcdef"
    tokens = f"stream_server.access.tokens={{boss: {token}}}"
    async with whole_server(tmp_path, tokens) as server:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(server.http_url, headers=headers) as session:
            for path, status in (("streams/nothing", 404), ("config", 200)):
                async with session.get(f"/api/v1/{path}") as answer:
                    assert answer.status == status
            async with session.ws_connect("/api/v1/live") as wall:
                await wall.receive_str()
            assert server.store is not None
            await server.store.flush()
            async with session.get("/api/v1/audit?name=boss") as answer:
                entries = (await answer.json())["entries"]
            assert [entry["action"] for entry in entries] == ["wall", "settings_read"]
            assert {entry["address"] for entry in entries} == {"127.0.0.1"}
            async with session.get("/api/v1/audit.csv?action=wall") as answer:
                assert "boss" in await answer.text()
    engine = make_engine(parse_store_url(f"sqlite:///{tmp_path}/x.db"), read_only=False)
    with pytest.raises(SQLAlchemyError, match="append-only"), engine.begin() as connection:
        connection.execute(text("UPDATE audit SET name = 'somebody else'"))
    engine.dispose()
