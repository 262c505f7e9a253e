"""``emotion-monitor dossier``, ``oversight`` and ``person``."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path

import msgspec
import pytest

from emotion_monitor.app import main
from tests.support.results import make_closed, make_opened, make_point
from tests.support.whole_server import whole_server


def run(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["--set", f"stream_server.store.url=sqlite:///{folder}/x.db", *arguments])
    assert not ended.value.code
    return capsys.readouterr().out


def test_the_dossier_says_what_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    settings = (
        "stream_server.access.tokens={crm: 0123456789abcdef-secret}",
        "stream_server.streams.analyse_roles=[customer, agent]",
        "stream_server.rights.overseers=[Erika]",
        "stream_server.store.team_retention_days={sales: 30}",
    )
    arguments = [word for each in settings for word in ("--set", each)]
    text = run(capsys, tmp_path, "dossier", *arguments)
    for expected in (
        "Article 5(1)(f)",  # of the agent
        "| overseers | Erika |",
        "| the same of the team sales | 30 days |",
        "women; men",  # accuracy by group, of a model's card
        "SHA-256 of its weights",
    ):
        assert expected in text
    assert "Nobody is named as overseer" not in text
    assert "0123456789abcdef-secret" not in text
    page = tmp_path / "dossier.html"
    run(capsys, tmp_path, "dossier", "--html", "--out", str(page))
    assert "<td>overseers</td>" in page.read_text(encoding="utf-8")


async def test_the_command_line_halts_a_running_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async with whole_server(tmp_path) as server:
        run(capsys, tmp_path, "oversight", "halt", "--reason", "wrong labels")
        await server.refresh_access()
        assert server.rights.halt.halted
        assert "halted" in run(capsys, tmp_path, "oversight", "show")
        run(capsys, tmp_path, "oversight", "resume", "--reason", "looked into")
        await server.refresh_access()
        assert not server.rights.halt.halted


CALLER = "+49 30 1234567"


async def test_the_command_line_finds_exports_and_erases_one_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    token = "0123456789abcdef"
    async with whole_server(tmp_path, f"stream_server.access.tokens={{crm: {token}}}") as server:
        for stream_id, caller in (("hers", CALLER), ("his", "+1 555 0100")):
            opened = make_opened(stream_id, name=f"call of {caller}")
            server.bus.publish(msgspec.structs.replace(opened, metadata={"caller": caller}))
            server.bus.publish(make_point(stream_id=stream_id))
            server.bus.publish(make_closed(stream_id=stream_id, seq=2))

        url = server.http_url

        async def person(*arguments: str, answer: str = "", status: int = 0) -> str:
            monkeypatch.setattr("sys.stdin", io.StringIO(answer))
            where = ("--url", url, "--token", token)
            # The server has this thread.
            asked = ("person", *arguments, *(where if "--token" not in arguments else where[:2]))
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                await asyncio.to_thread(main, asked)
            printed = capsys.readouterr()
            assert ended.value.code == status, printed
            return printed.out + printed.err

        found = await person("find", CALLER, "--name", "caller")
        assert f"ended: call of {CALLER}" in found and "555" not in found
        assert await person("find", "-", answer=f"{CALLER}\n") == found
        zipped = tmp_path / "hers.zip"
        await person("export", CALLER, "--out", str(zipped))
        assert zipfile.ZipFile(zipped).namelist() == ["streams/hers/results.json"]
        assert zipped.stat().st_mode & 0o077 == 0
        refused = await person("erase", CALLER, "--yes", "--token", "another", status=1)
        assert "refused" in refused
        await person("erase", CALLER, answer="n\n", status=1)
        assert await person("find", CALLER) == found
        assert "erased 1 streams and 0 files" in await person("erase", CALLER, answer="y\n")
        assert "streams: 0" in await person("find", CALLER)
        assert "streams: 1" in await person("find", "+1 555 0100")
    gone = await person("find", CALLER, status=1)
    assert f"no server at {url}" in gone


def test_purge_says_that_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(capsys, tmp_path, "oversight", "show")  # makes the database
    run(capsys, tmp_path, "person", "purge")
