"""Speakers of one channel: an embedder that hears levels, an engine that hears emotions in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from ser_engine.config import EngineConfig, ModelConfig, SpeakersConfig
from ser_engine.errors import CheckpointError
from ser_engine.files import (
    AnalysisJob,
    AnalysisOptions,
    ArraySource,
    ChannelAnalysis,
    Granularity,
    analyze,
)
from ser_engine.schema import ChannelResult, Span
from ser_engine.types import FloatArray
from tests.ser_engine.files.jobs import make_job, silence, voiced, work
from tests.support.campplus import make_campplus_folder
from tests.support.fake_engine import FakeEngine, LevelDetector


class LevelEmbedder:
    """A voice is a level: 0.1, 0.2 or 0.3."""

    name = "levels"

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        return [self._embed(piece) for piece in pieces]

    def _embed(self, piece: FloatArray) -> FloatArray:
        counts = np.bincount(np.rint(np.abs(piece) * 10).astype(int), minlength=4)
        vector: FloatArray = (counts / np.linalg.norm(counts)).astype(np.float32)
        return vector


def analysed(audio: FloatArray, granularity: Granularity, *, speakers: bool) -> ChannelAnalysis:
    job = AnalysisJob(
        file=ArraySource(audio),
        name="call",
        info=FakeEngine().info,
        config=EngineConfig(),
        options=AnalysisOptions(granularity, speakers=speakers),
        embedder=LevelEmbedder(),
    )
    (channel,) = work(job).channels
    return channel


def document_of_channel(channel: ChannelAnalysis) -> ChannelResult:
    whole = work(make_job(silence(1)))
    return dataclasses.replace(whole, channels=(channel,)).document().channels[0]


@pytest.fixture(autouse=True)
def level_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("job", "speakers"):
        monkeypatch.setattr(
            f"ser_engine.files.{module}.make_detector", lambda config: LevelDetector()
        )


CALL = np.concatenate(
    [voiced(6, 0.1), silence(1), voiced(9, 0.2), silence(1), voiced(12, 0.1), voiced(9, 0.2)]
)


@pytest.mark.parametrize("granularity", ["utterance", "frame", "stream"])
def test_each_speaker_has_turns_and_a_result(granularity: Granularity) -> None:
    channel = analysed(CALL, granularity, speakers=True)
    first, second = channel.speakers
    assert (first.name, second.name) == ("speaker 1", "speaker 2")
    assert [turn.start_s for turn in first.turns] == [0.0, 17.0]
    assert [turn.start_s for turn in second.turns] == [7.0, pytest.approx(29.0, abs=0.75)]
    assert first.speech_s == pytest.approx(18.0, abs=0.75)
    assert first.speech_s + second.speech_s == pytest.approx(36.0, abs=0.1)
    # Whoever speaks at 0.1 is angry, and happy at 0.2.
    assert (first.label, second.label) == ("angry", "happy")
    assert min(first.confidence, second.confidence) > 0.6
    assert second.posteriors.sum() == pytest.approx(1)


def test_segments_tell_who_speaks_most() -> None:
    channel = analysed(CALL, "utterance", speakers=True)
    assert {each.speaker for each in channel.pieces} <= {"speaker 1", "speaker 2"}
    for each in channel.pieces:
        assert each.speaker == ("speaker 1" if each.label == "angry" else "speaker 2")


def test_the_document_tells_of_speakers() -> None:
    first = document_of_channel(analysed(CALL, "utterance", speakers=True)).speakers[0]
    assert first.turns[0] == Span(start_sample=0, end_sample=96_000)
    assert (first.name, first.label) == ("speaker 1", "angry")


def test_nobody_is_told_apart_unasked() -> None:
    channel = analysed(CALL, "utterance", speakers=False)
    assert channel.speakers == ()
    assert {each.speaker for each in channel.pieces} == {None}


def test_speakers_change_nothing_else() -> None:
    without = document_of_channel(analysed(CALL, "frame", speakers=False))
    with_them = document_of_channel(analysed(CALL, "frame", speakers=True))
    pieces = tuple(replace(piece, speaker=None) for piece in with_them.pieces)
    assert replace(with_them, speakers=(), pieces=pieces) == without


def test_silence_has_no_speakers() -> None:
    assert analysed(silence(4), "utterance", speakers=True).speakers == ()


def test_a_model_that_is_not_there_is_told_of() -> None:
    config = EngineConfig(
        model=ModelConfig(offline=True), speakers=SpeakersConfig(model="/nowhere/cam")
    )
    with pytest.raises(CheckpointError, match="no file or folder"):
        analyze(voiced(2, 0.1), engine=FakeEngine(), config=config, speakers=True)


@pytest.mark.needs("shared-data")
def test_a_recorded_call_with_a_real_network(tmp_path: Path, shared_data: Path) -> None:
    import soundfile

    call = shared_data / "calls" / "phone_call_mono_8k.wav"
    samples, rate_hz = soundfile.read(call, frames=8_000 * 15)
    soundfile.write(tmp_path / "call.wav", samples, rate_hz)
    config = EngineConfig(
        model=ModelConfig(name="compact", offline=True),
        speakers=SpeakersConfig(model=str(make_campplus_folder(tmp_path / "cam"))),
    )
    (channel,) = analyze(tmp_path / "call.wav", config=config, speakers=True).channels
    # Weights are random, so who is who means nothing; that speech is covered does.
    assert channel.speakers
    assert 1 < sum(each.speech_s for each in channel.speakers) <= 15
