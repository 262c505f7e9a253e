from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from emotion_monitor.commands import options as engine_module
from ser_engine.types import FloatArray
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    """A fake one whose embedding is the first and the last sample of a frame."""
    made = FakeEngine()
    made.info = dataclasses.replace(made.info, sha256="b" * 64)
    monkeypatch.setattr(engine_module, "build_engine", lambda config: made)
    cache = "EMOTION_MONITOR__SER_ENGINE__OFFLINE__CACHE_DIR"
    monkeypatch.setenv(cache, str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return made


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return int(caught.value.code or 0)


def save(path: Path, *rows: list[float]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(rows if len(rows) > 1 else rows[0], dtype=np.float32))
    return path


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Nine vectors around three directions."""
    rng = np.random.default_rng(0)
    for number in range(9):
        vector = np.eye(3, 8)[number % 3] + rng.normal(0, 0.02, 8)
        save(tmp_path / "vectors" / f"{number}.npy", vector.tolist())
    return tmp_path / "vectors"


def test_similarity_of_files(tmp_path: Path, capsys: Captured):
    one = save(tmp_path / "one.npy", [1.0, 0.0])
    frames = save(tmp_path / "frames.npy", [0.0, 1.0], [0.0, 3.0])
    assert run("embeddings", "similarity", one, frames, one, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [str(one), str(frames), str(one)]
    assert document["similarity"] == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    assert run("embeddings", "similarity", one, frames) == 0
    assert "1.000  0.000" in capsys.readouterr().out


def test_recordings_are_analysed_and_results_kept(
    engine: FakeEngine, tmp_path: Path, capsys: Captured
):
    for name, level in (("a", 0.1), ("b", 0.2)):
        soundfile.write(tmp_path / f"{name}.wav", make_audio((8_000, level)), 16_000)
    for _ in range(2):
        assert (
            run("embeddings", "similarity", tmp_path / "a.wav", tmp_path / "b.wav", "--json") == 0
        )
        json.loads(capsys.readouterr().out)
    assert len(engine.windows) == 2


def test_the_nearest_are_found_and_the_query_is_not_among_them(vectors: Path, capsys: Captured):
    query = vectors / "4.npy"
    assert run("embeddings", "search", query, vectors, "-n", "2", "--json") == 0
    hits = json.loads(capsys.readouterr().out)
    assert {Path(hit["file"]).name for hit in hits} == {"1.npy", "7.npy"}
    assert hits[0]["similarity"] >= hits[1]["similarity"] > 0.9
    assert run("embeddings", "search", query, vectors, "-n", "2") == 0
    assert "7.npy" in capsys.readouterr().out


@pytest.mark.needs("scikit-learn")
def test_groups_are_written_and_drawn(vectors: Path, tmp_path: Path, capsys: Captured):
    out = tmp_path / "new" / "picture.html"
    assert run("embeddings", "cluster", vectors, "-k", "3", "--out", out) == 0
    with out.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "cluster", "x", "y"]
    groups = [row["cluster"] for row in rows]
    assert groups == groups[:3] * 3
    assert sorted(groups[:3]) == ["1", "2", "3"]
    assert "Plotly" in out.read_text("utf-8")
    first = out.read_bytes()
    assert run("embeddings", "cluster", vectors, "-k", "3", "--out", out, "--json") == 0
    assert out.read_bytes() == first
    assert [entry["cluster"] for entry in json.loads(capsys.readouterr().out.splitlines()[-1])] == [
        int(group) for group in groups
    ]


@pytest.mark.needs("scikit-learn", "chromium", "playwright")
async def test_the_picture_is_drawn(vectors: Path, tmp_path: Path):
    from playwright.async_api import async_playwright

    from tests.support.browser import chromium_path, watch

    (vectors / "0.npy").rename(vectors / "<img src=x onerror=alert(1)>.npy")
    out = tmp_path / "picture.html"
    assert run("embeddings", "cluster", vectors, "-k", "3", "--out", out) == 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        page = await browser.new_page()
        log = await watch(page)
        await page.goto(out.as_uri())
        await page.locator(".js-plotly-plot .points path").first.wait_for()
        assert await page.locator(".js-plotly-plot .points path").count() == 9
        assert await page.locator("img").count() == 0
        await browser.close()
    log.check()


def test_results_of_another_model_are_not_compared(
    engine: FakeEngine, tmp_path: Path, capsys: Captured
):
    soundfile.write(tmp_path / "a.wav", make_audio((8_000, 0.1)), 16_000)
    out = tmp_path / "out"
    assert run("analyze", tmp_path / "a.wav", "--out", out, "--format", "json,npy") == 0
    engine.info = dataclasses.replace(engine.info, sha256="c" * 64)
    capsys.readouterr()
    assert run("embeddings", "similarity", out / "a.wav.npy", tmp_path / "a.wav") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "got embeddings of the models fake (bbbbbbbbbbbb)" in line
    assert "fake (cccccccccccc)" in line


def test_a_dated_folder_tells_of_its_model(engine: FakeEngine, tmp_path: Path, capsys: Captured):
    soundfile.write(tmp_path / "a.wav", make_audio((8_000, 0.1)), 16_000)
    assert run("analyze", tmp_path / "a.wav", "--dated", "--out", tmp_path / "out") == 0
    other = tmp_path / "other" / "b.wav.npy"
    save(other, [1.0, 0.0])
    other.with_name("b.wav.json").write_text('{"model": {"name": "base", "sha256": "d"}}')
    assert run("embeddings", "similarity", tmp_path / "out", other) == 1
    assert "base (d)" in capsys.readouterr().err


def not_an_array() -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def claims_much() -> bytes:
    """Return a header of 40 TB of floats, and none of them."""
    import io

    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "got no array"),
        (b"", "got no array"),
        (not_an_array(), "got no array"),
        (claims_much(), "got no array"),
        (np.zeros((0,), np.float32), "got no value"),
        (np.zeros((2, 2, 2, 2), np.float32), "shape (2, 2, 2, 2), expected floats"),
        (np.zeros(3, np.int64), "got int64"),
        (np.zeros(2, np.float32), "length 0.0"),
        (np.ones(3, np.float32), "shape (3,)"),
    ],
)
def test_what_is_no_embedding_is_one_line(
    content: bytes | FloatArray, message: str, tmp_path: Path, capsys: Captured
):
    good, bad = save(tmp_path / "good.npy", [1.0, 2.0]), tmp_path / "bad.npy"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        np.save(bad, content)
    assert run("embeddings", "similarity", good, bad) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(bad) in line


def test_a_recording_that_is_none_is_one_line(engine: FakeEngine, tmp_path: Path, capsys: Captured):
    (tmp_path / "a.wav").write_text("no audio")
    good = save(tmp_path / "good.npy", [1.0, 2.0])
    assert run("embeddings", "similarity", good, tmp_path / "a.wav") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"emotion-monitor: {tmp_path / 'a.wav'}: format not recognised")


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: Captured):
    assert run("embeddings", "cluster", tmp_path, "-k", "2") == 1
    assert "got no .npy file and no recording" in capsys.readouterr().err


def test_one_is_not_compared(tmp_path: Path, capsys: Captured):
    assert run("embeddings", "similarity", save(tmp_path / "a.npy", [1.0])) == 2
    assert "expected two or more" in capsys.readouterr().err
