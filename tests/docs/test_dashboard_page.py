"""What the pages for those who watch calls quote is what stands on the dashboard."""

from __future__ import annotations

import re

import pytest

from tests.requirements import REPOSITORY

DASHBOARD = REPOSITORY / "dashboard"
ITALIC = r"(?<!\*)\*([^*\n]+(?:\n[^*\n]+)?)\*(?!\*)"


def words(language: str) -> list[re.Pattern[str]]:
    """Return every text of the dashboard; what is put in when it is shown may be anything."""
    texts = [
        text
        for path in DASHBOARD.rglob(f"words.{language}.js")
        for text in re.findall(r'^  "[^"]+": "(.*)",$', path.read_text("utf-8"), re.MULTILINE)
    ]
    return [re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(text))) for text in texts]


@pytest.mark.parametrize(
    ("page", "language", "quote"),
    [
        ("how-to/dashboard.md", "en", ITALIC),
        ("tutorials/first-emotion.md", "en", ITALIC),
        ("reference/labels.md", "en", ITALIC),
        ("zh/first-emotion.md", "zh", r"“([^”]+)”"),
        ("zh/labels.md", "zh", r"“([^”]+)”"),
        ("zh/dashboard.md", "zh", r"“([^”]+)”"),
        ("zh/alerts.md", "zh", r"“([^”]+)”"),
        ("zh/microphone.md", "zh", r"“([^”]+)”"),
    ],
)
def test_what_is_quoted_is_on_a_page(page: str, language: str, quote: str):
    text = (REPOSITORY / "docs" / page).read_text("utf-8")
    quoted = {" ".join(found.split()) for found in re.findall(quote, text)}
    assert quoted
    known = words(language)
    assert [each for each in sorted(quoted) if not any(one.fullmatch(each) for one in known)] == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [("reference/labels.md", "zh/labels.md"), ("how-to/faq.md", "zh/faq.md")],
)
def test_a_translation_has_what_the_page_has(english: str, chinese: str):
    def content(page: str) -> list[int | list[str]]:
        text = (REPOSITORY / "docs" / page).read_text("utf-8")
        lines = text.splitlines()
        kinds = [sum(line.startswith(sign) for line in lines) for sign in ("#", "|", "**")]
        return [*kinds, sorted(re.findall(r"`[^`]+`", " ".join(text.split())))]

    assert content(chinese) == content(english)


def test_the_page_on_results_has_every_gap_and_warning():
    text = (REPOSITORY / "docs/reference/labels.md").read_text("utf-8")
    words = (DASHBOARD / "shell" / "words.en.js").read_text("utf-8")
    codes = re.findall(r'"(?:gap|warning)\.(\w+)": ', words)
    assert [code for code in codes if f"`{code}`" not in text] == []
