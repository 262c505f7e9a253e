from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.config import DashboardConfig
from dashboard.pages import plotly_bundle
from tests.support.dashboard_lab import serve_dashboard


@pytest.fixture
def static_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    (folder / "js").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>x</title>")
    (folder / "js" / "main.js").write_text("export {};")
    (folder / "favicon.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.mark.parametrize(
    "path", ["/", "/streams/s1", "/microphone", "/analyse", "/alerts", "/history"]
)
async def test_every_page_is_the_shell(path: str, static_dir: Path):
    async with serve_dashboard(static_dir=static_dir) as lab:
        answer = await lab.client.get(path)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "<title>x</title>" in await answer.text()


async def test_the_policy_is_strict(static_dir: Path):
    async with serve_dashboard(static_dir=static_dir) as lab:
        answer = await lab.client.get("/", headers={"Host": "localhost:7860"})
        policy = dict(
            part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; ")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["connect-src"] == "'self' ws://localhost:7860 ws://localhost:8765"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe-eval" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Permissions-Policy"].startswith("microphone=(self)")


async def test_the_policy_names_the_ingest_of_a_proxy(static_dir: Path):
    config = DashboardConfig(ingest_url="wss://monitor.example.org/ingest")
    async with serve_dashboard(config=config, static_dir=static_dir) as lab:
        policy = (await lab.client.get("/")).headers["Content-Security-Policy"]
        assert " wss://monitor.example.org;" in policy


async def test_files_are_asked_for_anew_but_sent_only_when_changed(static_dir: Path):
    async with serve_dashboard(static_dir=static_dir) as lab:
        answer = await lab.client.get("/static/js/main.js")
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        headers = {"If-None-Match": answer.headers["ETag"]}
        assert (await lab.client.get("/static/js/main.js", headers=headers)).status == 304
        icon = await lab.client.get("/favicon.ico")
        assert icon.headers["Content-Type"].startswith("image/svg+xml")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../secret.txt",
        "/static/..%2fsecret.txt",
        "/static/js/..%2f..%2f..%2fsecret.txt",
        "/static/%2e%2e/secret.txt",
        "/static//etc/passwd",
        "/static/js",
        "/static/nothing.js",
        "/static/x%00",
        "/nothing",
    ],
)
async def test_nothing_else_is_served(path: str, static_dir: Path):
    async with serve_dashboard(static_dir=static_dir) as lab:
        url = str(lab.client.make_url("/")).rstrip("/") + path
        from yarl import URL

        answer = await lab.client.session.get(URL(url, encoded=True))
        assert answer.status == 404
        assert "secret" not in await answer.text()


async def test_plotly_comes_from_its_package(static_dir: Path):
    bundle = plotly_bundle()
    assert bundle is not None
    path, version = bundle
    async with serve_dashboard(static_dir=static_dir) as lab:
        answer = await lab.client.head(f"/static/plotly.min.js?v={version}")
        assert int(answer.headers["Content-Length"]) == path.stat().st_size
        assert "immutable" in answer.headers["Cache-Control"]
        for query in ("", "?v=1"):
            answer = await lab.client.head(f"/static/plotly.min.js{query}")
            assert answer.headers["Cache-Control"] == "no-cache"


async def test_without_the_files_it_is_said_so(tmp_path: Path):
    async with serve_dashboard(static_dir=tmp_path) as lab:
        answer = await lab.client.get("/")
        assert "not installed" in await answer.text()
        assert (await lab.client.get("/favicon.ico")).status == 404
