"""What a whole file is as JSON and as tables."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from ser_engine.config import EngineConfig, OfflineConfig, SmoothingConfig, VadConfig
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.files import (
    AnalysisOptions,
    FileAnalysis,
    Granularity,
    SpeakerResult,
)
from ser_engine.files.analysis import document_of, json_chunks
from ser_engine.schema import RESULT_VERSION, ChannelResult, FileResult
from ser_engine.speakers import Turn
from ser_engine.types import FloatArray
from tests.ser_engine.files.jobs import HEARS_NOISE, make_job, silence, voiced, work
from tests.support.fake_engine import LABELS, LevelDetector

CONFIG = EngineConfig(vad=VadConfig(detector="off"), offline=OfflineConfig(max_pass_s=2))
Pooling = Literal["auto", "all", "speech"]
Posteriors = npt.NDArray[np.float64]
GRANULARITIES: tuple[Granularity, ...] = ("utterance", "frame", "stream")


def analysis(granularity: Granularity = "utterance", channels: int = 1) -> FileAnalysis:
    """Three seconds, angry, then happy in the first channel."""
    first = np.concatenate([voiced(1.4, 0.1), voiced(1.6, 0.2)])
    audio = first if channels == 1 else np.stack([first, voiced(3, 0.3)])
    return work(make_job(audio, AnalysisOptions(granularity, embeddings=True), CONFIG))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_document_has_one_form(granularity: Granularity, channels: int):
    document = analysis(granularity, channels).document()
    json.dumps(msgspec.to_builtins(document), allow_nan=False)
    assert (document.duration_s, document.sample_rate) == (3.0, 16_000)
    assert (document.granularity, document.version) == (granularity, RESULT_VERSION)
    assert document.model.notice == "A fake model."
    assert [channel.channel for channel in document.channels] == [0, 1][:channels]
    first = document.channels[0]
    assert first.overall is not None
    assert first.overall.level_dbfs == pytest.approx(-16, abs=1)
    assert [(each.start_s, each.end_s, each.label) for each in first.pieces] == [
        (0.0, 1.98, "angry"),
        (1.98, 3.0, "happy"),
    ]
    assert [each.label for each in first.segments] == (
        [] if granularity == "utterance" else ["angry", "happy"]
    )
    assert bool(first.points) is (granularity == "stream")
    assert (first.frames is not None) is (granularity == "frame")


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_chunks_are_the_document(granularity: Granularity):
    whole = analysis(granularity, 2)
    text = b"".join(json_chunks(whole))
    assert msgspec.json.decode(text, type=FileResult) == whole.document()
    assert text == msgspec.json.encode(whole.document())


def test_no_label_is_said_of_a_frame_without_speech(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ser_engine.files.job.make_detector", lambda config: LevelDetector())
    audio = np.concatenate([voiced(1, 0.1), silence(1), voiced(1, 0.2)])
    channel = work(make_job(audio, AnalysisOptions("frame"))).document().channels[0]
    assert channel.frames is not None
    speech = np.array(channel.frames.speech)
    assert speech[:50].all() and not speech[50:100].any() and speech[100:].all()
    has_label = np.array([label is not None for label in channel.frames.labels])
    np.testing.assert_array_equal(has_label, speech > 0)
    assert [(gap.start_s, gap.end_s) for gap in channel.gaps] == [(1, 2)]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_pauses_do_not_move_a_whole_that_is_pooled_over_speech(
    granularity: Granularity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ser_engine.files.job.make_detector", lambda config: LevelDetector())
    speech = voiced(1.2, 0.3)
    padded = np.concatenate([silence(1), speech[:9600], silence(2), speech[9600:], silence(3)])

    def whole(audio: FloatArray, pooling: Pooling) -> tuple[Posteriors, Posteriors]:
        config = EngineConfig(offline=OfflineConfig(pooling=pooling))
        (channel,) = work(make_job(audio, AnalysisOptions(granularity), config)).channels
        assert channel.overall is not None
        assert channel.pieces[0].posteriors is not None
        return channel.overall.posteriors, channel.pieces[0].posteriors

    plain, padded_whole = whole(speech, "speech"), whole(padded, "speech")
    # The frames at the ends of speech hear some of the silence.
    np.testing.assert_allclose(padded_whole, plain, atol=0.02)
    assert np.abs(whole(padded, "all")[0] - plain[0]).max() > 0.2
    # Of a model that says nothing of it; a built-in one does.
    np.testing.assert_array_equal(whole(padded, "auto"), whole(padded, "all"))


def test_a_result_below_the_threshold_has_no_label_and_keeps_what_it_was():
    config = dataclasses.replace(HEARS_NOISE, smoothing=SmoothingConfig(abstain_below=1.0))
    channel = work(make_job(voiced(2, 0.1), config=config)).document().channels[0]
    assert channel.overall is not None
    assert (channel.overall.label, channel.overall.best) == (None, "angry")
    assert channel.overall.confidence == max(channel.overall.posteriors) < 1
    assert [(piece.label, piece.best) for piece in channel.pieces] == [(None, "angry")]
    assert channel.whole is not None
    assert channel.whole.shares.unclear == 1


def test_frames_of_a_page_are_averaged():
    whole = analysis("frame")
    every, some = (document_of(whole, max_rows=rows).channels[0].frames for rows in (None, 40))
    assert every is not None
    assert some is not None
    assert len(every.labels) == 149
    assert len(some.labels) == len(some.start_samples) == 38
    assert some.hop_samples == 4 * every.hop_samples
    np.testing.assert_allclose(some.posteriors[0], np.mean(every.posteriors[:4], axis=0), atol=1e-6)
    np.testing.assert_allclose(some.posteriors[-1], every.posteriors[-1], atol=1e-6)


def test_frames_become_the_segments_of_a_stream(monkeypatch: pytest.MonkeyPatch):
    """One smoother: where one label is certain, both say when it begins and ends."""
    monkeypatch.setattr("ser_engine.files.job.make_detector", lambda config: LevelDetector())
    audio = np.concatenate([voiced(4, 0.1), silence(2), voiced(4, 0.2), voiced(4, 0.3), silence(2)])
    frame, stream = (
        work(make_job(audio, AnalysisOptions(granularity))).document().channels[0]
        for granularity in ("frame", "stream")
    )

    def spans(channel: ChannelResult) -> list[tuple[int, int, str | None]]:
        found: list[tuple[int, int, str | None]] = [
            (one.start_sample, one.end_sample, one.label) for one in channel.segments
        ]
        return sorted(
            found + [(one.start_sample, one.end_sample, one.reason) for one in channel.gaps]
        )

    assert spans(frame) == spans(stream)
    assert [label for *_, label in spans(frame)] == [
        *("angry", "silence", "happy", "neutral", "silence")
    ]


def test_smoothing_of_frames_follows_the_settings():
    audio = np.concatenate([voiced(4, 0.1), voiced(0.6, 0.2), voiced(4, 0.1)])
    labels = []
    for smoothing in (SmoothingConfig(), SmoothingConfig(span_ms=100, min_dwell_ms=200)):
        config = EngineConfig(vad=VadConfig(detector="off"), smoothing=smoothing)
        document = work(make_job(audio, AnalysisOptions("frame"), config)).document()
        labels.append([segment.label for segment in document.channels[0].segments])
    assert labels == [["angry"], ["angry", "happy", "angry"]]


def test_what_was_not_scored_is_null():
    quiet = work(make_job(np.concatenate([silence(40)]), AnalysisOptions("stream")))
    (channel,) = quiet.document().channels
    assert channel.overall is None
    assert (channel.pieces[0].label, channel.pieces[0].posteriors) == (None, None)
    assert [warning.code for warning in channel.warnings] == ["silent"]
    (loud,) = work(make_job(silence(2))).document().channels
    assert loud.overall is not None
    assert loud.overall.level_dbfs is None


def test_speakers_are_told_of():
    whole = analysis()
    posteriors = np.array([0.7, 0.1, 0.1, 0.1])
    turns = (
        Turn(start_sample=0, end_sample=8_000, speaker=0),
        Turn(start_sample=16_000, end_sample=27_753, speaker=0),
    )
    one = SpeakerResult("speaker 1", turns, 1.23456, "angry", "angry", 0.7, posteriors)
    channel = dataclasses.replace(whole.channels[0], speakers=(one,))
    document = dataclasses.replace(whole, channels=(channel,)).to_json()
    assert list(document["channels"][0]["speakers"]) == [
        {
            "name": "speaker 1",
            "turns": (
                {"start_sample": 0, "end_sample": 8_000, "start_s": 0.0, "end_s": 0.5},
                {
                    "start_sample": 16_000,
                    "end_sample": 27_753,
                    "start_s": 1.0,
                    "end_s": 27_753 / 16_000,
                },
            ),
            "speech_s": 1.235,
            "label": "angry",
            "best": "angry",
            "confidence": 0.7,
            "posteriors": (0.7, 0.1, 0.1, 0.1),
        }
    ]


def test_embeddings_are_one_array():
    shapes: dict[Granularity, tuple[int, ...]] = {
        "utterance": (2,),
        "stream": (2,),
        "frame": (149, 2),
    }
    for granularity, shape in shapes.items():
        alone, both = (analysis(granularity, count).embedding for count in (1, 2))
        assert alone is not None and both is not None
        assert (alone.shape, both.shape) == (shape, (2, *shape))


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
    assert list(table.columns[:6]) == [*("name", "channel", "start_s", "end_s", "label", "best")]
    assert list(table.columns[-4:]) == list(LABELS.names)
    assert set(table["channel"]) == {0, 1}
    assert set(table[table["channel"] == 1]["best"]) == {"neutral"}
    np.testing.assert_allclose(table[list(LABELS.names)].sum(axis=1), 1, atol=1e-5)
    assert table["end_s"].max() == pytest.approx(3.0, abs=0.03)


@pytest.mark.needs("pandas")
def test_a_data_frame_of_pieces():
    audio = np.concatenate([voiced(25), silence(40), voiced(25)])
    table = work(make_job(audio)).to_dataframe(pieces=True)
    assert table["end_s"].to_list()[-1] == 90.0
    assert table["start_s"].to_list()[1:] == table["end_s"].to_list()[:-1]
    assert table["label"].isna().to_list() == (~table["has_speech"]).to_list()
    assert 0 < table["label"].isna().sum() < len(table)


@pytest.mark.needs("pandas")
def test_a_stream_without_points_is_an_empty_table():
    table = work(make_job(silence(3), AnalysisOptions("stream"))).to_dataframe()
    assert len(table) == 0
    assert list(table.columns[-4:]) == list(LABELS.names)


def test_without_pandas_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'emotion-monitor\[tables\]'"):
        analysis().to_dataframe()
