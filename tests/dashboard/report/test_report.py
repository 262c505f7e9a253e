from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from dashboard.report import report_of_file
from dashboard.report.page import LANGUAGES, report_page, words
from ser_engine.files.analysis import FileAnalysis
from ser_engine.schema import Segment
from ser_engine.timeline.course import whole_of
from tests.support.dashboard_lab import make_analysis, serve_dashboard
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_opened,
    make_segment,
    make_summary,
    make_warning,
)

EVIL = "<script>alert(1)</script>"


class Outline(HTMLParser):
    """What a page is made of, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self._skips = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._skips = tag == "style"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if not self._skips:
            self.text += data


def file_page(analysis: FileAnalysis, language: str = "en") -> Outline:
    return Outline(report_page(report_of_file(analysis.document()), language))


def test_both_languages_say_the_same_things():
    english, chinese = words("en"), words("zh")
    assert english.keys() == chinese.keys()
    for key in english:
        placeholders = [set(re.findall(r"\{\w+\}", each[key])) for each in (english, chinese)]
        assert placeholders[0] == placeholders[1], key


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_is_whole_by_itself(language: str):
    page = file_page(make_analysis("frame", name=EVIL), language)
    assert page.addresses == ["data:,"]
    assert "script" not in page.tags
    assert EVIL in page.text
    assert "A fake model." in page.text
    assert words(language)["report.limit.use"] in page.text


def test_what_the_shares_of_a_file_are_of():
    document = make_analysis().document()
    segment = Segment(start_sample=0, end_sample=32_000, label="angry", confidence=0.9, final=True)
    for spans, says, never in (
        # One result for all of it does not tell speech and silence apart.
        ((), "Shares of 0:02, pauses included", "of speech"),
        ((segment,), "Shares of 0:02 of speech", "pauses included"),
    ):
        channel = replace(document.channels[0], segments=spans, whole=whole_of([segment]))
        page = report_page(report_of_file(replace(document, channels=(channel,))), "en")
        assert says in Outline(page).text
        assert never not in Outline(page).text


async def test_a_stream_with_its_alerts_measures_and_notes(tmp_path: Path):
    alert = replace(make_alert(seq=4, at_s=1.0), rule=EVIL)
    async with serve_dashboard(database=tmp_path / "db.sqlite") as lab:
        lab.publish(
            make_opened(name="Call 7"),
            make_gap(seq=1, end_s=0.5),
            make_segment(seq=2, start_s=0.5, end_s=1.25),
            make_warning(seq=3),
            alert,
            make_summary(seq=5),
            make_closed(seq=6),
        )
        assert lab.store is not None
        await lab.store.flush()
        await lab.ask("POST", f"/alerts/{alert.alert_id}/acknowledge", json={"note": "called back"})
        answer = await lab.client.get("/api/v1/streams/s1/report.html?lang=en")
        assert answer.status == 200
        assert answer.headers["Content-Disposition"] == 'attachment; filename="s1.html"'
        page = Outline(await answer.text())
        chinese = await (await lab.client.get("/api/v1/streams/s1/report.html?lang=zh")).text()
        await lab.get("/streams/s1/report.html?lang=xx", 400)
        await lab.get("/streams/none/report.html", 404)
    assert "script" not in page.tags
    for said in ("Call 7", EVIL, "called back", "Angry", "Talk time", "0:00 (100 %)", "Silence"):
        assert said in page.text, said
    assert "说话时间" in chinese
