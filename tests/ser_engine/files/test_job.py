"""A job by itself: what it asks for, in what order it may be answered, what it holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import EngineConfig, OfflineConfig, TimelineConfig, VadConfig
from ser_engine.errors import AudioError, WindowError
from ser_engine.files import (
    AnalysisOptions,
    FileAnalysis,
    FrameResult,
    Granularity,
    StreamResult,
    UtteranceResult,
    monitor,
)
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray
from tests.ser_engine.files.jobs import RATE, Blocks, make_job, silence, voiced, work
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine, LevelDetector

GRANULARITIES: tuple[Granularity, ...] = ("utterance", "frame", "stream")
ALL_SPEECH = EngineConfig(vad=VadConfig(detector="off"))
NO_HANGOVER = EngineConfig(vad=VadConfig(detector="webrtc", hangover_ms=0))
SHORT = EngineConfig(
    timeline=TimelineConfig(500, 100, 40),
    vad=VadConfig(detector="off"),
    offline=OfflineConfig(max_pass_s=2),
)


@pytest.fixture
def level_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech is what is not digital silence."""
    monkeypatch.setattr(monitor, "make_detector", lambda config: LevelDetector())


def as_json(analysis: FileAnalysis) -> object:
    return analysis.to_json()


def test_the_engine_gets_no_audio_of_a_role_that_is_not_analysed():
    audio = np.stack([voiced(3, 0.1), voiced(3, 0.2), voiced(3, 0.3)])
    options = AnalysisOptions(
        roles=("agent", "customer", "mixed"), analyse_roles=("customer", "mixed")
    )
    job = make_job(audio, options, config=ALL_SPEECH)
    windows = []
    while not job.is_done:
        for pending in job.take_windows(4):
            windows.append((pending.channel, float(np.abs(pending.window.samples).max())))
            job.answer(pending, FakeEngine().run(pending.window))
    assert [(channel, round(level, 3)) for channel, level in windows] == [(1, 0.2), (2, 0.3)]
    one, mixed = job.finish().document().channels
    assert (one.channel, one.role) == (1, "customer")
    assert "mixed_speakers" in {warning.code for warning in mixed.warnings}
    assert "mixed_speakers" not in {warning.code for warning in one.warnings}


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        (("customer",), "got 1 roles for 2 channels"),
        (
            ("agent", "agent"),
            "got channels with the roles agent, expected at least one of customer",
        ),
    ],
)
def test_roles_that_do_not_fit_the_file(roles: tuple[str, ...], problem: str):
    options = AnalysisOptions(roles=roles, analyse_roles=("customer",))
    with pytest.raises(AudioError, match=problem):
        make_job(np.stack([voiced(1), voiced(1)]), options)


def test_the_whole_is_the_mean_of_the_segments_weighted_by_their_frames(level_detector: None):
    audio = np.concatenate(
        [voiced(14, 0.1), silence(2), voiced(13, 0.2), silence(1), voiced(17, 0.3)]
    )
    (channel,) = work(make_job(audio, config=NO_HANGOVER)).channels
    assert [(each.start_s, each.end_s) for each in channel.pieces] == [
        (0, 15),
        (15, 29.5),
        (29.5, 47),
    ]
    assert [each.label for each in channel.pieces] == ["angry", "happy", "neutral"]
    # 750, 725 and 875 cells; the last one has no 80 samples to read on.
    weights = [750, 725, 874]
    logits = np.array([each.logits for each in channel.pieces], dtype=np.float64)
    expected = np.average(logits, axis=0, weights=weights)
    assert isinstance(channel.result, UtteranceResult)
    assert channel.overall is channel.result
    np.testing.assert_allclose(channel.result.logits, expected, rtol=1e-6)
    np.testing.assert_allclose(channel.result.posteriors, softmax(expected), atol=1e-6)
    embeddings = np.array([each.embedding for each in channel.pieces])
    expected = np.average(embeddings, axis=0, weights=weights)
    np.testing.assert_allclose(channel.result.embedding, expected, rtol=1e-5)


