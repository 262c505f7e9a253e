from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ser_engine.config import EngineConfig, OfflineConfig, TimelineConfig, VadConfig
from ser_engine.errors import AudioError, ConfigError, WindowError
from ser_engine.files import (
    FrameResult,
    Granularity,
    Result,
    StreamResult,
    UtteranceResult,
    analyze_channel,
)
from ser_engine.timeline import ChannelStream
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray
from tests.ser_engine.files.jobs import plain
from tests.ser_engine.timeline.streams import drive, gaps, make_audio, points, segments
from tests.support.fake_engine import FakeEngine, logits_of_audio, square

CONFIG = EngineConfig(
    timeline=TimelineConfig(500, 100, 40),
    vad=VadConfig(detector="off"),
    offline=OfflineConfig(max_pass_s=1),
)
AUDIO = make_audio((16_000, 0.1), (20_000, 0.2), (5000, 0.3))
GRANULARITIES: list[Granularity] = ["utterance", "frame", "stream"]


def frame_logits(audio: FloatArray, hop: int = 320) -> FloatArray:
    frames = np.lib.stride_tricks.sliding_window_view(audio, 400)[::hop]
    return logits_of_audio(frames, None)  # type: ignore[arg-type]


def analyze(
    audio: FloatArray, granularity: Granularity, hop: int = 320, config: EngineConfig = CONFIG
) -> Result:
    config = replace(config, timeline=replace(config.timeline, frame_hop_ms=hop // 16))
    return analyze_channel(FakeEngine(), audio, granularity, config, embeddings=True)


@pytest.mark.parametrize("hop", [160, 320])
@pytest.mark.parametrize("length", [400, 16_000, len(AUDIO)])
def test_utterance_is_the_mean_of_the_models_frames(length: int, hop: int) -> None:
    result = analyze(AUDIO[:length], "utterance", hop)
    assert isinstance(result, UtteranceResult)
    expected = frame_logits(AUDIO[:length]).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(result.logits, expected, rtol=1e-6)
    np.testing.assert_allclose(result.posteriors, softmax(expected))
    frames = np.lib.stride_tricks.sliding_window_view(AUDIO[:length], 400)[::320]
    np.testing.assert_allclose(result.embedding[0], frames[:, 0].mean(), rtol=1e-5)
    assert result.num_samples == length


@pytest.mark.parametrize("hop", [160, 320])
@pytest.mark.parametrize("length", [400, 16_000, len(AUDIO)])
def test_frames_of_all_passes_are_joined(length: int, hop: int) -> None:
    result = analyze(AUDIO[:length], "frame", hop)
    assert isinstance(result, FrameResult)
    np.testing.assert_array_equal(result.logits, frame_logits(AUDIO[:length], hop))
    np.testing.assert_allclose(result.posteriors.sum(axis=1), 1)
    np.testing.assert_array_equal(result.times_s, np.arange(len(result.logits)) * hop / 16_000)
    assert result.embeddings is not None
    np.testing.assert_array_equal(result.embeddings[:, 0], AUDIO[: length - 399 : hop])


def test_embeddings_are_kept_on_request_only() -> None:
    result = analyze_channel(FakeEngine(), AUDIO, "frame", CONFIG)
    assert isinstance(result, FrameResult)
    assert result.embeddings is None


@pytest.mark.parametrize("hop", [160, 320])
def test_stream_is_what_a_live_stream_gives(hop: int) -> None:
    config = EngineConfig(
        timeline=TimelineConfig(500, 100, 40, hop // 16), vad=VadConfig(detector="off")
    )
    result = analyze(AUDIO, "stream", hop, config)
    assert isinstance(result, StreamResult)
    stream = ChannelStream(config, FakeEngine().info, "other key")
    events = drive(stream, np.array_split(AUDIO, 77), FakeEngine())
    assert result.points == tuple(points(events))
    assert result.segments == tuple(segments(events))
    assert result.gaps == tuple(gaps(events)) == ()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_blocks_do_not_matter(granularity: Granularity) -> None:
    whole = analyze_channel(FakeEngine(), AUDIO, granularity, CONFIG)
    blocks = np.split(AUDIO, [1, 500, 501, 30_000])
    pieces = analyze_channel(FakeEngine(), blocks, granularity, CONFIG)
    assert plain(pieces) == plain(whole)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (np.zeros(399, np.float32), "got 399 samples at 16 kHz .24.9 ms., expected at least 400"),
        (np.zeros(0, np.float32), "got 0 samples"),
        (np.full(1000, np.nan, np.float32), "NaN or infinite"),
        (np.full(1000, 1e300), "NaN or infinite"),
        (np.full(1000, 1e30), "got a sample of 1e.30"),
        (np.zeros((1000, 2), np.float32), r"shape \(1000, 2\)"),
        (np.zeros(1000, np.int64), "got int64"),
    ],
)
def test_bad_audio_is_refused(granularity: Granularity, audio: FloatArray, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        analyze_channel(FakeEngine(), audio, granularity, CONFIG)


@pytest.mark.parametrize("granularity", ["utterance", "frame"])
def test_an_error_of_the_engine_is_raised(granularity: Granularity) -> None:
    engine = FakeEngine()
    engine.fail_when = lambda window: True
    with pytest.raises(WindowError):
        analyze_channel(engine, AUDIO, granularity, CONFIG)


def test_an_error_of_the_engine_is_a_gap_of_the_stream() -> None:
    engine = FakeEngine()
    engine.fail_when = lambda window: True
    result = analyze_channel(engine, AUDIO, "stream", CONFIG)
    assert isinstance(result, StreamResult)
    assert [gap.reason for gap in result.gaps] == ["error"]


def test_an_unknown_granularity_is_refused() -> None:
    with pytest.raises(ConfigError, match="got granularity 'word'"):
        analyze_channel(FakeEngine(), AUDIO, "word", CONFIG)  # type: ignore[arg-type]


def test_the_level_tells_silence() -> None:
    silent = analyze(np.zeros(1000, np.float32), "utterance")
    loud = analyze(square(1000, 0.1), "utterance")
    assert isinstance(silent, UtteranceResult) and isinstance(loud, UtteranceResult)
    assert silent.level_dbfs == -math.inf
    assert loud.level_dbfs == pytest.approx(-20, abs=0.3)


def test_passes_stay_within_the_longest() -> None:
    engine = FakeEngine()
    analyze_channel(engine, make_audio((100_000, 0.1)), "frame", CONFIG)
    assert max(len(window.samples) for window in engine.windows) == 16_000
