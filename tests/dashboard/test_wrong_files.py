"""Files that are none, over HTTP, with the real reader: one clear error each, and nothing left."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from dashboard.config import AnalyseConfig, DashboardConfig
from dashboard.jobs.analyser import PoolAnalyser
from tests.support.dashboard_lab import DashboardLab, serve_dashboard
from tests.support.live_lab import LabEngine
from tests.support.wrong_files import CUT_OFF_FILES, MIB, WRONG_FILES, tone_wav

LIMITS = AnalyseConfig(max_duration_s=3600, max_file_mb=1)


def files_in(folder: Path) -> list[str]:
    """What is in the spool but its own two files."""
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return sorted(str(path.relative_to(folder)) for path in found if path.name[0] != ".")


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[DashboardLab]:
    async with serve_dashboard(
        config=DashboardConfig(analyse=LIMITS),
        database=tmp_path / "x.db",
        analyser=PoolAnalyser(LabEngine(), LIMITS),
    ) as lab:
        yield lab


def form(content: bytes, name: str = "a.wav", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False)
    data.add_field("file", io.BytesIO(content), filename=name)
    for field, value in fields.items():
        data.add_field(field, value)
    return data


async def outcome(lab: DashboardLab, content: bytes, name: str = "a.wav") -> dict[str, Any]:
    accepted = await lab.ask("POST", "/analyse", 202, data=form(content, name))
    while True:
        job: dict[str, Any] = await lab.get(f"/analyse/{accepted['job_id']}")
        if job["state"] not in ("waiting", "running"):
            return job


@pytest.mark.parametrize("kind", WRONG_FILES)
async def test_one_clear_error_and_nothing_left(lab: DashboardLab, tmp_path: Path, kind: str):
    job = await outcome(lab, await asyncio.to_thread(WRONG_FILES[kind]))
    assert (job["state"], job["error"]["code"]) == ("failed", "bad_audio"), kind
    message = job["error"]["message"]
    assert 10 < len(message) < 300
    assert str(tmp_path) not in message
    assert job["job_id"] not in message
    assert job["error"]["remedy"]
    assert files_in(tmp_path / "analyses") == []
    answer = await lab.get(f"/analyse/{job['job_id']}/result.json", 422)
    assert answer["message"] == message
    # The next one is none the worse for it.
    assert (await outcome(lab, tone_wav(1)))["state"] == "done"


@pytest.mark.parametrize("kind", CUT_OFF_FILES)
async def test_what_can_be_read_is_analysed_with_a_warning(lab: DashboardLab, kind: str):
    job = await outcome(lab, await asyncio.to_thread(CUT_OFF_FILES[kind]))
    assert job["state"] == "done", job["error"]
    result = await lab.get(f"/analyse/{job['job_id']}/result.json")
    assert "length" in [warning["code"] for warning in result["channels"][0]["warnings"]]


async def test_a_small_file_of_many_hours_says_so(lab: DashboardLab):
    job = await outcome(lab, await asyncio.to_thread(WRONG_FILES["bomb"]))
    assert "got 10800 s of audio or more, expected 3600 s or less" in job["error"]["message"]


async def test_an_empty_file_and_one_beyond_the_limit(lab: DashboardLab, tmp_path: Path):
    for content, status, code in (
        (b"", 400, "bad_request"),
        (bytes(MIB + 1), 413, "file_too_big"),
    ):
        error = await lab.ask("POST", "/analyse", status, data=form(content))
        assert error["code"] == code
    assert files_in(tmp_path / "analyses") == []
    assert (await lab.get("/analyse"))["jobs"] == []


async def test_an_upload_that_breaks_off(lab: DashboardLab, tmp_path: Path):
    server = lab.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = (
        f"POST /api/v1/analyse HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    )
    writer.write(head.encode() + b"RIFF" + bytes(1000))
    await writer.drain()
    analyses = tmp_path / "analyses"
    async with asyncio.timeout(10):
        while not files_in(analyses):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        while files_in(analyses):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
    assert (await lab.get("/analyse"))["jobs"] == []
    del reader


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/cron.d/evil.wav", "evil.wav"),
        ("..\\..\\windows\\evil.wav", "evil.wav"),
        ("/etc/passwd", "passwd"),
        ("..", "recording"),
        ("a\u202egnp.wav", "agnp.wav"),
        ("CON.wav", "CON.wav"),
    ],
)
async def test_names_lead_nowhere(lab: DashboardLab, tmp_path: Path, name: str, shown: str):
    before = {path for path in tmp_path.parent.rglob("*") if "analyses" not in path.parts}
    job = await outcome(lab, tone_wav(1), name)
    assert (job["state"], job["name"]) == ("done", shown)
    after = {path for path in tmp_path.parent.rglob("*") if "analyses" not in path.parts}
    assert after - before == set()
    assert {Path(path).name for path in files_in(tmp_path / "analyses")} == {
        *("result.json", "result.csv", "view.json", "embedding.npy", "log.txt")
    }


async def test_ids_lead_nowhere(lab: DashboardLab):
    for name in ("..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a%00b", "x" * 500):
        answer = await lab.client.get(f"/api/v1/analyse/{name}/result.json")
        assert answer.status == 404


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"granularity": "word"}, "granularity"),
        ({"frame_hop_ms": "15"}, "expected 10 or 20"),
        ({"frame_hop_ms": "x"}, "frame_hop_ms"),
        ({"embeddings": "perhaps"}, "embeddings"),
        ({"preset": "none such"}, "expected one of research"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_options_that_are_none(
    lab: DashboardLab, tmp_path: Path, fields: dict[str, str], message: str
):
    error = await lab.ask("POST", "/analyse", 400, data=form(tone_wav(0.1), **fields))
    assert message in error["message"]
    assert files_in(tmp_path / "analyses") == []
