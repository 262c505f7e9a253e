"""Every fenced block is run, read as what it is, or named here with why it is not.

Shell lines are typed by ``test_command_lines``; programs that are run are in the tests of their
pages.
"""

from __future__ import annotations

import ast
import configparser
import importlib
import json
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from emotion_monitor.settings import load_settings
from stream_server.store.schema import metadata
from tests.docs.test_links import pages
from tests.requirements import REPOSITORY

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "sh": "tests/docs/test_command_lines.py parses every line",
    "transcript": "replayed by the tests of the platforms and of the protocol",
    "nginx": "tests/dashboard/browser/test_proxy.py runs it",
    "caddy": "tests/dashboard/browser/test_proxy.py runs it",
    "js": "tests/dashboard/browser/test_scripts_of_docs.py runs it in a browser",
    "text": "is read, not run",
}
"""Languages of blocks that are not run here, and why."""

PROGRAMS = {
    "CONTRIBUTING.md": "",
    "README.md": "tests/docs/test_python_page.py",
    "docs/explanation/files.md": "tests/docs/test_files_page.py",
    "docs/how-to/accuracy.md": "tests/docs/test_python_page.py",
    "docs/how-to/alerts.md": "tests/docs/test_alerts_page.py",
    "docs/how-to/feeds.md": "tests/docs/test_feeds_page.py",
    "docs/how-to/from-hume.md": "tests/docs/test_python_page.py",
    "docs/how-to/microphone.md": "tests/docs/test_python_page.py",
    "docs/how-to/runtimes.md": "tests/ser_engine/core/runtimes/test_onnx_export.py",
    "docs/how-to/voice-agents.md": "",
    "docs/reference/protocol.md": "tests/stream_server/wire/test_protocol_docs.py",
    "docs/reference/python.md": "tests/docs/test_python_page.py",
    "docs/tutorials/call-with-an-alert.md": "scripts/walk_tutorials.py",
    "docs/tutorials/microphone-in-python.md": "scripts/walk_tutorials.py",
    "docs/tutorials/recordings-as-a-table.md": "scripts/walk_tutorials.py",
    "docs/zh/call-with-an-alert.md": "tests/docs/test_python_page.py",
    "docs/zh/microphone-in-python.md": "tests/docs/test_python_page.py",
    "docs/zh/recordings-as-a-table.md": "tests/docs/test_python_page.py",
    "stream_server/platforms/deepgram/README.md": "tests/stream_server/platforms/deepgram",
}
"""Pages with programs, and what runs them; "": fragments, of code that has tests of its own or of
a pipeline of other packages, which are compiled and imported."""

UNLABELLED = {
    "docs/explanation/architecture.md": "diagrams",
    "docs/explanation/engine.md": "diagrams",
    "docs/how-to/cluster.md": "a diagram",
    "docs/how-to/files-cli.md": "folders; test_files_cli_page.py compares one with what is written",
    "docs/how-to/files-server.md": "a diagram and a folder",
    "docs/how-to/microphone.md": "what a terminal shows",
    "docs/how-to/models.md": "what commands print",
    "docs/how-to/voice-agents.md": "a diagram",
    "docs/reference/command-line.md": "usage lines, written from the code",
    "docs/tutorials/call-with-an-alert.md": "output; scripts/walk_tutorials.py waits for it",
    "docs/tutorials/microphone-in-python.md": "the same",
    "stream_server/platforms/asterisk/README.md": "frames; test_pbx_docs.py reads them",
    "stream_server/platforms/audiohook/README.md": "a session; test_audiohook_page.py replays it",
    "stream_server/platforms/exotel/README.md": "a URL",
    "stream_server/platforms/freeswitch/README.md": "commands; test_pbx_docs.py reads them",
    "stream_server/platforms/rtp/README.md": "packets",
    "stream_server/platforms/siprec/README.md": "settings of other programs, and messages",
    "stream_server/platforms/telnyx/README.md": "a URL",
    "stream_server/platforms/twilio/README.md": "two lines for Caddy",
}
"""Pages with blocks without a language, and what these are."""

OURS = ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor")


def blocks(language: str) -> list[tuple[str, str]]:
    """Return (page and number, text) of all blocks in a language."""
    return [
        (f"{page.relative_to(REPOSITORY)}#{number}", text)
        for page in pages()
        for number, (found, text) in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")))
        if found == language
    ]


def each(language: str) -> pytest.MarkDecorator:
    found = blocks(language)
    assert found, language
    return pytest.mark.parametrize("text", [text for _, text in found], ids=[at for at, _ in found])


@each("yaml")
def test_settings_can_be_pasted(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if text.startswith("scrape_configs:"):
        return  # Prometheus reads it: tests/docs/test_deploy_files.py.
    monkeypatch.setattr("os.environ", {})
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    load_settings(tmp_path / "mine.yaml")


@each("python")
def test_a_program_compiles_and_what_it_imports_is_there(text: str):
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module and node.module.partition(".")[0] in OURS:
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@each("json")
def test_an_example_is_json(text: str):
    decoder = json.JSONDecoder()
    rest = text.strip()
    while rest:  # Several messages may follow one another.
        _, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()


@each("xml")
def test_an_example_is_xml(text: str):
    # A dialplan's actions follow one another, without one element around them.
    text = re.sub(r"<\?xml.*?\?>", "", text)
    xml.etree.ElementTree.fromstring(f"<all>{text}</all>")


@each("ini")
def test_an_example_is_ini(text: str):
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


@each("sql")
def test_a_query_is_answered(text: str):
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql(text)
    engine.dispose()


def test_every_page_of_programs_says_what_runs_them():
    with_programs = {name.partition("#")[0] for name, _ in blocks("python")}
    assert with_programs == set(PROGRAMS)
    for page, runner in PROGRAMS.items():
        path = REPOSITORY / runner
        files = path.rglob("*.py") if path.is_dir() and runner else [path] if runner else []
        said = "".join(each.read_text(encoding="utf-8") for each in files)
        assert not runner or page.rsplit("/", 1)[-1].removesuffix(".md") in said, page


def test_every_block_without_a_language_has_a_reason():
    found = {
        str(page.relative_to(REPOSITORY))
        for page in pages()
        for language, _ in _FENCE.findall(page.read_text(encoding="utf-8"))
        if not language
    }
    assert found == set(UNLABELLED)


def test_every_language_is_read_or_has_a_reason():
    here = {"yaml", "python", "json", "xml", "ini", "sql"}
    found = {
        language
        for page in pages()
        for language, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))
    }
    assert found == here | set(ELSEWHERE)
