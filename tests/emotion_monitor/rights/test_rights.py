"""Consent, notice, objection, oversight and one person's data, through the whole server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from stream_server.server import Server
from tests.support.results import make_alert, make_closed, make_opened
from tests.support.whole_server import whole_server

CALLER = "+49 170 5550123"
RATE = 16_000
SECOND = (np.sin(np.arange(RATE) * 0.05) * 8000).astype("<i2").tobytes()


@asynccontextmanager
async def asked(folder: Path, *assignments: str) -> AsyncIterator[tuple[Server, Any]]:
    async with (
        whole_server(folder, *assignments) as server,
        aiohttp.ClientSession(server.http_url) as session,
    ):

        async def ask(method: str, path: str, body: Any = None, status: int = 200) -> Any:
            async with session.request(method, f"/api/v1{path}", json=body) as answer:
                data = await answer.read()
                assert answer.status == status, data
                if answer.content_type == "application/json":
                    return json.loads(data)
                return data

        yield server, ask


async def begin(socket: ClientConnection, **fields: Any) -> str:
    start = {"type": "start", "encoding": "pcm_s16le", "sample_rate": RATE, **fields}
    await socket.send(json.dumps(start))
    stream_id: str = json.loads(await socket.recv())["stream_id"]
    return stream_id


async def until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Return what comes up to the first message of a kind."""
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["type"] != kind:
        seen.append(json.loads(await socket.recv()))
    return seen


async def test_a_stream_is_neither_scored_nor_recorded_without_consent(tmp_path: Path):
    async with (
        asked(
            tmp_path,
            "stream_server.rights.require_consent=true",
            "stream_server.recording.enabled=true",
            f"stream_server.recording.dir={tmp_path}/recordings",
        ) as (server, ask),
        connect(server.ingest_url, proxy=None) as socket,
    ):
        stream_id = await begin(socket, metadata={"consent": "unknown"}, notice_version="3")
        (told,) = [each for each in await until(socket, "consent") if each["type"] == "consent"]
        assert (told["withheld"], told["notice_version"]) == ("no_consent", "3")
        await socket.send(SECOND)
        await socket.send(json.dumps({"type": "tell_consent", "consent": "given", "source": "ivr"}))
        assert (await until(socket, "consent"))[-1]["withheld"] is None
        await socket.send(SECOND)
        await socket.send(json.dumps({"type": "flush"}))
        await until(socket, "flushed")
        # Withdrawn by somebody else than the client, while the stream runs.
        path = f"/streams/{stream_id}"
        await ask("POST", f"{path}/consent", {"consent": "refused"}, 204)
        await ask("POST", f"{path}/consent", {"consent": "perhaps"}, 400)
        await until(socket, "consent")
        await socket.send(SECOND)
        await socket.send(json.dumps({"type": "stop"}))
        seen = await until(socket, "summary")
        gaps = seen[-1]["channels"][0]["gap_s"]
        assert gaps["no_consent"] == 2.0, gaps
        results = (await ask("GET", f"{path}/results"))["results"]
        kept = [one["consent"] for one in results if one["type"] == "consent"]
        assert kept == ["unknown", "given", "refused"]
        item = await ask("GET", path)
        assert (item["consent"], item["notice_version"]) == ("refused", "3")
        ledger = (await ask("GET", f"/ledger?stream={stream_id}"))["entries"]
        assert [one["source"] for one in ledger] == ["api:machine", "ivr", ""]
        while True:
            flac = await ask("GET", f"{path}/recording/0")
            samples, _ = soundfile.read(io.BytesIO(flac), dtype="int16")
            if len(samples) >= 3 * RATE - 4096:
                break
            await asyncio.sleep(0.02)
        assert not samples[:RATE].any()
        assert samples[RATE + 100 : 2 * RATE - 100].any()
        assert not samples[2 * RATE :].any()


async def test_an_objection_erases_the_stream_and_keeps_the_proof(tmp_path: Path):
    secret = "Erika Mustermann"
    async with (
        asked(
            tmp_path,
            "stream_server.rights.objection_key=9",
            "stream_server.recording.enabled=true",
            f"stream_server.recording.dir={tmp_path}/recordings",
        ) as (server, ask),
    ):
        for message in ({"type": "objection"}, {"type": "mark", "name": "dtmf", "key": "9"}, None):
            async with connect(server.ingest_url, proxy=None) as socket:
                stream_id = await begin(socket, name=secret, notice_version="3")
                await socket.send(SECOND)
                await socket.send(json.dumps({"type": "mark", "name": "dtmf", "key": "1"}))
                await socket.send(json.dumps({"type": "flush"}))
                await until(socket, "flushed")
                assert server.store is not None
                server.bus.publish(make_alert(alert_id=stream_id, stream_id=stream_id, seq=900))
                await server.store.flush()
                if message is None:
                    await ask("POST", f"/streams/{stream_id}/objection", status=204)
                else:
                    await socket.send(json.dumps(message))
                try:
                    seen = await until(socket, "error")
                    assert (seen[-1]["code"], seen[-1]["close_code"]) == ("objected", 4410)
                    await until(socket, "never")
                except ConnectionClosed:
                    pass
            await asyncio.gather(*server._erasing.values())
            await ask("GET", f"/streams/{stream_id}", status=404)
            assert not files_of(tmp_path, stream_id)
            ledger = (await ask("GET", f"/ledger?stream={stream_id}"))["entries"]
            assert [one["notice_version"] for one in ledger] == ["3"]
            decision = (await ask("GET", "/decisions"))["decisions"][0]
            assert (decision["kind"], decision["rule"]) == ("raised", "customer stays angry")
            assert (decision["stream_id"], decision["posterior"]) == ("", None)
            assert not in_files(tmp_path, secret)


