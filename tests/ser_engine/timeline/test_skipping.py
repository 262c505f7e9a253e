"""What a channel says of windows that are not run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.schema import Event, Gap, Point
from ser_engine.timeline import MAX_UNANSWERED_SAMPLES
from ser_engine.types import WindowResult
from tests.ser_engine.timeline.streams import (
    TIMELINE,
    assert_tiles,
    gap_spans,
    make_audio,
    make_stream,
    points,
    scored_slots,
)
from tests.support.fake_engine import FakeEngine, logits_of_position

AUDIO = make_audio((12_000, 0.1), (7000, 0), (30_000, 0.2), (1000, 0), (5123, 0.3))
SLOTS = (len(AUDIO) - 400) // 320 + 1
SPEECH = [slot for slot in range(SLOTS) if AUDIO[slot * 320 : slot * 320 + 320].any()]


def due_limit(end: int) -> int:
    """Slots due at a boundary; at the end of the audio, all."""
    return SLOTS if end == len(AUDIO) else (end - TIMELINE.look_ahead_samples) // 320


@given(picked=st.sets(st.integers(0, 34)))
def test_any_windows_may_be_left_out(picked: set[int]) -> None:
    stream, engine = make_stream(details=True), FakeEngine(logits_of_position)
    windows = [*stream.push(AUDIO), *stream.finish()]
    accepted = [window for index, window in enumerate(windows) if index in picked]
    events: list[Event] = []
    for window in accepted:
        events += stream.accept(window, engine.run(window))
    events += stream.close()

    # A slot is answered for by the first accepted window that was due for it or later.
    expected: list[int] = []
    for slot in SPEECH:
        for window in accepted:
            if slot < due_limit(window.start_sample + len(window.samples)):
                expected += [slot * 320] * (slot * 320 >= window.start_sample)
                break
    assert scored_slots(events) == expected
    assert_tiles(events, len(AUDIO))
    overload = [
        slot
        for start, end, reason in gap_spans(events)
        if reason == "overload"
        for slot in range(start // 320, min(end // 320, SLOTS))
    ]
    assert sorted(overload + [start // 320 for start in expected]) == SPEECH


@given(st.lists(st.sampled_from(["accept", "skip", "ignore", "late"]), min_size=34, max_size=34))
def test_any_order_of_answers_accounts_for_all(actions: list[str]) -> None:
    stream, engine = make_stream(details=True), FakeEngine()
    events: list[Event] = []
    late = []
    for chunk, action in zip(np.array_split(AUDIO, 34), actions, strict=True):
        for window in stream.push(chunk):
            if action == "accept":
                events += stream.accept(window, engine.run(window))
            elif action == "skip":
                events += stream.skip(window)
            elif action == "late":
                late.append(window)
        if action == "ignore" and late:
            window = late.pop()
            events += stream.accept(window, engine.run(window))
    stream.finish()
    events += stream.close()
    assert_tiles(events, len(AUDIO))
    slots = scored_slots(events)
    assert slots == sorted(set(slots))


def test_as_many_windows_as_promised_can_be_given_up_at_no_loss() -> None:
    free = (TIMELINE.window_samples - TIMELINE.look_ahead_samples) // TIMELINE.step_samples - 1
    audio = make_audio((TIMELINE.step_samples * 10, 0.1))
    for skipped, lost in ((free, False), (free + 1, True)):
        stream, engine = make_stream(), FakeEngine()
        windows = stream.push(audio)
        stream.accept(windows[4], engine.run(windows[4]))
        (*_, point) = stream.accept(windows[5 + skipped], engine.run(windows[5 + skipped]))
        assert isinstance(point, Point)
        assert point.widened
        due_samples = (skipped + 1) * TIMELINE.step_samples
        assert (point.end_sample - point.start_sample < due_samples) is lost


def test_skipping_at_once_asks_for_the_speech_again_even_in_silence() -> None:
    stream, engine = make_stream(), FakeEngine()
    (window,) = stream.push(make_audio((1600, 0.1)))
    stream.skip(window)
    (later,) = stream.push(make_audio((1600, 0)))
    (point,) = points(stream.accept(later, engine.run(later)))
    assert point.widened
    assert (point.start_sample, point.end_sample) == (0, 2560)


def test_skipped_speech_that_no_window_can_hold_is_a_gap_without_an_answer() -> None:
    stream = make_stream()
    events: list[Event] = []
    for step in range(40):
        for window in stream.push(make_audio((1600, 0.1), seed=step)):
            events += stream.skip(window)
    assert events == [Gap(start_sample=0, end_sample=16_000, reason="overload", final=False)]
    assert gap_spans(stream.close()) == [(0, 64_000, "overload")]


def test_skipping_the_tail_is_a_gap_at_once() -> None:
    stream, engine = make_stream(), FakeEngine()
    for window in stream.push(make_audio((16_000, 0.1))):
        stream.accept(window, engine.run(window))
    (tail,) = stream.finish()
    stream.skip(tail)
    assert stream.accounted_samples == 16_000


def test_late_and_double_answers_change_nothing() -> None:
    stream, engine = make_stream(), FakeEngine()
    first, second = stream.push(make_audio((3200, 0.1)))
    assert points(stream.accept(second, engine.run(second)))
    assert stream.accept(first, engine.run(first)) == []
    assert stream.accept(second, engine.run(second)) == []
    assert stream.skip(first) == []


def test_a_caller_who_never_answers_costs_bounded_memory() -> None:
    stream = make_stream()
    chunk = make_audio((160_000, 0.1))
    for _ in range(MAX_UNANSWERED_SAMPLES // 160_000 + 20):
        stream.push(chunk)
    assert stream.audio.clock_samples - stream.accounted_samples <= MAX_UNANSWERED_SAMPLES
    assert stream.pending_windows <= MAX_UNANSWERED_SAMPLES // TIMELINE.step_samples + 1


def test_long_speech_and_silence_keep_every_buffer_small() -> None:
    stream = make_stream()
    chunk = make_audio((48_000, 0.1), (32_000, 0))
    result = WindowResult(np.zeros((24, 4), np.float32), np.zeros((24, 2), np.float32))

    def sizes() -> tuple[int, ...]:
        return (
            len(stream._slots._runs),
            len(stream._slots.current.slots),
            stream.pending_windows,
            len(stream._smoother._pool),
            stream._smoother._pool._logits.nbytes,
            len(stream._smoother._segments._events),
            len(stream._events),
            len(stream.audio._ring),
        )

    seen: list[tuple[int, ...]] = []
    for _ in range(150):
        for window in stream.push(chunk):
            stream.accept(window, result)
        stream.take_events()
        seen.append(sizes())
    assert len(set(seen)) == 1
    assert max(seen[0]) <= TIMELINE.window_samples


@pytest.mark.parametrize("reason", ["overload", "lost"])
def test_close_names_what_was_not_answered(reason: str) -> None:
    stream = make_stream()
    stream.push(make_audio((3200, 0), (3200, 0.1)))
    (silence, unanswered) = gap_spans(stream.close(reason))  # type: ignore[arg-type]
    assert silence == (0, 3200, "silence")
    assert unanswered == (3200, 6400, reason)
