"""The OpenAPI file against the handlers, and what they answer against the file."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from dashboard.api.routes import PREFIX
from dashboard.errors import API_ERRORS
from tests.requirements import REPOSITORY
from tests.support.dashboard_lab import DashboardLab, serve_dashboard
from tests.support.json_schema import violations
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_opened,
    make_points,
    make_segment,
    make_summary,
)

_METHODS = {"get", "post", "delete", "put", "patch"}


async def test_every_handler_is_described_and_nothing_else():
    async with serve_dashboard() as lab:
        document = await lab.get("/openapi.json")
        described = {
            (method.upper(), path) for path, item in document["paths"].items() for method in item
        }
        served = {
            (route.method, resource.canonical)
            for resource in lab.client.app.router.resources()
            for route in resource
            if resource.canonical.startswith(PREFIX) and route.method not in ("*", "HEAD")
        }
        assert described == served


async def test_the_file_holds_together():
    async with serve_dashboard() as lab:
        document = await lab.get("/openapi.json")
        assert document["openapi"].startswith("3.1")
        text = msgspec.json.encode(document).decode()
        schemas = document["components"]["schemas"]
        for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
            assert name in schemas
        ids = [
            operation["operationId"]
            for item in document["paths"].values()
            for operation in item.values()
        ]
        assert len(set(ids)) == len(ids)
        for path, item in document["paths"].items():
            for method, operation in item.items():
                assert method in _METHODS
                parts = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
                assert parts == set(re.findall(r"{(\w+)}", path))


class Checker:
    """Asks, and holds the answer against the file."""

    def __init__(self, lab: DashboardLab, document: dict[str, Any]) -> None:
        self.lab = lab
        self.document = document
        self.asked: set[tuple[str, str]] = set()

    async def ask(self, method: str, path: str, status: int, template: str = "", **options: Any):
        template = PREFIX + (template or path.partition("?")[0])
        operation = self.document["paths"][template][method.lower()]
        self.asked.add((method, template))
        answer = await self.lab.client.request(method, PREFIX + path, **options)
        body = await answer.read()
        assert answer.status == status, body
        described = operation["responses"][str(status)]
        content = described.get("content", {})
        if not content:
            assert body == b""
            return None
        (kind,) = content
        assert answer.content_type == kind
        if kind != "application/json":
            return body
        value = msgspec.json.decode(body)
        assert list(violations(value, content[kind]["schema"], self.document)) == []
        return value


def file_form() -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(b"x"), filename="a.wav")
    data.add_field("granularity", "frame")
    return data


async def test_answers_are_what_is_described(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        check = Checker(lab, await lab.get("/openapi.json"))
        lab.publish(make_opened(), *make_points([0.9] * 4))
        lab.publish(make_segment(seq=5), make_gap(seq=6), make_alert(seq=7, alert_id="a1"))
        lab.publish(make_opened("s2"), make_summary("s2"), make_closed("s2"))
        one = "/streams/{stream_id}"
        for path in (
            *("/info", "/models", "/config", "/openapi.json", "/results.schema.json"),
            "/streams",
        ):
            await check.ask("GET", path, 200)
        await check.ask("GET", "/streams?limit=x", 400)
        for stream_id in ("s1", "s2"):
            await check.ask("GET", f"/streams/{stream_id}", 200, one)
            await check.ask("GET", f"/streams/{stream_id}/results", 200, f"{one}/results")
            for name in ("points.csv", "annotations", "report.html"):
                await check.ask("GET", f"/streams/{stream_id}/{name}", 200, f"{one}/{name}")
        heard = [{"start_s": 0.0, "end_s": 1.0, "label": "angry"}]
        labels = f"{one}/labels/{{channel}}"
        await check.ask("PUT", "/streams/s1/labels/0", 204, labels, json={"labels": heard})
        await check.ask("GET", "/streams/s1/labels", 200, f"{one}/labels")
        await check.ask("GET", "/streams/s9", 404, one)
        await check.ask("GET", "/streams/s1/recording/0", 404, one + "/recording/{channel}")
        await check.ask("DELETE", "/streams/s1", 409, one)
        named = {"speaker": "speaker 1"}
        for stream_id, status in (("s1", 204), ("s2", 409), ("s9", 404)):
            path = f"/streams/{stream_id}/speakers"
            await check.ask("POST", path, status, f"{one}/speakers", json=named)
        called = {"speaker": "speaker 1", "name": "Ms Li"}
        path = f"{one}/speakers/{{channel}}"
        await check.ask("PUT", "/streams/s1/speakers/0", 204, path, json=called)
        given = {"consent": "given"}
        for stream_id, status in (("s1", 204), ("s2", 409)):
            path = f"/streams/{stream_id}/consent"
            await check.ask("POST", path, status, f"{one}/consent", json=given)
        await check.ask("POST", "/streams/s1/objection", 204, f"{one}/objection")
        await check.ask("DELETE", "/streams/s2", 204, one)
        await check.ask("POST", "/streams/delete", 200, json={"stream_ids": ["s1", "s2"]})
        override = "/alerts/{alert_id}/override"
        await check.ask("POST", "/alerts/a1/override", 204, override, json={"reason": "a laugh"})
        for path in ("/oversight", "/ledger", "/decisions", "/decisions.csv"):
            await check.ask("GET", path, 200)
        await check.ask("POST", "/oversight", 200, json={"halted": True, "reason": "to look"})
        for path in ("find", "export", "erase"):
            await check.ask("POST", f"/person/{path}", 200, json={"value": "+49 170 5550123"})
        await check.ask("POST", "/alerts/a1/acknowledge", 200, "/alerts/{alert_id}/acknowledge")
        await check.ask("GET", "/alerts", 200)
        await check.ask("GET", "/alerts/precision", 200)
        await check.ask("GET", "/alerts/a1", 200, "/alerts/{alert_id}")
        judge = "/alerts/{alert_id}/judge"
        await check.ask("POST", "/alerts/a1/judge", 200, judge, json={"verdict": "right"})
        assign = "/alerts/{alert_id}/assign"
        await check.ask("POST", "/alerts/a1/assign", 200, assign, json={"to": "Ms Li"})
        await check.ask("GET", "/audit", 200)
        await check.ask("GET", "/audit.csv", 200)
        await check.ask("POST", "/sample-call", 201)
        await check.ask("POST", "/sample-call", 503)
        await check.ask("GET", "/live", 400)
        await self_check_jobs(check)
        described = {
            (method.upper(), path)
            for path, item in check.document["paths"].items()
            for method in item
        }
        assert check.asked == described, "every handler was asked"


async def self_check_jobs(check: Checker) -> None:
    lab, one = check.lab, "/analyse/{job_id}"
    accepted = await check.ask("POST", "/analyse", 202, data=file_form())
    sample = await check.ask("POST", "/analyse/sample", 202)
    job_id = accepted["job_id"]
    await check.ask("GET", f"/analyse/{job_id}", 200, one)
    await check.ask("GET", f"/analyse/{job_id}/result.json", 409, f"{one}/result.json")
    lab.analyse.gate.set()
    while (await check.ask("GET", f"/analyse/{job_id}", 200, one))["state"] != "done":
        pass
    names = (
        *("result.json", "result.csv", "annotations", "embedding.npy", "log.txt", "result.zip"),
        *("report.html", "frames", "labels"),
    )
    for name in names:
        await check.ask("GET", f"/analyse/{job_id}/{name}", 200, f"{one}/{name}")
    said = f"{one}/labels/{{channel}}"
    await check.ask("PUT", f"/analyse/{job_id}/labels/0", 204, said, json={"labels": []})
    named, path = {"speaker": "speaker 1", "name": "Ms Li"}, f"{one}/speakers/{{channel}}"
    await check.ask("PUT", f"/analyse/{job_id}/speakers/0", 204, path, json=named)
    await check.ask("GET", f"/analyse/{job_id}/audio.flac", 404, f"{one}/audio.flac")
    parquet = 200 if find_spec("pyarrow") else 501
    await check.ask("GET", f"/analyse/{job_id}/result.parquet", parquet, f"{one}/result.parquet")
    await check.ask("GET", "/analyse?state=done,failed", 200)
    await check.ask("POST", f"/analyse/{sample['job_id']}/cancel", 200, f"{one}/cancel")
    await check.ask("DELETE", f"/analyse/{sample['job_id']}", 204, one)
    await check.ask("DELETE", f"/analyse/{sample['job_id']}", 404, one)


def test_the_checker_finds_what_is_wrong():
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "null"}]}},
        "additionalProperties": False,
    }
    wrong: list[Any] = [{}, {"a": "1"}, {"a": True}, {"a": 1, "c": 1}, {"a": 1, "b": 2}, []]
    for value in wrong:
        assert list(violations(value, schema, {}))
    assert not list(violations({"a": 1, "b": None}, schema, {}))


class TestThePage:
    """docs/reference/api.md."""

    @pytest.fixture
    def text(self) -> str:
        return (REPOSITORY / "docs" / "reference" / "api.md").read_text(encoding="utf-8")

    async def test_names_every_path(self, text: str):
        async with serve_dashboard() as lab:
            for route in lab.dashboard.routes:
                path = re.sub(r"{(\w+?)(_id)?}", lambda found: found[1].upper(), route.path)
                assert f"`{route.method} {path}`" in text, f"{route.method} {path}"

    async def test_names_every_parameter(self, text: str):
        async with serve_dashboard() as lab:
            for route in lab.dashboard.routes:
                for param in route.params:
                    assert f"`{param.name}" in text

    def test_has_every_error(self, text: str):
        rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE))
        assert rows == {code: str(status) for code, (status, _) in API_ERRORS.items()}
