"""The pure parts of the timeline chart, in the browser that runs them; and the chart of a file."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from tests.conftest import SpeechClip
from tests.support.browser import BROWSER_TEST

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]

_PURE = """
async () => {
  const { blocksOf, measure, placed } = await import("/static/shell/chart/spans.js");
  const { Samples } = await import("/static/shell/chart/sound.js");
  const { Timeline } = await import("/static/shell/chart/timeline.js");
  const confidence = 0.8;
  const segment = (start_s, end_s, label) =>
    ({ type: "segment", start_s, end_s, label, confidence });

  // An hour in which somebody is angry for 1.8 s in each 18 s, 7.2 s a column: nothing is wide.
  const spans = Array.from({ length: 2000 }, (_, at) =>
    segment(at * 1.8, (at + 1) * 1.8, at % 10 ? (at % 2 ? "neutral" : "sad") : "angry"));
  const columns = blocksOf(spans, 7.2);
  const angry = columns.filter(({ label }) => label === "angry");

  // One such moment between long segments is drawn over them, two pixels wide at least.
  const moments = [[0, 600, "neutral"], [600, 600.5, "angry"], [600.5, 1800, "neutral"]];
  const lone = blocksOf(moments.map((each) => segment(...each)), 7.2);

  const spec = { index: 0, role: "caller", name: "", analysed: true };
  const timeline = new Timeline([spec], ["angry", "sad"]);
  const point = (start_s, label, seq) => ({
    ...segment(start_s, start_s + 0.5, label),
    ...{ type: "point", seq, channel: 0, speech_share: 1 },
    posteriors: label === "angry" ? [0.8, 0.2] : [0.2, 0.8],
  });
  timeline.take([
    ...[0, 0.5, 1].map((at, seq) => point(at, "angry", seq)),
    { ...segment(0, 1, "angry"), seq: 3, channel: 0 },
    point(1.5, "sad", 4),
  ]);
  const channel = timeline.channels.get(0);

  // Two voices; the second turns out to be the first, whom somebody gave a name.
  const { speakerName } = await import("/static/shell/names.js");
  const called = new Timeline([spec], ["angry", "sad"]);
  const said = (start_s, end_s, label, speaker, seq) =>
    ({ ...segment(start_s, end_s, label), seq, channel: 0, speaker });
  called.take([
    said(0, 1, "angry", "speaker 1", 0),
    said(1, 2, "sad", "speaker 1", 1),
    { ...said(2, 3, "sad", undefined, 2), type: "gap", reason: "left_out" },
    said(3, 4, "sad", "speaker 2", 3),
    { ...point(4, "sad", 4), speaker: "speaker 2" },
    { type: "measures", seq: 5, at_s: 4, channels: [
      { channel: 0, speakers: [{ name: "speaker 2", same_as: "speaker 1" }] }] },
  ]);
  const two = called.channels.get(0);
  two.names = { "speaker 1": "Ms Li" };
  const app = { t: (key, { n }) => `Speaker ${n}` };

  const tone = (_, at) => 0.5 * Math.sin((2 * Math.PI * 1000 * at) / 16000);
  const samples = new Samples(Float32Array.from({ length: 32000 }, tone));
  const { levels } = samples.spectrogram(0, 2, 10);
  const column = levels.map((row) => row[5]);
  const { low, high } = samples.envelope(0, 2, 50);
  return {
    columns: columns.length,
    angry: angry.length,
    thinnest: Math.min(...angry.map(({ low, high }) => high - low)),
    beyond: columns.some(({ low, high }) => low < 0 || high > 1 || high <= low),
    lone: lone.map(({ label, start_s, end_s }) => [label, start_s, end_s]),
    shown: channel.shownIn(0, 9).map(({ label, start_s, end_s }) => [label, start_s, end_s]),
    measured: measure(channel, 0.5, 1),
    captions: placed([[0, "one"], [10, "two"], [300, "three"]].map(([x, text]) => ({ x, text })))
      .map(({ text, more }) => [text, more]),
    turns: two.turnsIn(0, 9, 0).map(({ start_s, end_s, speaker }) => [start_s, end_s, speaker]),
    heard: two.speakersIn(1.5, 9),
    names: ["speaker 1", "speaker 2", "speaker 3"].map((name) => speakerName(app, name, two)),
    band: column.indexOf(Math.max(...column)),
    peak: Math.max(...column),
    level: samples.level(0, 2),
    envelope: [Math.min(...low), Math.max(...high)],
  };
}
"""


async def test_what_is_short_stays_seen_and_what_is_measured_is_right(open_page: OpenPage):
    page = await open_page("/history")
    found: dict[str, Any] = await page.evaluate(_PURE)
    # Three angry moments fall on every four columns or so; each is seen, none is a hair.
    assert found["columns"] < 2000
    assert found["angry"] >= 200
    assert found["thinnest"] > 0.2
    assert not found["beyond"]
    assert found["lone"] == [
        ["neutral", 0, 600],
        ["neutral", 600.5, 1800],
        ["angry", 600, 603.6],
    ]
    # The segment was told up to 1 s; the newest points go on where it ends.
    assert found["shown"] == [["angry", 0, 1.5], ["sad", 1.5, 2]]
    measured = found["measured"]
    assert (measured["speech_s"], measured["gap_s"]) == (0.5, 0)
    assert measured["shares"] == [{"label": "angry", "seconds": 0.5}]
    assert measured["means"] == [0.8, 0.2]
    assert found["captions"] == [["one", 1], ["three", 0]]
    speakers = [[0, 2, "speaker 1"], [2, 3, None], [3, 4.5, "speaker 2"]]
    assert (found["turns"], found["heard"]) == (speakers, ["speaker 1", "speaker 2"])
    assert found["names"] == ["Ms Li", "Ms Li", "Speaker 3"]
    # 1 kHz at half of full scale: 64 bands of 125 Hz, -6 dB as a sine, -9 dB RMS.
    assert found["band"] == 8
    assert math.isclose(found["peak"], -6.02, abs_tol=0.3)
    assert math.isclose(found["level"], -9.03, abs_tol=0.05)
    assert np.allclose(found["envelope"], [-0.5, 0.5], atol=0.01)


async def test_frames_of_a_file_are_read_again_where_one_looks_closely(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...], tmp_path: Path
):
    from playwright.async_api import expect

    # More frames of 10 ms than a page is given at once.
    speech = np.concatenate([clip.samples for clip in speech_clips[:6]])
    path = tmp_path / "long.wav"
    soundfile.write(path, np.resize(speech, 16_000 * 61), 16_000)
    page = await open_page("/analyse")
    await page.get_by_test_id("granularity-frame").click()
    await page.get_by_test_id("frame-hop").select_option("10")
    await page.get_by_test_id("files").set_input_files(str(path))
    chart = page.get_by_test_id("chart")
    await expect(chart).to_have_attribute("data-drawn", "true", timeout=60_000)
    await page.get_by_test_id("layer-wave").click()
    await expect(page.get_by_test_id("layer-wave")).to_have_attribute("aria-pressed", "true")
    grain = page.locator(".toolbar [title^='How much time']")
    await chart.focus()
    async with page.expect_response(lambda answer: "/frames?" in answer.url) as waiting:
        for _ in range(10):
            await page.keyboard.press("+")
    assert (await (await waiting.value).json())["hop_samples"] == 160
    await expect(grain).to_have_text("10\u202fms per column")

    # A part is chosen, measured and heard.
    await page.keyboard.press("s")
    await page.get_by_test_id("selection-from").fill("10")
    await page.get_by_test_id("selection-from").press("Enter")
    await page.get_by_test_id("selection-to").fill("12.5")
    await page.get_by_test_id("selection-to").press("Enter")
    await expect(page.get_by_test_id("selection-measured")).to_contain_text("dBFS")
    await page.get_by_role("button", name="Play selection").click()
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await expect(page.locator(".cursor")).to_be_attached()
