from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
import soundfile

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.factory import build_engine
from ser_engine.files import Engine, FrameResult, StreamResult, UtteranceResult, analyze_file
from tests.conftest import SpeechClip
from tests.support.browser import BROWSER_TEST
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Download, Locator, Page

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The model the server has."""
    return build_engine(EngineConfig(model=ModelConfig(name="compact", offline=True)))


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def no_jobs(server: DashboardServer) -> None:
    """Every test begins with an empty list."""
    for job in (await server.get("/api/v1/analyse?limit=1000"))["jobs"]:
        await server.ask("DELETE", f"/api/v1/analyse/{job['job_id']}")


async def choose(page: Page, *paths: Path) -> Locator:
    """Give files to the page and return their places in its list, the newest first."""
    await page.get_by_test_id("files").set_input_files([str(path) for path in paths])
    return page.get_by_test_id("job")


def named(page: Page, path: Path) -> Locator:
    """Return the place of one file in the list."""
    return page.locator(f'[data-testid="job"][data-name="{path.name}"]')


async def is_done(job: Locator) -> None:
    from playwright.async_api import expect

    await expect(job).to_have_attribute("data-state", "done", timeout=60_000)


async def download(page: Page, name: str, role: str = "link") -> Download:
    group = page.get_by_role("group", name="Save the result")
    async with page.expect_download() as waiting:
        await group.get_by_role(role, name=name).click()  # type: ignore[arg-type]
    return await waiting.value


async def saved(download: Download) -> bytes:
    path = await download.path()
    return await asyncio.to_thread(path.read_bytes)


def shown_percent(text: str) -> float:
    return float(text.strip().rstrip("%").strip()) / 100


async def test_an_upload_and_all_its_downloads(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...], engine: Engine
):
    from playwright.async_api import expect

    clip = speech_clips[0]
    (expected,) = analyze_file(engine, clip.path, granularity="utterance")
    assert isinstance(expected, UtteranceResult)
    page = await open_page("/analyse")
    await page.get_by_test_id("granularity-utterance").click()
    await is_done(await choose(page, clip.path))
    await expect(page.get_by_test_id("overall")).to_have_text((expected.label or "unclear").title())
    rows = page.get_by_test_id("scores").get_by_role("listitem")
    await expect(rows).to_have_count(len(expected.labels))
    for row, posterior in zip(await rows.all(), expected.posteriors, strict=True):
        assert shown_percent((await row.inner_text()).split("\n")[-1]) == pytest.approx(
            posterior, abs=0.0051
        )

    found = await download(page, "JSON")
    assert found.suggested_filename == f"{clip.path.stem}.json"
    document = json.loads(await saved(found))
    (channel,) = document["channels"]
    assert channel["overall"]["label"] == expected.label
    assert channel["overall"]["posteriors"] == pytest.approx(expected.posteriors, abs=1e-4)

    table = list(csv.DictReader(io.StringIO((await saved(await download(page, "CSV"))).decode())))
    assert len(table) == 1
    assert float(table[0][expected.label]) == pytest.approx(expected.confidence, abs=1e-4)

    embedding = np.load(io.BytesIO(await saved(await download(page, "NPY"))))
    np.testing.assert_allclose(embedding.ravel(), expected.embedding, atol=1e-4)

    picture = await download(page, "PNG", role="button")
    assert picture.suggested_filename == f"{clip.path.stem}.png"
    assert_is_picture(await saved(picture))


def assert_is_picture(data: bytes) -> None:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    assert (width, height) == (2400, 1040)
    assert len(data) > 10_000, "there is something on it"


async def test_a_timeline_with_segments_and_frames(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...], engine: Engine
):
    from playwright.async_api import expect

    clip = speech_clips[1]
    page = await open_page("/analyse")
    jobs = await choose(page, clip.path)
    await is_done(jobs)
    await expect(page.get_by_test_id("chart")).to_have_attribute("data-drawn", "true")
    await expect(page.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_attached()
    await expect(page.get_by_test_id("measure-talk-0")).to_have_text(re.compile(r"^0:0\d$"))
    (stream,) = analyze_file(engine, clip.path, granularity="stream")
    assert isinstance(stream, StreamResult)
    spans = len(stream.segments) + len(stream.gaps)
    await page.locator(".segments summary").click()
    segments = page.get_by_test_id("segments").locator("tbody tr")
    await expect(segments).to_have_count(spans)
    document = json.loads(await saved(await download(page, "JSON")))
    (channel,) = document["channels"]
    assert len(channel["points"]) == len(stream.points)

    # What a person hears in a part of it is kept, and held against what the model says.
    await page.locator(".chart").focus()
    await page.keyboard.press("s")
    await page.get_by_test_id("selection-from").fill("0")
    await page.get_by_test_id("selection-from").press("Enter")
    await page.get_by_label("Emotion you hear").select_option("sad")
    await page.get_by_role("button", name="Label it").click()
    await expect(page.get_by_test_id("kappa")).to_contain_text("Agrees with the model in")
    await expect(page.get_by_test_id("confusion").get_by_role("rowheader")).to_have_text(["Sad"])

    # The same recording again, every 20 ms.
    await page.get_by_test_id("granularity-frame").click()
    await page.get_by_test_id("embeddings").check()
    await page.get_by_role("button", name="Analyse again").click()
    await expect(page.locator(".analyse-result .badge")).to_have_text("Every 20\u202fms")
    await expect(jobs).to_have_count(2)
    await is_done(jobs.first)
    (frames,) = analyze_file(engine, clip.path, granularity="frame")
    assert isinstance(frames, FrameResult)
    table = list(csv.DictReader(io.StringIO((await saved(await download(page, "CSV"))).decode())))
    assert len(table) == len(frames.logits)
    embeddings = np.load(io.BytesIO(await saved(await download(page, "NPY"))))
    assert embeddings.shape[-2] == len(frames.logits)


async def test_several_at_once_and_one_that_is_no_recording(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...], tmp_path: Path
):
    from playwright.async_api import expect

    broken = tmp_path / "letter.wav"
    broken.write_text("Dear Sir or Madam")
    page = await open_page("/analyse")
    jobs = await choose(page, speech_clips[0].path, broken, speech_clips[3].path)
    await expect(jobs).to_have_count(3)
    first = named(page, speech_clips[0].path)
    await is_done(first)
    await is_done(named(page, speech_clips[3].path))
    await expect(named(page, broken)).to_have_attribute("data-state", "failed")
    await expect(named(page, broken).locator(".job-error")).not_to_be_empty()
    # What is chosen is shown, also after a look at another page.
    await first.get_by_role("button", name=speech_clips[0].path.name).first.click()
    await expect(page.get_by_test_id("result")).to_have_attribute(
        "aria-label", speech_clips[0].path.name
    )
    await page.locator('.nav a[href="/alerts"]').click()
    await expect(page).to_have_url(re.compile("/alerts$"))
    await page.go_back()
    await expect(page.get_by_test_id("result")).to_have_attribute(
        "aria-label", speech_clips[0].path.name
    )
    await page.get_by_role("button", name=f"Remove {broken.name}").click()
    await expect(jobs).to_have_count(2)


async def test_a_folder_is_dropped_on_the_page(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...]
):
    from playwright.async_api import expect

    page = await open_page("/analyse")
    await page.get_by_test_id("granularity-utterance").click()
    # A script cannot make a folder that is dropped; it can be one, as browsers show them.
    given = await page.evaluate_handle(
        """(bytes) => {
          const transfer = new DataTransfer();
          const file = new File([Uint8Array.from(bytes)], "dropped.ogg");
          transfer.items.add(file);
          const folder = (name, ...entries) => {
            const parts = [entries.slice(0, 1), entries.slice(1), []];
            const createReader = () => ({ readEntries: (done) => done(parts.shift()) });
            return { name, isDirectory: true, createReader };
          };
          const entry = (name) => ({ name, isDirectory: false, file: (done) => done(file) });
          const calls = folder("calls", entry("notes.txt"), folder("May", entry("dropped.ogg")));
          DataTransferItem.prototype.webkitGetAsEntry = () => calls;
          return transfer;
        }""",
        list(speech_clips[0].path.read_bytes()),
    )
    await page.dispatch_event("h1", "drop", {"dataTransfer": given})
    await expect(page.get_by_test_id("job")).to_have_attribute("data-name", "May – dropped.ogg")
    await is_done(page.get_by_test_id("job"))


async def test_the_built_in_sample(open_page: OpenPage):
    from playwright.async_api import expect

    page = await open_page("/analyse")
    await page.get_by_test_id("sample").click()
    await is_done(page.get_by_test_id("job"))
    await expect(page.get_by_test_id("channel")).to_have_count(2)
    # One time axis for both, so that they can be compared.
    await expect(page.get_by_test_id("chart")).to_have_attribute("data-drawn", "true")
    await expect(page.get_by_test_id("chart").locator(".annotation")).to_have_count(2)


async def test_the_list_survives_a_reload_and_can_be_cleared(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...], server: DashboardServer
):
    from playwright.async_api import expect

    first, second = speech_clips[0].path, speech_clips[1].path
    page = await open_page("/analyse")
    await choose(page, first, second)
    await is_done(named(page, first))
    await is_done(named(page, second))
    await named(page, first).locator(".job-select").click()
    await expect(page.get_by_test_id("result")).to_have_attribute("aria-label", first.name)
    await page.reload()
    await expect(page.get_by_test_id("job")).to_have_count(2)
    await expect(page.get_by_test_id("result")).to_have_attribute("aria-label", first.name)
    # It was given in another life of the page, which still had the file.
    await expect(page.get_by_role("button", name="Analyse again")).to_be_hidden()

    # Another browser sees the same, and what is removed there goes from here.
    other = await open_page("/analyse")
    await named(other, first).get_by_role("button", name=f"Remove {first.name}").click()
    await other.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(other.get_by_test_id("job")).to_have_count(1)
    await expect(page.get_by_test_id("job")).to_have_count(1, timeout=15_000)
    assert len((await server.get("/api/v1/analyse"))["jobs"]) == 1


async def test_the_form_of_the_web_demo_and_all_files(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...]
):
    page = await open_page("/analyse")
    await page.get_by_test_id("granularity-frame").click()
    await page.get_by_test_id("frame-hop").select_option("10")
    await is_done((await choose(page, speech_clips[0].path)).first)
    more = page.get_by_text("More", exact=True)
    await more.click()
    frames = json.loads(await saved(await download(page, "web demo")))
    assert [frame["time"] for frame in frames[:3]] == [0.0, 0.01, 0.02]
    assert set(frames[0]) == {"time", "emotion", "score"}
    names = await download(page, "ZIP")
    assert names.suggested_filename == f"{speech_clips[0].path.stem}.zip"
    with zipfile.ZipFile(io.BytesIO(await saved(names))) as archive:
        assert archive.namelist() == ["result.json", "result.csv", "log.txt"]
    log = (await saved(await download(page, "Log"))).decode()
    assert speech_clips[0].path.name in log


async def test_a_long_recording_is_stopped_and_another_survives_a_restart(
    open_page: OpenPage,
    speech_clips: tuple[SpeechClip, ...],
    server: DashboardServer,
    tmp_path: Path,
):
    from playwright.async_api import expect

    speech = np.concatenate([clip.samples for clip in speech_clips[:3]])
    long = np.tile(speech, math.ceil(16_000 * 400 / len(speech)))
    paths = [tmp_path / "stopped.wav", tmp_path / "survives.wav", tmp_path / "waits.wav"]
    for path, seconds in zip(paths, (400, 35, 5), strict=True):
        soundfile.write(path, long[: 16_000 * seconds], 16_000)
    page = await open_page("/analyse", server_may_be_away=True)
    await page.get_by_test_id("granularity-frame").click()
    await page.get_by_test_id("frame-hop").select_option("10")
    await choose(page, *paths)
    stopped, survives, waits = (named(page, path) for path in paths)
    await expect(stopped).to_have_attribute("data-state", "running")
    await expect(survives).to_have_attribute("data-state", "waiting")
    await expect(survives).to_contain_text("1 recording ahead")
    await expect(waits).to_contain_text("2 recordings ahead")
    await stopped.get_by_role("button", name="Stop stopped.wav").click()
    await expect(stopped).to_have_attribute("data-state", "cancelled")
    await server.restart()
    await is_done(survives)
    await is_done(waits)
    await waits.locator(".job-select").click()
    await expect(page.get_by_test_id("result")).to_have_attribute("aria-label", "waits.wav")
    await expect(stopped).to_have_attribute("data-state", "cancelled")
    # Longer than one pass: pieces between pauses, and the whole of them.
    await survives.locator(".job-select").click()
    await page.locator(".segments summary").click()
    pieces = page.get_by_test_id("segments").locator("tbody tr")
    await expect(pieces.nth(2)).to_be_attached()


async def test_a_purpose_sets_the_options(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...]
):
    from playwright.async_api import expect

    page = await open_page("/analyse", locale="zh-CN")
    await page.get_by_test_id("preset").select_option("research")
    await expect(page.get_by_test_id("frame-hop")).to_have_value("10")
    await expect(page.get_by_test_id("embeddings")).to_be_checked()
    job = (await choose(page, speech_clips[0].path)).first
    await is_done(job)
    await expect(page.locator(".analyse-result .badge").nth(1)).to_have_text("研究")
    # One's own choice is no longer that purpose.
    await page.get_by_test_id("granularity-utterance").click()
    await expect(page.get_by_test_id("preset")).to_have_value("")
    await expect(page.get_by_test_id("embeddings")).to_be_hidden()


async def test_channels_have_the_numbers_that_the_downloads_have(
    open_page: OpenPage, speech_clips: tuple[SpeechClip, ...], tmp_path: Path
):
    from playwright.async_api import expect

    samples = speech_clips[0].samples
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([samples, samples[::-1]], axis=1), 16_000)
    page = await open_page("/analyse")
    await page.get_by_test_id("granularity-utterance").click()
    await is_done(await choose(page, stereo))
    for number in (0, 1):
        await expect(
            page.get_by_role("heading", name=f"Channel {number}", exact=True)
        ).to_be_visible()
    document = json.loads(await saved(await download(page, "JSON")))
    assert [channel["channel"] for channel in document["channels"]] == [0, 1]
