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
        ("zh/first-emotion.md", "zh", r"“([^”]+)”"),
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
