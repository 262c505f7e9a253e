"""English and Chinese say the same things: the same keys, the same placeholders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "dashboard" / "static"
I18N = STATIC / "js" / "i18n"
ENTRY = re.compile(r'^  "([^"]+)":\s*"((?:[^"\\]|\\.)*)",$', re.MULTILINE)
PAGES = sorted(path.name for path in (I18N / "en").glob("*.js") if path.name != "index.js")


def texts(lang: str, page: str) -> dict[str, str]:
    source = (I18N / lang / page).read_text(encoding="utf-8")
    entries = ENTRY.findall(source)
    # Each line between the braces is an entry, or the pattern above would miss some silently.
    assert len(entries) == sum(line.startswith("  ") for line in source.splitlines())
    assert len(dict(entries)) == len(entries), "a key comes twice"
    return dict(entries)


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_keys_and_placeholders(page: str) -> None:
    english, chinese = texts("en", page), texts("zh", page)
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert text and chinese[key]
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_page_of_texts_is_part_of_the_dictionary() -> None:
    for lang in ("en", "zh"):
        index = (I18N / lang / "index.js").read_text(encoding="utf-8")
        assert sorted(re.findall(r'from "\./(\w+\.js)"', index)) == PAGES


def test_keys_that_scripts_use_exist() -> None:
    known = {key for page in PAGES for key in texts("en", page)}
    used: set[str] = set()
    for script in (STATIC / "js").rglob("*.js"):
        source = script.read_text(encoding="utf-8")
        used |= set(re.findall(r'\bt\(\s*"([\w.]+)"', source))
        for key in re.findall(r'\bplural\(\s*"([\w.]+)"', source):
            used |= {f"{key}.one", f"{key}.other"}
    assert used <= known, sorted(used - known)


def test_no_script_holds_html_or_evaluates_text() -> None:
    for script in (STATIC / "js").rglob("*.js"):
        source = script.read_text(encoding="utf-8")
        assert not re.search(
            r"\b(innerHTML|outerHTML|insertAdjacentHTML|eval|Function)\b\(?", source
        ), script


def test_scripts_are_small() -> None:
    for script in (STATIC / "js").rglob("*.js"):
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 300, script.name
