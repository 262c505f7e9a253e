"""English and Chinese say the same things: the same keys, the same placeholders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from dashboard.errors import API_ERRORS
from dashboard.pages import PAGES, PAGES_DIR
from dashboard.shell import SHELL_DIR
from ser_engine.schema import WarningCode

ENTRY = re.compile(r'^  "([^"]+)":\s*"((?:[^"\\]|\\.)*)",$', re.MULTILINE)
FOLDERS = [SHELL_DIR, *(PAGES_DIR / page.name for page in PAGES)]
SCRIPTS = [
    path
    for folder in FOLDERS
    for path in sorted(folder.rglob("*.js"))
    if not path.name.startswith("words.")
]


def texts(folder: Path, lang: str) -> dict[str, str]:
    source = (folder / f"words.{lang}.js").read_text(encoding="utf-8")
    entries = ENTRY.findall(source)
    # Each line between the braces is an entry, or the pattern above would miss some silently.
    assert len(entries) == sum(line.startswith("  ") for line in source.splitlines())
    assert len(dict(entries)) == len(entries), "a key comes twice"
    return dict(entries)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_both_languages_have_the_same_keys_and_placeholders(folder: Path) -> None:
    english, chinese = texts(folder, "en"), texts(folder, "zh")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert text and chinese[key]
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_texts_of_a_page_have_its_name(page) -> None:
    keys = texts(PAGES_DIR / page.name, "en")
    assert f"{page.name}.nav" in keys
    assert all(key.startswith(f"{page.name}.") for key in keys)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_texts_are_used_where_they_stand_and_all_of_them(folder: Path) -> None:
    # Texts of another page would not come with the page's folder.
    allowed = texts(SHELL_DIR, "en").keys() | texts(folder, "en").keys()
    allowed |= {f"{page.name}.nav" for page in PAGES}
    used: set[str] = set()
    for script in SCRIPTS:
        source = script.read_text(encoding="utf-8")
        keys = set(re.findall(r'\bt\([^()"]*"([\w.]+)"', source))
        for key in re.findall(r'\bplural\(\s*"([\w.]+)"', source):
            keys |= {f"{key}.one", f"{key}.other"}
        if folder in script.parents:
            assert keys <= allowed, f"{script.name}: {sorted(keys - allowed)}"
        used |= set(re.findall(r'"([\w.]+)"', source)) | keys
        prefixes = tuple(re.findall(r"`([a-z_.]+[._])\$\{", source))
        used |= {key for key in allowed if prefixes and key.startswith(prefixes)}
    unused = texts(folder, "en").keys() - used - {f"{page.name}.nav" for page in PAGES}
    assert not unused, sorted(unused)


def test_everything_that_the_pages_add_to_the_audit_has_words() -> None:
    actions = {
        action
        for path in (PAGES_DIR.parent).rglob("*.py")
        for action in re.findall(r'(?:audit="|note\(")(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert "stream_deleted" in actions
    known = texts(PAGES_DIR / "audit", "en")
    assert {f"audit.done.{action}" for action in actions} <= known.keys()


def test_every_error_of_the_server_has_words_for_people() -> None:
    # What a program is told (settings, documents) helps nobody who looks at a page.
    for lang in ("en", "zh"):
        words = texts(SHELL_DIR, lang)
        assert {f"error.{code}" for code in API_ERRORS} <= words.keys()
        assert {f"warning.about.{code}" for code in get_args(WarningCode)} <= words.keys()
        for key, text in words.items():
            assert not (key.startswith("error.") and re.search(r"docs/|\w\.\w+_\w+", text)), key


def test_no_script_holds_html_or_evaluates_text() -> None:
    for script in SCRIPTS:
        source = script.read_text(encoding="utf-8")
        assert not re.search(r"\b(eval|Function)\(", source), script
        # Preact can set HTML, if it is asked to.
        html = r"\b(innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML)\b"
        assert script.name == "preact.js" or not re.search(html, source), script
