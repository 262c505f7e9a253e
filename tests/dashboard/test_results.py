"""A result's folder, and what is made of it on the way out."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard.results import (
    demo_chunks,
    read_view,
    rename_result,
    summary_of,
    write_parquet,
    write_result,
    zip_chunks,
)
from ser_engine.files import FrameResult, Granularity
from ser_engine.schema import Segment
from tests.support.dashboard_lab import make_analysis


def write(folder: Path, granularity: Granularity = "utterance", num_frames: int = 4) -> Path:
    write_result(folder, make_analysis(granularity, num_frames), ["one", "two"], lambda: None)
    return folder


def demo(folder: Path, channel: int | None = None, *, scores: bool = False) -> Any:
    is_frame = json.loads((folder / "view.json").read_bytes())["granularity"] == "frame"
    chunks = demo_chunks(folder / "result.csv", 2, channel, is_frame=is_frame, scores=scores)
    return json.loads(b"".join(chunks))


def test_the_form_of_the_web_demo_of_an_utterance(tmp_path: Path):
    folder = write(tmp_path)
    confidence = round(float(np.exp(3) / (np.exp(3) + 3)), 6)
    one = {
        "emotion": "neutral",
        "confidence": pytest.approx(confidence, abs=1e-6),
        "granularity": "utterance",
    }
    assert demo(folder, 0) == one
    assert list(demo(folder, 1)) == ["emotion", "confidence", "granularity"]
    assert demo(folder) == [{"channel": 0, **one}, {"channel": 1, **one}]
    assert sum(demo(folder, 0, scores=True)["scores"].values()) == pytest.approx(1, abs=1e-5)


def test_the_form_of_the_web_demo_of_frames(tmp_path: Path):
    folder = write(tmp_path, "frame", num_frames=5000)
    frames = demo(folder, 1)
    assert len(frames) == 5000
    assert list(frames[0]) == ["time", "emotion", "score"]
    assert [frame["time"] for frame in frames[:3]] == [0.0, 0.02, 0.04]
    both = demo(folder)
    assert [list(one) for one in both] == [["channel", "granularity", "frames"]] * 2
    assert [one["channel"] for one in both] == [0, 1]
    assert both[1]["frames"] == frames
    assert demo(folder, 0, scores=True)[7]["scores"].keys() == {
        label.name for label in make_analysis().model.labels.labels
    }


def test_the_page_is_given_no_more_frames_than_it_can_draw(tmp_path: Path):
    folder = write(tmp_path, "frame", num_frames=13_000)
    view, whole = (
        json.loads((folder / name).read_bytes()) for name in ("view.json", "result.json")
    )
    for shown, every in zip(view["channels"], whole["channels"], strict=True):
        assert len(shown["frames"]["labels"]) <= 6000
        assert len(every["frames"]["labels"]) == 13_000
    assert {key: view[key] for key in view if key != "channels"} == {
        key: whole[key] for key in whole if key != "channels"
    }


def test_embeddings_of_several_channels_have_one_axis_more(tmp_path: Path):
    folder = write(tmp_path, "frame")
    (channel, _) = make_analysis("frame").channels
    assert isinstance(channel.result, FrameResult)
    found = np.load(folder / "embedding.npy")
    assert (found.shape, found.dtype) == ((2, 4, 3), np.float32)
    np.testing.assert_array_equal(found[1], channel.result.embeddings)


def test_a_zip_file_has_them_all(tmp_path: Path):
    folder = write(tmp_path, "frame", num_frames=20_000)
    chunks = list(zip_chunks(folder))
    with zipfile.ZipFile(io.BytesIO(b"".join(chunks))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["result.json", "result.csv", "embedding.npy", "log.txt"]
        for name in archive.namelist():
            assert archive.read(name) == (folder / name).read_bytes()
    assert len(chunks) > 4, "it comes piece by piece"


def test_a_copy_has_its_own_name(tmp_path: Path):
    folder = write(tmp_path)
    before = json.loads((folder / "result.json").read_bytes())
    rename_result(folder, "fake.wav", 'an "other"\\name.wav')
    for name in ("result.json", "view.json"):
        after = json.loads((folder / name).read_bytes())
        assert after == {**before, "name": 'an "other"\\name.wav'}
    rows = (folder / "result.csv").read_text(encoding="utf-8").splitlines()
    assert [row.partition('",0,' if number == 1 else '",1,')[0] for number, row in enumerate(rows)][
        1:
    ] == ['"an ""other""\\name.wav'] * 2
    assert "the same bytes" in (folder / "log.txt").read_text()
    with pytest.raises(OSError, match="does not begin with its name"):
        rename_result(folder, "fake.wav", "x.wav")


def test_writing_can_be_ended(tmp_path: Path):
    def stop() -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_result(tmp_path, make_analysis("frame"), [], stop)


def test_a_list_tells_little_of_it():
    channel = {"label": "neutral", "best": "neutral", "confidence": pytest.approx(0.87, abs=1e-4)}
    assert summary_of(make_analysis()) == {
        "channels": [{**channel, "share": {}}] * 2,
        "analysed": [0, 1],
        "warnings": ["clipping"],
    }


def test_a_list_tells_the_shares_of_a_course():
    analysis = make_analysis("frame")
    sad = Segment(start_sample=0, end_sample=300, label="sad", confidence=0.6, final=True)
    unclear = Segment(
        start_sample=300, end_sample=400, label=None, best="sad", confidence=0.4, final=True
    )
    result = analysis.channels[0].result
    assert isinstance(result, FrameResult)
    channel = replace(analysis.channels[0], result=replace(result, segments=(sad, unclear)))
    (found,) = summary_of(replace(analysis, channels=(channel,)))["channels"]
    assert found["share"] == {"sad": 0.75, "unclear": 0.25}


@pytest.mark.needs("pyarrow")
def test_parquet_has_the_rows_of_the_csv(tmp_path: Path):
    from pyarrow import parquet

    folder = write(tmp_path, "frame", num_frames=50)
    write_parquet(folder / "result.csv", tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.num_rows == 100
    assert table.column_names[:5] == ["name", "channel", "start_s", "end_s", "label"]
    assert table.column("start_s").to_pylist()[:3] == [0.0, 0.02, 0.04]


def test_a_result_of_an_earlier_version_is_not_read(tmp_path: Path):
    assert read_view(write(tmp_path)) == (tmp_path / "view.json").read_bytes()
    for old in (b'{"name":"a.wav","granularity":"frame","channels":[]}', b"{", b"[]"):
        (tmp_path / "view.json").write_bytes(old)
        assert read_view(tmp_path) is None
    (tmp_path / "view.json").unlink()
    with pytest.raises(OSError, match=r"view\.json"):
        read_view(tmp_path)