def test_a_recording_of_one_pass_is_the_models_own_result():
    engine, audio = FakeEngine(), make_audio((30 * RATE, 0.1))
    (channel,) = work(make_job(audio, config=ALL_SPEECH), engine).channels
    (window,) = engine.windows
    np.testing.assert_array_equal(window.samples, audio)
    own = FakeEngine().run(window)
    assert not isinstance(own, WindowError)
    np.testing.assert_allclose(
        channel.overall.logits,  # type: ignore[union-attr]
        own.logits.mean(axis=0, dtype=np.float64),
        rtol=1e-6,
    )
    assert len(channel.pieces) == 1


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_segments_without_speech_are_left_out_and_marked(
    granularity: Granularity, level_detector: None
):
    audio = np.concatenate([voiced(25, 0.1), silence(60), voiced(25, 0.1)])
    engine = FakeEngine()
    (channel,) = work(make_job(audio, AnalysisOptions(granularity)), engine).channels
    silent = [each for each in channel.pieces if not each.has_speech]
    assert silent
    for each in silent:
        values = (each.label, each.confidence, each.logits, each.posteriors, each.embedding)
        assert values == (None,) * 5
    assert channel.overall is not None
    # Of silence the fake engine would say angry too, but with much less certainty.
    assert channel.overall.confidence > 0.99
    assert "silent" not in [warning.code for warning in channel.warnings]
    if granularity == "utterance":
        assert all(window.samples.any() for window in engine.windows)


@pytest.mark.parametrize("seconds", [5, 70])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_where_nothing_is_speech_there_is_a_result_with_a_warning(
    granularity: Granularity, seconds: int, level_detector: None
):
    (channel,) = work(make_job(silence(seconds), AnalysisOptions(granularity))).channels
    assert [warning.code for warning in channel.warnings] == ["silent"]
    assert not any(each.has_speech for each in channel.pieces)
    # A stream asks for nothing where nobody speaks: silence is a gap.
    assert (channel.overall is None) == (granularity == "stream")


