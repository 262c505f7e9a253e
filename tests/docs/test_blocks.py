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

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "sh": "tests/docs/test_command_lines.py parses every line",
    "transcript": "replayed by the tests of the platforms and of the protocol",
    "nginx": "tests/dashboard/browser/test_proxy.py runs it",
    "caddy": "tests/dashboard/browser/test_proxy.py runs it",
    "js": "for a browser; the tests of pages send the same messages",
    "text": "is read, not run",
}
"""Languages of blocks that are not run here, and why."""

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


def test_every_language_is_read_or_has_a_reason():
    here = {"yaml", "python", "json", "xml", "ini", "sql"}
    found = {
        language
        for page in pages()
        for language, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))
    }
    assert found == here | set(ELSEWHERE)
