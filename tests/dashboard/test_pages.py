from __future__ import annotations

import re
from pathlib import Path

import pytest
from yarl import URL

from dashboard.config import DashboardConfig
from dashboard.pages import PAGES, PAGES_DIR
from dashboard.shell import SHELL_DIR, plotly_bundle
from tests.support.dashboard_lab import serve_dashboard


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "dashboard"
    (root / "shell").mkdir(parents=True)
    (root / "pages" / "wall").mkdir(parents=True)
    (root / "shell" / "index.html").write_text(
        "<!doctype html><title>x</title><!-- styles of the pages -->"
    )
    (root / "shell" / "main.js").write_text("export {};")
    (root / "shell" / "favicon.svg").write_text("<svg/>")
    (root / "pages" / "wall" / "routes.py").write_text("secret = 1")
    (root / "secret.js").write_text("secret")
    return root


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_a_folder(page):
    names = {path.name for path in (PAGES_DIR / page.name).iterdir()}
    assert {"page.js", "style.css", "words.en.js", "words.zh.js"} <= names


def test_every_folder_is_a_page():
    folders = {path.parent.name for path in PAGES_DIR.glob("*/page.js")}
    assert folders == {page.name for page in PAGES}


def test_a_page_imports_from_its_own_folder_and_the_shell_only():
    for page in PAGES:
        for script in sorted((PAGES_DIR / page.name).glob("*.js")):
            source = script.read_text("utf-8")
            for name in re.findall(r'(?:^import [^"]*|\bimport\()"([^"]+)"', source, re.M):
                target = (script.parent / name).resolve()
                assert target.is_file(), f"{page.name}/{script.name}: {name}"
                allowed = (script.parent, SHELL_DIR, SHELL_DIR / "chart")
                assert target.parent in allowed, f"{page.name}: {name}"


async def test_every_page_is_the_same_document(root: Path):
    async with serve_dashboard(root=root) as lab:
        for page in PAGES:
            answer = await lab.client.get(re.sub(r"{\w+}", "s1", page.path))
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store"
            text = await answer.text()
            assert "<title>x</title>" in text
            for other in PAGES:
                up = "../" if "/streams/" in page.path else "./"
                assert f'href="{up}static/pages/{other.name}/style.css"' in text


async def test_the_policy_is_strict(root: Path):
    async with serve_dashboard(root=root) as lab:
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


async def test_the_policy_names_the_ingest_of_a_proxy(root: Path):
    config = DashboardConfig(ingest_url="wss://monitor.example.org/ingest")
    async with serve_dashboard(config=config, root=root) as lab:
        policy = (await lab.client.get("/")).headers["Content-Security-Policy"]
        assert " wss://monitor.example.org;" in policy


async def test_files_are_asked_for_anew_but_sent_only_when_changed(root: Path):
    async with serve_dashboard(root=root) as lab:
        answer = await lab.client.get("/static/shell/main.js")
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        headers = {"If-None-Match": answer.headers["ETag"]}
        assert (await lab.client.get("/static/shell/main.js", headers=headers)).status == 304
        icon = await lab.client.get("/favicon.ico")
        assert icon.headers["Content-Type"].startswith("image/svg+xml")


@pytest.mark.parametrize(
    "path",
    [
        "/static/secret.js",
        "/static/shell/../secret.js",
        "/static/shell/..%2fsecret.js",
        "/static/shell/%2e%2e/secret.js",
        "/static/pages/wall/routes.py",
        "/static/shell/index.html",
        "/static//etc/passwd",
        "/static/shell",
        "/static/shell/nothing.js",
        "/static/shell/x%00",
        "/nothing",
    ],
)
async def test_nothing_else_is_served(path: str, root: Path):
    async with serve_dashboard(root=root) as lab:
        url = str(lab.client.make_url("/")).rstrip("/") + path
        answer = await lab.client.session.get(URL(url, encoded=True))
        assert answer.status == 404
        assert "secret" not in await answer.text()


async def test_a_person_at_an_unknown_address_gets_a_page_that_says_so(root: Path):
    async with serve_dashboard(root=root) as lab:
        for path in ("/nothing", "/streams/a/b"):
            answer = await lab.client.get(path, headers={"Accept": "text/html,*/*"})
            assert answer.status == 404
            assert "<title>x</title>" in await answer.text()
            assert "Content-Security-Policy" in answer.headers
        answer = await lab.client.get("/static/shell/x.js", headers={"Accept": "text/html"})
        assert "<title>x</title>" not in await answer.text()


async def test_plotly_comes_from_its_package(root: Path):
    bundle = plotly_bundle()
    assert bundle is not None
    path, version = bundle
    async with serve_dashboard(root=root) as lab:
        answer = await lab.client.head(f"/static/plotly.min.js?v={version}")
        assert int(answer.headers["Content-Length"]) == path.stat().st_size
        assert "immutable" in answer.headers["Cache-Control"]
        for query in ("", "?v=1"):
            answer = await lab.client.head(f"/static/plotly.min.js{query}")
            assert answer.headers["Cache-Control"] == "no-cache"


async def test_without_the_files_it_is_said_so(tmp_path: Path):
    async with serve_dashboard(root=tmp_path) as lab:
        answer = await lab.client.get("/")
        assert "not installed" in await answer.text()
        assert (await lab.client.get("/favicon.ico")).status == 404