def test_frames_of_a_long_recording_and_its_segments(level_detector: None):
    audio = np.concatenate([voiced(14, 0.1), silence(2), voiced(13, 0.2), voiced(21, 0.3)])
    options = AnalysisOptions("frame", embeddings=True)
    (channel,) = work(make_job(audio, options)).channels
    (utterance,) = work(make_job(audio)).channels
    assert isinstance(channel.result, FrameResult)
    assert channel.result.embeddings is not None
    assert len(channel.result.logits) == len(channel.result.embeddings) == 50 * 50 - 1
    spans = [(each.start_sample, each.end_sample, each.label) for each in channel.pieces]
    assert spans == [(each.start_sample, each.end_sample, each.label) for each in utterance.pieces]
    # The fake engine's frames know nothing of their window, so both ways give the same.
    assert channel.overall is not None and utterance.overall is not None
    np.testing.assert_allclose(channel.overall.logits, utterance.overall.logits, rtol=1e-6)
    np.testing.assert_allclose(channel.overall.embedding, utterance.overall.embedding, rtol=1e-5)
    for each in channel.pieces:
        rows = channel.result.logits[each.start_sample // 320 : each.end_sample // 320]
        assert each.logits is not None
        np.testing.assert_allclose(each.logits, rows.mean(axis=0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("granularity", ["frame", "stream"])
def test_a_second_pass_gives_frames_every_10_ms(granularity: Granularity):
    """An engine of 20 ms asked twice is an engine of 10 ms."""
    audio = make_audio((16_000, 0.1), (70_000, 0.2), (5081, 0.3))
    options = AnalysisOptions(granularity, embeddings=True, frame_hop_ms=10, details=True)
    twice = work(make_job(audio, options, SHORT))
    native = EngineConfig(
        timeline=TimelineConfig(500, 100, 40, 10), vad=SHORT.vad, offline=SHORT.offline
    )
    asked = AnalysisOptions(granularity, embeddings=True, details=True)
    once = work(make_job(audio, asked, native), FakeEngine())
    assert twice.options == once.options
    assert twice.options.frame_hop_ms == 10
    assert as_json(twice) == as_json(once)
    (one,), (other,) = twice.channels, once.channels
    match one.result, other.result:
        case FrameResult(), FrameResult():
            assert one.result.hop_samples == 160
            np.testing.assert_array_equal(one.result.logits, other.result.logits)
            assert one.result.embeddings is not None and other.result.embeddings is not None
            np.testing.assert_array_equal(one.result.embeddings, other.result.embeddings)
        case StreamResult(), StreamResult():
            assert one.result.points[0].frames is not None
            assert one.result.points[0].frames.hop_samples == 160
        case _:
            raise AssertionError


def test_an_utterance_takes_no_second_pass():
    engine = FakeEngine()
    job = make_job(make_audio((50_000, 0.1)), AnalysisOptions(frame_hop_ms=10), ALL_SPEECH)
    assert work(job, engine).options.frame_hop_ms == 20
    assert len(engine.windows) == 1


@pytest.mark.parametrize("granularity", GRANULARITIES)
@settings(max_examples=12)
@given(
    cuts=st.lists(st.integers(0, 90_000), max_size=5),
    at_once=st.integers(1, 9),
    order=st.randoms(use_true_random=False),
)
def test_neither_blocks_nor_the_order_of_answers_matter(
    granularity: Granularity, cuts: list[int], at_once: int, order: object
):
    audio = np.stack([make_audio((90_000, 0.1)), make_audio((90_000, 0.2), seed=1)])
    options = AnalysisOptions(granularity, frame_hop_ms=10)
    expected = as_json(work(make_job(audio, options, SHORT), at_once=1))
    blocks = [block for block in np.split(audio, sorted(cuts), axis=1) if block.shape[1]]
    job, engine = make_job(Blocks(blocks), options, SHORT), FakeEngine()
    while not job.is_done:
        windows = job.take_windows(at_once)
        order.shuffle(windows)  # type: ignore[attr-defined]
        # Some wait while others are asked for.
        for pending in windows:
            job.answer(pending, engine.run(pending.window))
    assert as_json(job.finish()) == expected


def test_a_stream_has_one_window_at_a_time():
    job, engine = (
        make_job(make_audio((100_000, 0.1)), AnalysisOptions("stream"), SHORT),
        FakeEngine(),
    )
    while not job.is_done:
        windows = job.take_windows(100)
        keys = [each.window.stream_key for each in windows if each.window.stream_key]
        assert len(keys) == len(set(keys)) <= 1
        assert job.take_windows(100) == []
        for pending in windows:
            job.answer(pending, engine.run(pending.window))
    assert len(job.stream_keys) == 1


def test_progress_grows_to_one():
    job, engine = make_job(make_audio((40 * RATE, 0.1)), config=SHORT), FakeEngine()
    told = [job.progress]
    while not job.is_done:
        for pending in job.take_windows(2):
            job.answer(pending, engine.run(pending.window))
            told.append(job.progress)
    assert told == sorted(told)
    assert told[0] == 0
    assert len(set(told)) > 10
    assert job.progress == 1


@pytest.mark.parametrize("granularity", ["utterance", "frame"])
def test_an_error_ends_the_job(granularity: Granularity):
    engine = FakeEngine()
    engine.fail_when = lambda window: window.start_sample > 0
    job = make_job(make_audio((100_000, 0.1)), AnalysisOptions(granularity), SHORT)
    windows = job.take_windows(2)
    for pending in windows:
        job.answer(pending, engine.run(pending.window))
    assert job.is_done
    assert job.take_windows(5) == []
    with pytest.raises(WindowError):
        job.finish()


def test_late_answers_after_an_error_change_nothing():
    job = make_job(make_audio((100_000, 0.1)), config=SHORT)
    first, second = job.take_windows(2)
    job.answer(first, WindowError("no"))
    job.answer(second, FakeEngine().run(second.window))
    assert job.num_pending == 0
    with pytest.raises(WindowError, match="no"):
        job.finish()


def test_a_stream_whose_windows_fail_has_no_whole():
    engine = FakeEngine()
    engine.fail_when = lambda window: True
    job = make_job(make_audio((100_000, 0.1)), AnalysisOptions("stream"), SHORT)
    (channel,) = work(job, engine).channels
    assert channel.overall is None
    assert isinstance(channel.result, StreamResult)
    assert {gap.reason for gap in channel.result.gaps} == {"error"}


class Broken:
    """A file that is damaged after some seconds."""

    channels = 1
    rate_hz = RATE
    header_s = 60.0

    def blocks(self) -> Iterator[FloatArray]:
        yield make_audio((50_000, 0.1))[None]
        raise AudioError("the audio is damaged")


def test_a_damaged_file_ends_the_job():
    job = make_job(Broken(), config=SHORT)
    job.take_windows(100)
    assert job.is_done
    with pytest.raises(AudioError, match="damaged"):
        job.finish()


def test_what_is_asked_wrongly_is_refused():
    job = make_job(make_audio((50_000, 0.1)), config=ALL_SPEECH)
    with pytest.raises(RuntimeError, match="the job is not done"):
        job.finish()
    (pending,) = job.take_windows(1)
    outcome = FakeEngine().run(pending.window)
    job.answer(pending, outcome)
    with pytest.raises(ValueError, match="not pending"):
        job.answer(pending, outcome)


def test_long_silence_does_not_keep_whoever_asks(level_detector: None):
    audio = np.concatenate([voiced(1), silence(500), voiced(1)])
    blocks = np.split(audio[None], range(16_000, len(audio), 16_000), axis=1)
    job, engine, rounds = make_job(Blocks(blocks)), FakeEngine(), 0
    while not job.is_done:
        rounds += 1
        for pending in job.take_windows(1, max_read_s=60):
            job.answer(pending, engine.run(pending.window))
    assert rounds >= 8
