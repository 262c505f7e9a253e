from __future__ import annotations

import pytest

from ser_engine.config import EngineConfig, OfflineConfig, PresetConfig, TimelineConfig
from ser_engine.errors import ConfigError
from ser_engine.files import AnalysisOptions, options_of_preset
from ser_engine.files.options import options_in_effect


@pytest.mark.parametrize(
    ("name", "granularity", "embeddings", "frame_hop_ms"),
    [
        ("call_quality", "utterance", False, 20),
        ("counselling", "frame", True, 20),
        ("trend_wall", "stream", False, 20),
        ("mass_screening", "utterance", False, 20),
        ("recommendation", "utterance", True, 20),
        ("research", "frame", True, 10),
    ],
)
def test_presets(name: str, granularity: str, embeddings: bool, frame_hop_ms: int):
    options = options_of_preset(name, EngineConfig())
    assert (options.granularity, options.embeddings) == (granularity, embeddings)
    assert options.frame_hop_ms == frame_hop_ms


def test_presets_of_ones_own_and_unknown_ones():
    config = EngineConfig(offline=OfflineConfig(presets={"mine": PresetConfig("frame")}))
    assert options_of_preset("mine", config) == AnalysisOptions("frame")
    with pytest.raises(ConfigError, match="got preset 'research', expected one of mine"):
        options_of_preset("research", config)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"granularity": "word"}, "granularity 'word', expected one of utterance"),
        ({"frame_hop_ms": 15}, "frame_hop_ms 15, expected 10 or 20"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], says: str):
    for make in (AnalysisOptions, PresetConfig):
        with pytest.raises(ConfigError, match=says):
            make(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "native_ms", "effective"),
    [
        (AnalysisOptions(embeddings=True, frame_hop_ms=10, details=True), 10, AnalysisOptions()),
        (AnalysisOptions("frame", True), 20, AnalysisOptions("frame", True)),
        (AnalysisOptions("frame"), 10, AnalysisOptions("frame", frame_hop_ms=10)),
        (
            AnalysisOptions("stream", True, 10, details=True),
            20,
            AnalysisOptions("stream", frame_hop_ms=10, details=True),
        ),
    ],
)
def test_what_makes_no_difference_has_its_default(
    asked: AnalysisOptions, native_ms: int, effective: AnalysisOptions
):
    config = EngineConfig(timeline=TimelineConfig(frame_hop_ms=native_ms))
    assert options_in_effect(asked, config) == effective


def test_segment_lengths_must_fit():
    with pytest.raises(ConfigError, match=r"segment_min_s 30.* with offline.segment_max_s 20"):
        OfflineConfig(segment_min_s=30)
