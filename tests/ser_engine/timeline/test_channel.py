from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import SmoothingConfig, TimelineConfig
from ser_engine.errors import AudioError
from ser_engine.frames import num_frames
from ser_engine.schema import Point
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray, Window, WindowResult
from tests.ser_engine.timeline.streams import (
    TIMELINE,
    answer,
    assert_tiles,
    drive,
    gap_spans,
    make_audio,
    make_stream,
    points,
    scored_slots,
    segments,
)
from tests.support.fake_engine import FakeEngine, logits_of_audio, logits_of_position

AUDIO = make_audio((4000, 0), (9000, 0.1), (3000, 0), (9000, 0.2), (6500, 0.3), (2777, 0))


def split(audio: FloatArray, cuts: list[int]) -> list[FloatArray]:
    return np.split(audio, sorted(cut % (len(audio) + 1) for cut in cuts))


@pytest.mark.parametrize("frame_hop_ms", [10, 20])
@given(cuts=st.lists(st.integers(0, 10**6), max_size=40))
def test_chunking_does_not_matter(frame_hop_ms: int, cuts: list[int]) -> None:
    timeline = TimelineConfig(500, 100, 40, frame_hop_ms, 300)
    engine = FakeEngine()
    whole = drive(make_stream(timeline), [AUDIO], engine)
    assert drive(make_stream(timeline), split(AUDIO, cuts), engine) == whole


def test_single_samples_give_the_same_as_the_whole() -> None:
    # Long enough for what goes on to be announced.
    audio = make_audio((17_000, 0), (17_000, 0.1))
    whole = drive(make_stream(), [audio])
    assert drive(make_stream(), audio.reshape(-1, 1)) == whole
    assert points(whole)
    assert any(not isinstance(event, Point) and not event.final for event in whole)


@given(length=st.integers(0, 9000), start=st.sampled_from([0, 4500]))
def test_every_sample_is_accounted_for_once(length: int, start: int) -> None:
    audio = AUDIO[start : start + length]
    stream = make_stream(details=True)
    events = drive(stream, [audio])
    assert_tiles(events, length)
    assert stream.accounted_samples == stream.audio.clock_samples == length
    speech = [c * 320 for c in range(num_frames(length)) if audio[c * 320 : c * 320 + 320].any()]
    assert scored_slots(events) == speech


