from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ser_engine.config import (
    BatchingConfig,
    EngineConfig,
    ModelConfig,
    OfflineConfig,
    SmoothingConfig,
    SpeakersConfig,
    TimelineConfig,
    VadConfig,
)
from ser_engine.errors import AudioError
from ser_engine.files import AnalysisOptions, analysis_key, file_sha256
from ser_engine.types import ModelInfo
from tests.support.fake_engine import FakeEngine

INFO = FakeEngine().info
CONFIG = EngineConfig()


def key(
    content: str = "aa",
    info: ModelInfo = INFO,
    options: AnalysisOptions | None = None,
    config: EngineConfig = CONFIG,
) -> str:
    return analysis_key(content, info, options or AnalysisOptions(), config)


def test_the_same_is_the_same():
    assert key() == key()
    assert len(key()) == 64


@pytest.mark.parametrize(
    "other",
    [
        key("bb"),
        key(info=replace(INFO, sha256="1")),
        key(options=AnalysisOptions("frame")),
        key(config=replace(CONFIG, vad=VadConfig(aggressiveness=3))),
        key(config=replace(CONFIG, offline=OfflineConfig(max_pass_s=20))),
        key(config=replace(CONFIG, offline=OfflineConfig(pooling="all"))),
        key(config=replace(CONFIG, model=ModelConfig(precision="bf16"))),
    ],
)
def test_what_decides_about_a_result_is_in_it(other: str):
    assert other != key()


@pytest.mark.parametrize(
    "same",
    [
        key(options=AnalysisOptions(embeddings=True, frame_hop_ms=10)),
        key(config=replace(CONFIG, smoothing=SmoothingConfig(span_ms=1000))),
        key(config=replace(CONFIG, batching=BatchingConfig(max_batch_size=1))),
        key(config=replace(CONFIG, offline=OfflineConfig(presets={}, max_batch_s=3))),
        key(config=replace(CONFIG, model=ModelConfig(models_dir="elsewhere"))),
    ],
)
def test_what_makes_no_difference_is_not(same: str):
    assert same == key()


def test_the_timeline_decides_about_a_stream_only():
    config = replace(CONFIG, timeline=TimelineConfig(window_ms=3000))
    stream = AnalysisOptions("stream")
    assert key(config=config) == key()
    assert key(options=stream, config=config) != key(options=stream)


def test_how_speakers_are_told_apart_decides_where_they_are():
    config = replace(CONFIG, speakers=SpeakersConfig(threshold=0.7))
    speakers = AnalysisOptions(speakers=True)
    assert key(config=config) == key()
    assert key(options=speakers, config=config) != key(options=speakers) != key()


def test_the_hash_of_a_file(tmp_path: Path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "a.wav").write_bytes(content)
    assert file_sha256(tmp_path / "a.wav") == hashlib.sha256(content).hexdigest()
    with pytest.raises(AudioError, match=r"b\.wav: cannot be read: No such file"):
        file_sha256(tmp_path / "b.wav")
