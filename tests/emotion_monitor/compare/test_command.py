"""The whole command with the built-in model, and its page in Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from tests.conftest import SpeechClip
from tests.support.browser import chromium_path, watch

Captured = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, speech_clips: tuple[SpeechClip, ...]
) -> Path:
    """The page of two recordings, one of them with two channels and a name to be wary of."""
    folder = tmp_path_factory.mktemp("compare")
    hostile = folder / "<img src=x onerror=alert(1)> &amp; '\".wav"
    both = [clip.samples[:32_000] for clip in speech_clips[:2]]
    length = min(map(len, both))
    soundfile.write(hostile, np.stack([each[:length] for each in both], axis=1), 16_000)
    one = folder / "calm.wav"
    soundfile.write(one, np.concatenate([clip.samples for clip in speech_clips[:3]]), 16_000)
    out = folder / "new" / "page.html"
    assert run(one, hostile, "--out", out, "--repeats", 1, "--model", "compact") == 0
    return out


@pytest.mark.needs("shared-data")
def test_every_figure_was_measured(compared: Path):
    document: dict[str, Any] = json.loads(compared.with_suffix(".json").read_bytes())
    figures = {each["name"]: each for each in document["granularities"]}
    assert list(figures) == ["utterance", "frame", "frame, 10 ms", "stream"]
    for each in figures.values():
        assert each["first_ms"] > 0
        assert each["steady_ms"] > 0
        assert 50 < each["loaded_mib"] <= each["peak_mib"]
        assert each["max_difference"] == 0
        assert each["label_agreement"] == 1
    assert [each["grid_ms"] for each in figures.values()] == [None, 20, 10, 500]
    assert figures["frame, 10 ms"]["results"] == pytest.approx(
        2 * figures["frame"]["results"], abs=9
    )
    assert figures["frame"]["embedding_bytes"] == 4 * figures["frame"]["embedding_values"]
    assert figures["utterance"]["embedding_shape"] == [128]
    changes = [figures[name]["smallest_change_ms"] for name in ("frame", "stream", "utterance")]
    assert changes == sorted(changes)
    one, two = document["files"]
    assert [len(each["channels"]) for each in (one, two)] == [1, 2]
    assert {pair["one"] + pair["other"] for pair in one["channels"][0]["agreement"]} == {
        *("utteranceframe", "utterancestream", "framestream")
    }
    assert "chart" not in one["channels"][0]


@pytest.mark.needs("shared-data")
def test_the_page_has_all_it_needs(compared: Path):
    text = compared.read_text("utf-8")
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    head = text[: text.index("<script")]
    assert "default-src 'none'" in head
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in head


@pytest.mark.needs("chromium", "playwright", "shared-data")
async def test_the_page_is_drawn_without_network_or_complaint(compared: Path):
    from playwright.async_api import async_playwright

    asked: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        page = await browser.new_page(color_scheme="light")
        log = await watch(page)
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(compared.as_uri())
        charts = page.locator(".chart .main-svg .ytick")
        await charts.first.wait_for()
        assert await page.locator(".js-plotly-plot").count() == 3
        titles = await page.locator("h2").all_inner_texts()
        assert titles[0] == "Measured"
        assert titles[3].endswith("<img src=x onerror=alert(1)> &amp; '\".wav, channel 1")
        assert await page.locator("tbody tr").count() == 9
        background = "getComputedStyle(document.documentElement).backgroundColor"
        assert await page.evaluate(background) == "rgb(244, 245, 247)"
        paper = await page.locator(".chart .bg").first.get_attribute("style")
        await page.emulate_media(color_scheme="dark")
        assert await page.evaluate(background) == "rgb(14, 16, 20)"
        changed = page.locator(f'.chart .bg:not([style="{paper}"])')
        await changed.first.wait_for(state="attached")
        await browser.close()
    log.check()
    assert all(url.startswith(("file:", "data:")) for url in asked), asked


def test_what_is_no_recording_is_one_line(tmp_path: Path, capsys: Captured):
    (tmp_path / "a.wav").write_text("no audio")
    assert run(tmp_path / "a.wav", "--out", tmp_path / "page.html") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"emotion-monitor: {tmp_path / 'a.wav'}: format not recognised")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, capsys: Captured):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert run(tmp_path / "a.wav", "--model", tmp_path / "none", "--out", tmp_path / "p.html") == 1
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()