@pytest.mark.parametrize("hop", [160, 320])
def test_joined_frames_equal_those_of_one_long_window(hop: int) -> None:
    timeline = TimelineConfig(500, 100, 40, hop // 16, 300)
    audio = AUDIO[4160:12800]
    stream = make_stream(timeline, SmoothingConfig(span_ms=20, min_dwell_ms=60), details=True)
    events = drive(stream, [audio], FakeEngine())
    frames = np.lib.stride_tricks.sliding_window_view(audio, 400)[::hop]
    joined = np.concatenate([point.frames.posteriors for point in points(events) if point.frames])
    logits = logits_of_audio(frames, None).astype(np.float64)  # type: ignore[arg-type]
    if hop == 160:  # 20 ms hold two frames
        logits[1:] = (logits[:-1] + logits[1:]) / 2
    np.testing.assert_allclose(joined, softmax(logits), rtol=0, atol=5.1e-7)
    assert scored_slots(events) == list(range(0, len(frames) * hop, hop))


_WHOLE = 100_000


def _shares_of_position(frames: FloatArray, window: Window) -> FloatArray:
    shares = logits_of_position(frames, window)
    shares[:, 3] = _WHOLE - shares.sum(axis=1)
    with np.errstate(divide="ignore"):
        logits: FloatArray = np.log(shares / _WHOLE)
    return logits


@pytest.mark.parametrize(
    "timeline",
    [
        TIMELINE,
        TimelineConfig(500, 100, 0),
        TimelineConfig(1000, 20, 0),
        TimelineConfig(500, 260, 240),
    ],
)
def test_a_frame_comes_from_the_first_window_with_its_look_ahead(timeline: TimelineConfig) -> None:
    length = 21_111
    audio = make_audio((length, 0.1))
    # One frame a pool, and logits whose softmax names the window: its start, its end, the row.
    stream = make_stream(timeline, SmoothingConfig(span_ms=20, min_dwell_ms=60), details=True)
    events = drive(stream, [audio], FakeEngine(_shares_of_position))
    step, ahead = timeline.step_samples, timeline.look_ahead_samples
    for point in points(events):
        assert point.frames is not None
        for start, shares in zip(point.frames.start_samples, point.frames.posteriors, strict=True):
            first, end, row, _ = (round(share * _WHOLE) for share in shares)
            boundaries = range(step, length + 1, step)
            ripe = [t for t in boundaries if start + 320 <= t - ahead and start + 400 <= t]
            assert end == (ripe[0] if ripe else length)
            assert first == max(0, -(-(end - timeline.window_samples) // 320) * 320)
            assert start == first + row * 320


def test_a_point_is_published_at_its_boundary() -> None:
    stream, engine = make_stream(), FakeEngine()
    for t in range(320, 16_000, 320):
        events = answer(stream, stream.push(make_audio((320, 0.1), seed=t)), engine)
        expected = (t - TIMELINE.look_ahead_samples) // 320 * 320
        assert [point.end_sample for point in points(events)] == [expected] * (t % 1600 == 0)


def test_windows_are_views_of_the_last_audio_on_the_grid() -> None:
    stream, audio = make_stream(), make_audio((20_123, 0.1))
    windows = [*stream.push(audio), *stream.finish()]
    for window in windows:
        assert window.start_sample % 320 == 0
        assert 400 <= len(window.samples) <= TIMELINE.window_samples
        end = window.start_sample + len(window.samples)
        np.testing.assert_array_equal(window.samples, audio[window.start_sample : end])
        assert window.stream_key == "key"
    assert [w.start_sample + len(w.samples) for w in windows] == [
        *range(1600, 20_123, 1600),
        20_123,
    ]


def test_silence_is_never_inferred_and_never_neutral() -> None:
    engine = FakeEngine()
    events = drive(make_stream(), [make_audio((50_000, 0))], engine)
    assert engine.windows == []
    assert gap_spans(events) == [(0, 50_000, "silence")]
    assert not points(events)
    assert not segments(events)


@pytest.mark.parametrize("length", [1, 399])
def test_less_than_a_frame_is_too_short(length: int) -> None:
    events = drive(make_stream(), [make_audio((length, 0.1))])
    assert gap_spans(events) == [(0, length, "too_short")]


def test_an_empty_stream_says_nothing() -> None:
    assert drive(make_stream(), []) == []


def test_one_frame_is_scored_and_provisional() -> None:
    (segment, point) = sorted(
        drive(make_stream(), [make_audio((400, 0.2))]), key=repr, reverse=True
    )
    assert isinstance(point, Point)
    assert (point.start_sample, point.end_sample, point.label) == (0, 320, "happy")
    assert point.provisional
    assert (segment.start_sample, segment.end_sample) == (0, 400)


def test_provisional_ends_with_enough_audio() -> None:
    events = drive(make_stream(), [make_audio((16_000, 0.1))])
    flags = [point.provisional for point in points(events)]
    assert flags == [True, True] + [False] * (len(flags) - 2)


def test_speech_share_counts_the_due_slots() -> None:
    events = drive(make_stream(), [make_audio((1600 * 3 + 320, 0), (1600 * 3, 0.1))])
    first = points(events)[0]
    # At the boundary at 6400 the slots due are 13 to 17; speech begins with slot 16.
    assert (first.start_sample, first.end_sample) == (13 * 320, 18 * 320)
    assert first.speech_share == pytest.approx(2 / 5)


def test_labels_follow_the_audio_and_split_at_silence() -> None:
    audio = make_audio((8000, 0.1), (8000, 0.2), (8000, 0), (8000, 0.3))
    found = segments(drive(make_stream(), [audio]))
    assert [segment.label for segment in found] == ["angry", "happy", "neutral"]
    for before, after in pairwise(found):
        assert before.end_sample <= after.start_sample
    assert found[0].end_sample == pytest.approx(8000, abs=SmoothingConfig().span_ms * 16)


@pytest.mark.parametrize("step_ms", [60, 100, 400])
def test_segments_do_not_depend_on_the_step(step_ms: int) -> None:
    timeline = TimelineConfig(500, step_ms, 40)
    reference = segments(drive(make_stream(TIMELINE), [AUDIO]))
    assert segments(drive(make_stream(timeline), [AUDIO])) == reference


def test_a_failed_window_is_an_error_gap_and_the_stream_goes_on() -> None:
    engine = FakeEngine()
    engine.fail_when = lambda window: len(window.samples) == 3200
    events = drive(make_stream(), [make_audio((8000, 0.1))], engine)
    assert gap_spans(events) == [(960, 2560, "error")]
    assert_tiles(events, 8000)


def test_logits_that_are_not_numbers_are_an_error_gap() -> None:
    stream = make_stream()
    (window,) = stream.push(make_audio((1600, 0.1)))
    logits = np.zeros((4, 4), dtype=np.float32)
    logits[1, 2] = np.nan
    events = stream.accept(window, WindowResult(logits, logits)) + stream.close()
    assert gap_spans(events) == [(320, 640, "error"), (960, 1600, "overload")]


def test_a_class_that_was_never_learned_is_harmless() -> None:
    def with_unlearned(frames: FloatArray, window: object) -> FloatArray:
        logits = logits_of_audio(frames, window)  # type: ignore[arg-type]
        logits[:, 3] = -np.inf
        return logits

    for point in points(drive(make_stream(), [AUDIO], FakeEngine(with_unlearned))):
        assert point.posteriors[3] == 0
        assert sum(point.posteriors) == pytest.approx(1, abs=1e-5)


def test_a_result_of_another_shape_is_refused() -> None:
    stream = make_stream()
    (window,) = stream.push(make_audio((1600, 0.1)))
    embeddings = np.zeros((4, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="frames every 160"):
        stream.accept(window, WindowResult(np.zeros((4, 4), np.float32), embeddings, 160))
    with pytest.raises(ValueError, match=r"got logits \(4, 9\)"):
        stream.accept(window, WindowResult(np.zeros((4, 9), np.float32), embeddings))
    assert stream.pending_windows == 1


@pytest.mark.parametrize(
    "bad",
    [
        np.array([0.0, np.nan], np.float32),
        np.array([np.inf], np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(2, np.int16),
    ],
)
def test_bad_audio_is_refused_whole(bad: FloatArray) -> None:
    stream = make_stream()
    with pytest.raises(AudioError):
        stream.push(bad)
    assert stream.audio.clock_samples == 0


def test_close_is_final_and_may_be_repeated() -> None:
    stream = make_stream()
    stream.push(AUDIO[4000:8000])
    events = stream.close("discarded")
    assert gap_spans(events) == [(0, 4000, "discarded")]
    assert stream.close() == []
    for call in (stream.flush, stream.finish, lambda: stream.push(AUDIO)):
        with pytest.raises(RuntimeError, match="already finished"):
            call()
