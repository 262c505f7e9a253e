"""What a whole file is as JSON and as tables."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from ser_engine.config import EngineConfig, OfflineConfig, VadConfig
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.files import (
    AnalysisOptions,
    ChannelAnalysis,
    FileAnalysis,
    Granularity,
    SpeakerResult,
)
from ser_engine.speakers.diariser import Turn
from tests.ser_engine.files.jobs import make_job, silence, voiced, work
from tests.support.fake_engine import LABELS

CONFIG = EngineConfig(vad=VadConfig(detector="off"), offline=OfflineConfig(max_pass_s=2))
GRANULARITIES: tuple[Granularity, ...] = ("utterance", "frame", "stream")


def analysis(granularity: Granularity = "utterance", channels: int = 1) -> FileAnalysis:
    """Three seconds, angry, then happy in the first channel."""
    first = np.concatenate([voiced(1.4, 0.1), voiced(1.6, 0.2)])
    audio = first if channels == 1 else np.stack([first, voiced(3, 0.3)])
    return work(make_job(audio, AnalysisOptions(granularity, embeddings=True), CONFIG))


def test_one_channel_is_its_bare_result():
    assert list(analysis().to_json()) == ["emotion", "confidence", "granularity"]
    (first, *_) = analysis("frame").to_json()
    assert json.dumps(first) == '{"time": 0.0, "emotion": "angry", "score": 0.999665}'
    assert list(analysis("stream").to_json()) == ["granularity", "points", "segments", "gaps"]
    assert "scores" in analysis().to_json(scores=True)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_several_channels_are_a_list_with_their_numbers(granularity: Granularity):
    entries = analysis(granularity, 2).to_json()
    assert [(entry["channel"], entry["granularity"]) for entry in entries] == [
        (1, granularity),
        (2, granularity),
    ]
    assert ("frames" in entries[0]) == (granularity == "frame")


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("channels", [1, 2])
def test_details_are_a_document_of_one_form(granularity: Granularity, channels: int):
    document = analysis(granularity, channels).to_json(details=True)
    json.dumps(document, allow_nan=False)
    assert list(document) == ["file", "model", "options", "duration_s", "rate_hz", "channels"]
    assert document["duration_s"] == 3.0
    assert document["options"]["granularity"] == granularity
    assert document["model"]["notice"] == "A fake model."
    assert [channel["channel"] for channel in document["channels"]] == [1, 2][:channels]
    first = document["channels"][0]
    assert list(first) == ["channel", "result", "overall", "segments", "warnings", "speakers"]
    assert first["overall"]["level_dbfs"] == pytest.approx(-16, abs=1)
    assert [each["start"] for each in first["segments"]] == [0.0, 1.98]
    assert first["segments"][1] == {
        "start": 1.98,
        "end": 3.0,
        "emotion": "happy",
        "confidence": first["segments"][1]["confidence"],
        "speech": True,
    }


def test_what_was_not_scored_is_null():
    quiet = work(make_job(np.concatenate([silence(40)]), AnalysisOptions("stream")))
    document = quiet.to_json(scores=True, details=True)
    json.dumps(document, allow_nan=False)
    (channel,) = document["channels"]
    assert channel["overall"] is None
    assert channel["segments"][0]["emotion"] is None
    assert channel["segments"][0]["scores"] is None
    assert [warning["code"] for warning in channel["warnings"]] == ["silent"]
    loud = work(make_job(silence(2))).to_json(details=True)
    assert loud["channels"][0]["overall"]["level_dbfs"] is None


def test_speakers_are_told_of():
    (channel,) = analysis().channels
    posteriors = np.array([0.7, 0.1, 0.1, 0.1])
    turns = (
        Turn(start_sample=0, end_sample=8_000, speaker=0),
        Turn(start_sample=16_000, end_sample=27_753, speaker=0),
    )
    one = SpeakerResult("speaker 1", turns, 1.23456, "angry", 0.7, posteriors)
    body = ChannelAnalysis(channel.result, channel.overall, speakers=(one,)).to_json(scores=True)
    assert body["speakers"] == [
        {
            "speaker": "speaker 1",
            "turns": [{"start": 0.0, "end": 0.5}, {"start": 1.0, "end": 27_753 / 16_000}],
            "speech_s": 1.235,
            "emotion": "angry",
            "confidence": 0.7,
            "scores": dict(zip(LABELS.names, posteriors.tolist(), strict=True)),
        }
    ]


def test_the_size_grows_with_the_frames():
    small, large = analysis().num_bytes, analysis("frame").num_bytes
    (channel,) = analysis("frame").channels
    assert large - small >= channel.result.logits.nbytes  # type: ignore[union-attr]


@pytest.mark.needs("pandas")
@pytest.mark.parametrize(
    ("granularity", "rows"), [("utterance", 2), ("frame", 298), ("stream", 14)]
)
def test_a_data_frame(granularity: Granularity, rows: int):
    table = analysis(granularity, 2).to_dataframe()
    assert len(table) == rows
    assert list(table.columns[:6]) == [
        "file",
        "channel",
        "start_s",
        "end_s",
        "emotion",
        "confidence",
    ]
    assert list(table.columns[-4:]) == list(LABELS.names)
    assert set(table["channel"]) == {1, 2}
    assert set(table[table["channel"] == 2]["emotion"]) == {"neutral"}
    np.testing.assert_allclose(table[list(LABELS.names)].sum(axis=1), 1, atol=1e-5)
    assert table["end_s"].max() == pytest.approx(3.0, abs=0.03)


@pytest.mark.needs("pandas")
def test_a_data_frame_of_segments():
    audio = np.concatenate([voiced(25), silence(40), voiced(25)])
    table = work(make_job(audio)).to_dataframe(segments=True)
    assert table["end_s"].to_list()[-1] == 90.0
    assert table["start_s"].to_list()[1:] == table["end_s"].to_list()[:-1]
    assert table["emotion"].isna().to_list() == (~table["speech"]).to_list()
    assert 0 < table["emotion"].isna().sum() < len(table)


@pytest.mark.needs("pandas")
def test_a_stream_without_points_is_an_empty_table():
    table = work(make_job(silence(3), AnalysisOptions("stream"))).to_dataframe()
    assert len(table) == 0
    assert list(table.columns[-4:]) == list(LABELS.names)


def test_without_pandas_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'emotion-monitor\[tables\]'"):
        analysis().to_dataframe()
