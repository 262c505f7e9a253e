"""Files over real sockets; what analyses them is a fake that waits until it may answer."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from dashboard.config import AnalyseConfig, DashboardConfig
from dashboard.uploads import clean_name
from tests.support.dashboard_lab import DashboardLab, serve_dashboard
from tests.support.virtual_time import current_loop, virtual_time


def form(*files: tuple[str, bytes], granularity: str | None = None) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False)
    for name, content in files:
        data.add_field("file", io.BytesIO(content), filename=name, content_type="audio/wav")
    if granularity is not None:
        data.add_field("granularity", granularity)
    return data


async def send(lab: DashboardLab, *files: tuple[str, bytes], **options: Any) -> list[str]:
    body = await lab.ask("POST", "/analyse", 202, data=form(*files, **options))
    assert body["job_id"] == body["jobs"][0]["job_id"]
    return [job["job_id"] for job in body["jobs"]]


async def state_of(lab: DashboardLab, job_id: str) -> str:
    state: str = (await lab.get(f"/analyse/{job_id}"))["state"]
    return state


async def until_done(lab: DashboardLab, job_id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = await lab.get(f"/analyse/{job_id}")
        if job["state"] in ("done", "failed"):
            return job


def limited(**limits: int | float) -> DashboardConfig:
    return DashboardConfig(analyse=AnalyseConfig(**limits))  # type: ignore[arg-type]


async def test_a_file_is_analysed_and_its_result_fetched():
    async with serve_dashboard() as lab:
        (job_id,) = await send(lab, ("call.wav", b"RIFF audio"))
        job = await lab.get(f"/analyse/{job_id}")
        assert (job["name"], job["granularity"], job["result"]) == ("call.wav", "utterance", None)
        assert (await lab.get(f"/analyse/{job_id}/result.json", 409))["code"] == "not_finished"
        lab.analyse.gate.set()
        job = await until_done(lab, job_id)
        assert (job["state"], job["progress"], job["error"]) == ("done", 1.0, None)
        result = job["result"]
        assert (result["duration_s"], result["sample_rate"]) == (0.08, 16_000)
        assert result["model"]["notice"] == "A fake model."
        first, second = result["channels"]
        assert (first["channel"], second["channel"]) == (0, 1)
        assert first["overall"]["label"] == "neutral"
        assert sum(first["overall"]["posteriors"]) == pytest.approx(1, abs=1e-5)
        assert first["warnings"][0]["code"] == "clipping"
        assert await lab.get(f"/analyse/{job_id}/result.json") == result
        assert lab.analyse.seen == [b"RIFF audio"]


async def test_downloads_of_frames():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        (job_id,) = await send(lab, ("a.wav", b"x"), granularity="frame")
        result = (await until_done(lab, job_id))["result"]
        frames = result["channels"][0]["frames"]
        assert (frames["start_samples"][:2], frames["hop_samples"]) == ([0, 320], 320)
        assert frames["labels"] == ["neutral"] * 4
        path = f"/api/v1/analyse/{job_id}"
        rows = list(
            csv.DictReader(io.StringIO(await (await lab.client.get(f"{path}/result.csv")).text()))
        )
        assert len(rows) == 8
        assert (rows[5]["channel"], rows[5]["start_s"], rows[5]["label"]) == (
            "1",
            "0.02",
            "neutral",
        )
        assert await lab.get(f"/analyse/{job_id}/result.json") == result
        # The second and third of four, as finely as they are kept.
        part = await lab.get(f"/analyse/{job_id}/frames?channel=1&from_s=0.02&to_s=0.06")
        assert (part["start_samples"], part["hop_samples"]) == ([320, 640], 320)
        assert part["posteriors"] == [
            pytest.approx(row, abs=1e-4) for row in frames["posteriors"][1:3]
        ]
        assert (await lab.get(f"/analyse/{job_id}/audio.flac", 404))["code"] == "not_found"
        annotations = await lab.client.get(f"{path}/annotations?format=textgrid")
        assert annotations.headers["Content-Disposition"].endswith("''a.TextGrid")
        assert 'name = "emotion 1"' in await annotations.text()
        heard = [{"start_s": 0.02, "end_s": 0.06, "label": "neutral"}]
        assert (await lab.get(f"/analyse/{job_id}/labels"))["tiers"] == []
        await lab.ask("PUT", f"/analyse/{job_id}/labels/1", 204, json={"labels": heard})
        await lab.ask("PUT", f"/analyse/{job_id}/labels/2", 404, json={"labels": heard})
        wrong = [{**heard[0], "label": "bored"}]
        await lab.ask("PUT", f"/analyse/{job_id}/labels/1", 400, json={"labels": wrong})
        (tier,) = (await lab.get(f"/analyse/{job_id}/labels"))["tiers"]
        assert (tier["who"], tier["channel"], tier["labels"]) == ("machine", 1, heard)
        # The stand-in for an analysis finds no segments, so there is nothing to agree with.
        assert tier["agreement"]["seconds"] == 0
        for kind in ("textgrid", "eaf", "audacity"):
            text = await (await lab.client.get(f"{path}/annotations?format={kind}")).text()
            assert "machine 1" in text
        await lab.ask("PUT", f"/analyse/{job_id}/labels/1", 204, json={"labels": []})
        assert (await lab.get(f"/analyse/{job_id}/labels"))["tiers"] == []
        for query, shape in (("", (2, 4, 3)), ("?channel=1", (4, 3))):
            data = await (await lab.client.get(f"{path}/embedding.npy{query}")).read()
            assert np.load(io.BytesIO(data)).shape == shape
        assert (await lab.get(f"/analyse/{job_id}/embedding.npy?channel=2", 404))["code"]


async def test_a_speaker_of_a_file_is_called_by_the_name_that_somebody_gave(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.analyse.gate.set()
        (job_id,) = await send(lab, ("a.wav", b"x"))
        assert (await until_done(lab, job_id))["speakers"] == {}
        path, named = f"/analyse/{job_id}/speakers/1", {"speaker": "speaker 1", "name": "Ms Li"}
        await lab.ask("PUT", path, 204, json=named)
        await lab.ask("PUT", path, 404, json={**named, "speaker": "speaker 2"})
        await lab.ask("PUT", f"/analyse/{job_id}/speakers/2", 404, json=named)
        job = await lab.get(f"/analyse/{job_id}")
        assert job["speakers"] == {"1": {"speaker 1": "Ms Li"}}
        # Names are of this file, its result stays what it was.
        assert job["result"]["channels"][1]["speakers"][0]["name"] == "speaker 1"
        for file in ("annotations?format=eaf", "report.html"):
            answer = await lab.client.get(f"/api/v1/analyse/{job_id}/{file}")
            text = await answer.text()
            assert "Ms Li" in text and "peaker 1" in text, file
        assert lab.store is not None
        assert await lab.store.find_person(["Ms Li"]) == ([], [job_id])


async def test_one_file_at_a_time_in_their_order():
    async with serve_dashboard() as lab:
        jobs = await send(lab, ("a.wav", b"a"), ("b.wav", b"b"), ("c.wav", b"c"))
        assert [(await lab.get(f"/analyse/{one}"))["before"] for one in jobs] == [0, 1, 2]
        assert [await state_of(lab, one) for one in jobs] == ["running", "waiting", "waiting"]
        lab.analyse.gate.set()
        for job_id in jobs:
            await until_done(lab, job_id)
        assert lab.analyse.seen == [b"a", b"b", b"c"]
        assert lab.analyse.most == 1


async def test_files_beyond_those_that_may_wait_are_refused():
    async with serve_dashboard(config=limited(max_waiting=2)) as lab:
        await send(lab, ("a.wav", b"a"))
        await until_running(lab, 1)
        await send(lab, ("b.wav", b"b"), ("c.wav", b"c"))
        answer = await lab.client.post("/api/v1/analyse", data=form(("d.wav", b"d")))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert (await answer.json())["code"] == "too_many_jobs"
        assert (await lab.ask("POST", "/analyse/sample", 503))["code"] == "too_many_jobs"
        lab.analyse.gate.set()


async def test_a_form_that_does_not_fit_as_a_whole_is_refused_as_a_whole():
    async with serve_dashboard(config=limited(max_waiting=2)) as lab:
        files = [(f"{number}.wav", b"x") for number in range(3)]
        await lab.ask("POST", "/analyse", 503, data=form(*files))
        assert await send(lab, *files[:2]), "the places are free again"
        lab.analyse.gate.set()


async def until_running(lab: DashboardLab, count: int) -> None:
    while lab.analyse.running < count:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)


async def test_what_cannot_be_analysed_gets_one_clear_error():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        bad, bug, good = await send(lab, ("a.txt", b"bad"), ("b.wav", b"bug"), ("c.wav", b"good"))
        job = await until_done(lab, bad)
        assert (job["state"], job["error"]["code"]) == ("failed", "bad_audio")
        assert job["error"]["message"] == "got text, expected audio"
        assert (await lab.get(f"/analyse/{bad}/result.csv", 422))["code"] == "bad_audio"
        assert (await until_done(lab, bug))["error"]["code"] == "failed"
        assert (await until_done(lab, good))["state"] == "done"


async def test_files_are_deleted_whatever_becomes_of_them():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        for job_id in await send(lab, ("a", b"good"), ("b", b"bad"), ("c", b"bug")):
            await until_done(lab, job_id)
        lab.analyse.gate.clear()
        running, waiting = await send(lab, ("d", b"d"), ("e", b"e"))
        await until_running(lab, 1)
        paths = list(lab.analyse.paths)
        folder = paths[0].parent
        await lab.ask("DELETE", f"/analyse/{waiting}", 204)
        await lab.ask("DELETE", f"/analyse/{running}", 204)
        while lab.analyse.running:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        assert lab.analyse.cancelled == 1
        for data in (form(("f", b"")), form(("g", b"x"), granularity="words")):
            await lab.ask("POST", "/analyse", 400, data=data)
        async with asyncio.timeout(5):
            while any(folder.iterdir()):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0)
    assert not folder.exists()


async def test_the_end_of_the_server_ends_an_analysis():
    async with serve_dashboard() as lab:
        await send(lab, ("a.wav", b"a"))
        await until_running(lab, 1)
        folder = lab.analyse.paths[0].parent
    assert lab.analyse.cancelled == 1
    assert not folder.exists()


async def test_names_of_files_touch_no_file_system():
    async with serve_dashboard() as lab:
        (job_id,) = await send(lab, ("../../etc/passwd", b"x"))
        assert (await lab.get(f"/analyse/{job_id}"))["name"] == "passwd"
        await until_running(lab, 1)
        assert "passwd" not in str(lab.analyse.paths[0])
        lab.analyse.gate.set()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("call.wav", "call.wav"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\call.wav", "call.wav"),
        ("..", "recording"),
        ("", "recording"),
        ("a\x00b\u202e.wav", "ab.wav"),
        ("通话.wav", "通话.wav"),
        ("x" * 500, "x" * 120),
    ],
)
def test_names_are_made_showable(name: str, shown: str):
    assert clean_name(name) == shown


async def test_a_file_beyond_the_limit_is_refused():
    async with serve_dashboard(config=limited(max_file_mb=1)) as lab:
        await send(lab, ("a.wav", b"x" * (1 << 20)))
        error = await lab.ask(
            "POST", "/analyse", 413, data=form(("b.wav", b"x" * (1 << 20) + b"x"))
        )
        assert error["code"] == "file_too_big"
        assert "1 MiB" in error["message"]
        lab.analyse.gate.set()


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"{}", "application/json"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut o',
            "multipart/form-data; boundary=x",
        ),
    ],
)
async def test_forms_that_are_none(data: bytes, content_type: str):
    async with serve_dashboard() as lab:
        headers = {"Content-Type": content_type}
        error = await lab.ask("POST", "/analyse", 400, data=data, headers=headers)
        assert error["code"] == "bad_request"


@virtual_time
async def test_an_upload_that_stalls_gives_its_place_back():
    async def stalling() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF'
        await asyncio.sleep(1000)

    async with serve_dashboard(config=limited(max_waiting=1)) as lab:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        error = await lab.ask("POST", "/analyse", 400, data=stalling(), headers=headers)
        assert "for 30 s" in error["message"]
        lab.analyse.gate.set()
        with current_loop().frozen():
            assert await send(lab, ("a.wav", b"x"))


async def test_a_form_without_a_file():
    async with serve_dashboard() as lab:
        data = aiohttp.MultipartWriter("form-data")
        part = data.append("frame")
        part.set_content_disposition("form-data", name="granularity")
        error = await lab.ask("POST", "/analyse", 400, data=data)
        assert error["message"] == "the form has no file, expected one or more"


async def test_the_sample_is_analysed():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        body = await lab.ask("POST", "/analyse/sample", 202, json={"granularity": "frame"})
        job = await until_done(lab, body["job_id"])
        assert (job["name"], job["granularity"]) == ("Sample call.wav", "frame")
        assert lab.analyse.seen == [b"RIFF sample"]
        error = await lab.ask("POST", "/analyse/sample", 400, json={"granularity": "word"})
        assert error["code"] == "bad_request"


async def test_nothing_is_taken_while_the_model_is_being_loaded():
    async with serve_dashboard(is_ready=False) as lab:
        error = await lab.ask("POST", "/analyse", 503, data=form(("a", b"x")))
        assert error["code"] == "not_ready"


async def test_unknown_jobs():
    async with serve_dashboard() as lab:
        for path in ("", "/result.json", "/result.csv", "/embedding.npy"):
            assert (await lab.get(f"/analyse/nobody{path}", 404))["code"] == "not_found"
        await lab.ask("DELETE", "/analyse/nobody", 404)


async def test_the_list_has_the_newest_first_by_pages():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        first, second, bad = await send(lab, ("a", b"1"), ("b", b"2"), ("c", b"bad"))
        await until_done(lab, bad)
        lab.analyse.gate.clear()
        (waits,) = await send(lab, ("d", b"4"), granularity="stream")
        page = await lab.get("/analyse")
        assert [job["job_id"] for job in page["jobs"]] == [waits, bad, second, first]
        assert (page["waiting"], page["running"]) in ((1, 0), (0, 1))
        newest, failed, _, oldest = page["jobs"]
        assert newest["options"]["granularity"] == "stream"
        assert failed["error"]["code"] == "bad_audio"
        assert oldest["summary"]["channels"][1]["label"] == "neutral"
        assert oldest["summary"]["warnings"] == ["clipping"]
        assert (oldest["size_bytes"], oldest["duration_s"]) == (1, 0.08)
        assert oldest["created_at"] <= oldest["started_at"] <= oldest["finished_at"]
        page = await lab.get("/analyse?limit=2&offset=1")
        assert [job["job_id"] for job in page["jobs"]] == [bad, second]
        page = await lab.get("/analyse?state=done,failed&limit=1")
        assert [job["job_id"] for job in page["jobs"]] == [bad]
        assert (await lab.get("/analyse?state=lost", 400))["code"] == "bad_request"
        lab.analyse.gate.set()


async def test_jobs_are_stopped():
    async with serve_dashboard() as lab:
        running, waiting = await send(lab, ("a", b"a"), ("b", b"b"))
        await until_running(lab, 1)
        for job_id in (waiting, running, running):
            job = await lab.ask("POST", f"/analyse/{job_id}/cancel")
            assert (job["state"], job["job_id"]) == ("cancelled", job_id)
        assert lab.analyse.cancelled == 1
        error = await lab.get(f"/analyse/{running}/result.csv", 409)
        assert error["code"] == "was_cancelled"
        await lab.ask("POST", "/analyse/nobody/cancel", 404)


async def test_options_come_from_the_form_then_from_the_preset():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        data = form(("a", b"x"))
        data.add_field("preset", "research")
        data.add_field("frame_hop_ms", "20")
        job_id = (await lab.ask("POST", "/analyse", 202, data=data))["job_id"]
        assert (await until_done(lab, job_id))["options"] == {
            "granularity": "frame",
            "frame_hop_ms": 20,
            "embeddings": True,
            "speakers": False,
            "roles": [],
            "preset": "research",
        }
        body = await lab.ask("POST", "/analyse/sample", 202, json={"preset": "research"})
        assert (await lab.get(f"/analyse/{body['job_id']}"))["options"]["frame_hop_ms"] == 10
        assert (await lab.get("/info"))["presets"]["research"]["embeddings"] is True


async def test_the_form_of_the_web_demo():
    async with serve_dashboard() as lab:
        lab.analyse.gate.set()
        whole, frames = [
            (await send(lab, ("a", b"x"), granularity=one))[0] for one in ("utterance", "frame")
        ]
        (stream,) = await send(lab, ("a", b"x"), granularity="stream")
        await until_done(lab, stream)
        path = f"/analyse/{whole}/result.json?form=demo"
        assert set(await lab.get(f"{path}&channel=0")) == {"emotion", "confidence", "granularity"}
        assert [one["channel"] for one in await lab.get(path)] == [0, 1]
        assert (await lab.get(f"{path}&channel=2", 404))["code"] == "not_found"
        found = await lab.get(f"/analyse/{frames}/result.json?form=demo&channel=1&scores=true")
        assert set(found[0]) == {"time", "emotion", "score", "scores"}
        error = await lab.get(f"/analyse/{stream}/result.json?form=demo", 404)
        assert "expected an utterance or frames" in error["message"]


async def test_results_outlive_the_server_where_there_is_a_store(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.analyse.gate.set()
        (job_id,) = await send(lab, ("call.wav", b"RIFF"), granularity="frame")
        before = await until_done(lab, job_id)
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        assert await lab.get(f"/analyse/{job_id}") == before
        assert await lab.get(f"/analyse/{job_id}/result.json") == before["result"]
        names = await lab.client.get(f"/api/v1/analyse/{job_id}/result.zip")
        assert names.headers["Content-Disposition"] == "attachment; filename*=UTF-8''call.zip"
        await lab.ask("DELETE", f"/analyse/{job_id}", 204)
        await lab.get(f"/analyse/{job_id}/log.txt", 404)
