"""``emotion-monitor dossier`` and ``oversight``."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_monitor.app import main
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
