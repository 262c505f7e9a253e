from __future__ import annotations

import pytest

from scripts.reference_pages import EVENTS, PAGES, REFERENCE


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name: str):
    text = (REFERENCE / name).read_text(encoding="utf-8")
    assert text == PAGES[name](), "python -m scripts.reference_pages writes it anew"


def test_no_event_is_explained_that_is_not_logged():
    text = (REFERENCE / "log-events.md").read_text(encoding="utf-8")
    assert [name for name in EVENTS if f"| `{name}` |" not in text] == []