def files_of(folder: Path, stream_id: str) -> list[Path]:
    return list(folder.rglob(f"{stream_id}*"))


async def until_done(ask: Any, job_id: str) -> None:
    while True:
        if (await ask("GET", f"/analyse/{job_id}"))["state"] == "done":
            return
        await asyncio.sleep(0.02)


def in_files(folder: Path, text: str) -> bool:
    """Whether a text is in the bytes of the database, its log or any other file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return any(text.encode() in path.read_bytes() for path in files)


async def test_an_overseer_halts_all_analysis_and_a_restart_does_not_undo_it(tmp_path: Path):
    async with asked(tmp_path) as (server, ask):
        async with connect(server.ingest_url, proxy=None) as socket:
            await begin(socket)
            await ask("POST", "/oversight", {"halted": True}, 400)
            view = await ask("POST", "/oversight", {"halted": True, "reason": "wrong labels"})
            assert view["halt"]["halted"] is True
            assert (await until(socket, "consent"))[-1]["withheld"] == "halted"
            await socket.send(SECOND)
            await socket.send(json.dumps({"type": "stop"}))
            summary = (await until(socket, "summary"))[-1]
            assert summary["channels"][0]["gap_s"] == {"halted": 1.0}
    async with asked(tmp_path) as (server, ask):
        view = await ask("GET", "/oversight")
        assert (view["halt"]["reason"], view["halt"]["halted"]) == ("wrong labels", True)
        form = aiohttp.FormData()
        wav = io.BytesIO()
        soundfile.write(wav, np.frombuffer(SECOND, "<i2"), RATE, format="WAV")
        form.add_field("file", wav.getvalue(), filename="a.wav")
        async with aiohttp.ClientSession(server.http_url) as session:
            answer = await session.post("/api/v1/analyse", data=form)
            job_id = (await answer.json())["job_id"]
        async with connect(server.ingest_url, proxy=None) as socket:
            await begin(socket)
            assert (await until(socket, "consent"))[-1]["withheld"] == "halted"
            assert (await ask("GET", f"/analyse/{job_id}"))["state"] in ("waiting", "running")
            await ask("POST", "/oversight", {"halted": False, "reason": "looked into"})
            assert (await until(socket, "consent"))[-1]["withheld"] is None
        await until_done(ask, job_id)
        actions = [one["action"] for one in (await ask("GET", "/audit"))["entries"]]
        assert {"analysis_halted", "analysis_resumed"} <= set(actions)


async def test_decisions_say_who_acknowledged_and_who_overrode(tmp_path: Path):
    async with asked(tmp_path) as (server, ask):
        opened = msgspec.structs.replace(make_opened("s"), model_sha256="abc")
        server.bus.publish(opened)
        server.bus.publish(make_alert(alert_id="a", stream_id="s", seq=1))
        await ask("POST", "/alerts/a/acknowledge", {"note": "called back"})
        await ask("POST", "/alerts/a/override", {"reason": "it was laughter"}, 204)
        decisions = (await ask("GET", "/decisions"))["decisions"]
        assert [(one["kind"], one["who"], one["note"]) for one in decisions] == [
            ("overridden", "machine", "it was laughter"),
            ("acknowledged", "machine", "called back"),
            ("raised", "", ""),
        ]
        assert {one["model_sha256"] for one in decisions} == {"abc"}
        assert b"it was laughter" in await ask("GET", "/decisions.csv")
        # They outlive the stream.
        server.bus.publish(make_closed(stream_id="s", seq=2))
        assert server.store is not None
        await server.store.flush()
        await ask("DELETE", "/streams/s", status=204)
        assert len((await ask("GET", "/decisions"))["decisions"]) == 3


async def test_a_stream_without_notice_is_not_begun(tmp_path: Path):
    async with asked(
        tmp_path,
        "stream_server.rights.require_notice=refuse",
        "stream_server.rights.notice_version=2026-11",
        "stream_server.rights.notice_texts={en: You are analysed.}",
    ) as (server, ask):
        assert (await ask("GET", "/info"))["notice"]["texts"] == {"en": "You are analysed."}
        for version, kind in (("", "error"), ("2025", "error"), ("2026-11", "ready")):
            url = f"{server.ingest_url}/?notice_version={version}&notice_how=spoken"
            async with connect(url, proxy=None) as socket:
                first = json.loads(await socket.recv())
                assert first["type"] == kind
                assert kind == "ready" or first["code"] == "no_notice"


async def test_what_is_kept_of_one_person_is_found_exported_and_erased(tmp_path: Path):
    async with asked(
        tmp_path,
        "stream_server.rights.pseudonymised_metadata=[caller]",
        "stream_server.recording.enabled=true",
        f"stream_server.recording.dir={tmp_path}/recordings",
    ) as (server, ask):
        ids = []
        for caller in (CALLER, "+1 555 0100"):
            async with connect(server.ingest_url, proxy=None) as socket:
                ids.append(
                    await begin(socket, name=f"call of {caller}", metadata={"caller": caller})
                )
                await socket.send(SECOND)
                await socket.send(json.dumps({"type": "stop"}))
                await until(socket, "summary")
        assert not in_files(tmp_path, f'"caller": "{CALLER}"')
        form = aiohttp.FormData()
        form.add_field("meta.caller", CALLER)
        wav = io.BytesIO()
        soundfile.write(wav, np.frombuffer(SECOND, "<i2"), RATE, format="WAV")
        form.add_field("file", wav.getvalue(), filename=f"{CALLER}.wav")
        async with aiohttp.ClientSession(server.http_url) as session:
            answer = await session.post("/api/v1/analyse", data=form)
            job_id = (await answer.json())["job_id"]
        await until_done(ask, job_id)
        person = await ask("POST", "/person/find", {"value": CALLER})
        assert [one["stream_id"] for one in person["streams"]] == ids[:1]
        assert [one["job_id"] for one in person["files"]] == [job_id]
        assert person["streams"][0]["metadata"]["caller"].startswith("hmac:")
        data = await ask("POST", "/person/export", {"value": CALLER, "name": "caller"})
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        assert f"streams/{ids[0]}/results.json" in names
        assert f"files/{job_id}/result.json" in names
        assert in_files(tmp_path, CALLER)  # in the name of the stream
        erased = await ask("POST", "/person/erase", {"value": CALLER})
        assert erased == {"streams": 1, "files": 1, "is_complete": True}
        assert not in_files(tmp_path, CALLER)
        assert not files_of(tmp_path, ids[0])
        (left,) = (await ask("GET", "/streams"))["streams"]
        assert left["stream_id"] == ids[1]
        # Many at once.
        answer = await ask("POST", "/streams/delete", {"stream_ids": [ids[1], "unknown"]})
        assert answer == {"deleted": 1, "live": [], "unknown": ["unknown"]}
        actions = [one["action"] for one in (await ask("GET", "/audit"))["entries"]]
        assert {"person_found", "person_exported", "person_erased"} <= set(actions)


async def test_audio_is_encrypted_on_the_disk_and_heard_all_the_same(tmp_path: Path):
    key = base64.b64encode(bytes(range(32))).decode()
    async with asked(
        tmp_path,
        f"stream_server.encryption.keys=[{key}]",
        "stream_server.recording.enabled=true",
        f"stream_server.recording.dir={tmp_path}/recordings",
    ) as (server, ask):
        async with connect(server.ingest_url, proxy=None) as socket:
            stream_id = await begin(socket)
            await socket.send(3 * SECOND)
            await socket.send(json.dumps({"type": "stop"}))
            await until(socket, "summary")
        assert server.recordings is not None
        await server.recordings.close()
        (path,) = files_of(tmp_path / "recordings", stream_id)
        assert path.read_bytes().startswith(b"EMATREST")
        whole = await ask("GET", f"/streams/{stream_id}/recording/0")
        samples, _ = soundfile.read(io.BytesIO(whole), dtype="int16")
        assert (samples[: 3 * RATE] == np.frombuffer(3 * SECOND, "<i2")).all()
        async with aiohttp.ClientSession(server.http_url) as session:
            url = f"/api/v1/streams/{stream_id}/recording/0"
            async with session.get(url, headers={"Range": "bytes=17000-17099"}) as answer:
                assert answer.status == 206
                assert answer.headers["Content-Range"] == f"bytes 17000-17099/{len(whole)}"
                assert await answer.read() == whole[17_000:17_100]
            # A file that waits for its analysis.
            await ask("POST", "/oversight", {"halted": True, "reason": "so that it waits"})
            form = aiohttp.FormData()
            wav = io.BytesIO()
            soundfile.write(wav, np.frombuffer(SECOND, "<i2"), RATE, format="WAV")
            form.add_field("file", wav.getvalue(), filename="a.wav")
            answer = await session.post("/api/v1/analyse", data=form)
            job_id = (await answer.json())["job_id"]
        (upload,) = [path for path in files_of(tmp_path, job_id) if path.is_file()]
        assert upload.read_bytes().startswith(b"EMATREST")
        assert not in_files(tmp_path, "WAVEfmt")
        await ask("POST", "/oversight", {"halted": False, "reason": "seen"})
        await until_done(ask, job_id)
        assert (await ask("GET", f"/analyse/{job_id}"))["duration_s"] == 1.0
