from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import SmoothingConfig
from ser_engine.labels import LabelSet
from ser_engine.schema import Gap, GapReason, Segment
from ser_engine.timeline.segments import SegmentBuilder, Smoother
from ser_engine.timeline.smoothing import Decision, LabelTracker
from ser_engine.types import ModelInfo

HOP = 320
NAMES = ("angry", "happy")
A, B, U = np.array([0.8, 0.2]), np.array([0.4, 0.6]), np.array([0.51, 0.49])

Events = list[Segment | Gap]


class Course:
    """A builder with a tracker before it, fed slot by slot."""

    def __init__(self, config: SmoothingConfig) -> None:
        threshold = config.abstain_threshold(0.0)
        self.builder = SegmentBuilder(NAMES, threshold)
        self.tracker = LabelTracker(config, threshold)
        self.at = 0
        self.events: Events = []

    def feed(self, slots: str) -> None:
        """Take ``a``, ``b``, ``u`` (unclear) for frames, ``.`` for silence, ``!`` for an error."""
        for slot in slots:
            start, end = self.at, self.at + HOP
            self.at = end
            if slot in ".!":
                self.events += self.builder.gap(start, end, "silence" if slot == "." else "error")
                continue
            posterior = {"a": A, "b": B, "u": U}[slot]
            decision = self.tracker.push(start, end, posterior.tolist())
            self.events += self.builder.frames(start, HOP, posterior[None], decision)


def course(
    slots: str, *, dwell_slots: int = 3, span_slots: int = 10, abstain_below: float | None = None
) -> Events:
    config = SmoothingConfig(
        span_ms=20 * span_slots,
        min_dwell_ms=20 * dwell_slots,
        abstain_below=abstain_below,
        abstain_margin=0.02,
    )
    fed = Course(config)
    fed.feed(slots)
    return fed.events + fed.builder.finish()


def spans(events: Events) -> list[tuple[int, int, str | None]]:
    return [
        (
            event.start_sample // HOP,
            event.end_sample // HOP,
            event.label if isinstance(event, Segment) else event.reason,
        )
        for event in events
        if event.final
    ]


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ("", []),
        ("....", [(0, 4, "silence")]),
        ("..!!.", [(0, 2, "silence"), (2, 4, "error"), (4, 5, "silence")]),
        ("aaaa", [(0, 4, "angry")]),
        ("aaaabbbb", [(0, 4, "angry"), (4, 8, "happy")]),
        ("aaaabbaa", [(0, 8, "angry")]),
        # The first label counts from where the run began.
        ("abbb", [(0, 4, "happy")]),
        ("ab", [(0, 2, "happy")]),
        # A pause splits; the label holds across it.
        ("aaa..aaa", [(0, 3, "angry"), (3, 5, "silence"), (5, 8, "angry")]),
        # A change that ends in a gap before it lasted did not happen.
        ("aaabb.aaa", [(0, 5, "angry"), (5, 6, "silence"), (6, 9, "angry")]),
        # A change that began before a gap is dated back to the end of the gap.
        ("aaabb.bb", [(0, 5, "angry"), (5, 6, "silence"), (6, 8, "happy")]),
        ("aaab.bbaaa", [(0, 4, "angry"), (4, 5, "silence"), (5, 7, "happy"), (7, 10, "angry")]),
    ],
)
def test_course(slots: str, expected: list[tuple[int, int, str]]) -> None:
    assert spans(course(slots)) == expected


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ("uuuu", [(0, 4, None)]),
        ("aaauaaa", [(0, 7, "angry")]),
        ("aaauuuuaaa", [(0, 3, "angry"), (3, 7, None), (7, 10, "angry")]),
        ("aaauubbb", [(0, 3, "angry"), (3, 8, "happy")]),
        # What was lost before a gap, if only just, is no part of the label.
        ("aaau.uaaa", [(0, 3, "angry"), (3, 4, None), (4, 5, "silence"), (5, 9, "angry")]),
        # A first label that was lost before it had settled was none.
        ("au.", [(0, 2, None), (2, 3, "silence")]),
        ("uua", [(0, 3, None)]),
    ],
)
def test_course_with_doubt(slots: str, expected: list[tuple[int, int, str | None]]) -> None:
    assert spans(course(slots, abstain_below=0.55)) == expected


def test_a_segment_of_doubt_says_what_it_might_have_been() -> None:
    (segment,) = course("uuuu", abstain_below=0.55)
    assert isinstance(segment, Segment)
    assert (segment.label, segment.best, segment.confidence) == (None, "angry", 0.51)


@given(st.text("abu.", max_size=120), st.integers(0, 5))
def test_no_segment_has_a_label_below_the_threshold(slots: str, dwell: int) -> None:
    for event in course(slots, dwell_slots=dwell, abstain_below=0.55):
        if isinstance(event, Segment) and event.label is not None:
            assert event.confidence >= 0.55


def test_confidence_is_the_mean_posterior_of_the_label() -> None:
    first, second = course("aaaabbbb")
    assert isinstance(first, Segment) and isinstance(second, Segment)
    assert first.confidence == pytest.approx(0.8)
    assert second.confidence == pytest.approx(0.6)
    (whole,) = course("aaaabbaa")
    assert isinstance(whole, Segment)
    assert whole.confidence == pytest.approx((6 * 0.8 + 2 * 0.4) / 8)


def test_what_goes_on_is_announced_at_one_second_and_every_ten() -> None:
    events = course("a" * 1200 + "." * 600)
    announced = [
        (type(event).__name__, event.start_sample // HOP, event.end_sample // HOP)
        for event in events
        if not event.final
    ]
    assert announced == [
        ("Segment", 0, 50),
        ("Segment", 0, 550),
        ("Segment", 0, 1050),
        ("Gap", 1200, 1250),
        ("Gap", 1200, 1750),
    ]


def test_one_long_gap_is_announced_once() -> None:
    builder = SegmentBuilder(NAMES)
    assert [event.final for event in builder.gap(0, 16_000 * 3600, "paused")] == [False]
    assert builder.gap(16_000 * 3600, 16_000 * 3600 + 8000, "paused") == []


def test_extend_moves_the_end_of_what_is_open() -> None:
    builder = SegmentBuilder(NAMES)
    assert builder.extend(5) == []
    builder.frames(0, HOP, A[None], Decision(0, settled=True))
    builder.extend(HOP + 100)
    (segment,) = builder.gap(HOP + 100, 2 * HOP, "silence")
    assert segment.end_sample == HOP + 100
    builder.extend(2 * HOP + 7)
    assert builder.finish() == [
        Gap(start_sample=HOP + 100, end_sample=2 * HOP + 7, reason="silence", final=True)
    ]
    assert builder.finish() == []


@settings(max_examples=40)
@given(
    # Runs of one kind of slot; some are long enough for announcements.
    st.lists(st.tuples(st.sampled_from("abu.!"), st.integers(1, 80)), min_size=1, max_size=6),
    st.lists(st.integers(0, 300), max_size=12),
    st.sampled_from([0.0, 0.6]),
)
def test_grouping_does_not_matter(
    runs: list[tuple[str, int]], cuts: list[int], abstain_below: float
) -> None:
    slots = "".join(kind * count for kind, count in runs)
    noise = np.random.default_rng(len(slots)).normal(0, 0.3, (len(slots), 2))
    means = {"a": (1.0, 0.0), "b": (0.0, 1.0), "u": (0.1, 0.0)}
    logits = (noise + [means.get(slot, (0.0, 0.0)) for slot in slots]).astype(np.float32)
    config = SmoothingConfig(span_ms=200, min_dwell_ms=100, abstain_below=abstain_below)

    def events(bounds: list[int]) -> Events:
        smoother = Smoother(config, ModelInfo("", "", "", "", LabelSet.from_tokens(NAMES), 1))
        for first, limit in itertools.pairwise(bounds):
            reasons = [_REASONS.get(slot) for slot in slots[first:limit]]
            scored = [row for row in range(first, limit) if slots[row] in means]
            smoother.slots(first * HOP, HOP, reasons, logits[scored])
        smoother.finish()
        return smoother.take()

    bounds = [0, *sorted(min(cut, len(slots)) for cut in cuts), len(slots)]
    assert events(bounds) == events(list(range(len(slots) + 1)))


_REASONS: dict[str, GapReason] = {".": "silence", "!": "error"}


@given(st.text("ab.!", max_size=200), st.integers(0, 5))
def test_final_events_tile_and_announcements_come_true(slots: str, dwell_slots: int) -> None:
    # Doubled so that announcements, due at 50 slots, occur.
    events = course(slots * 2, dwell_slots=dwell_slots)
    at = 0
    for event in events:
        assert event.start_sample == at
        if event.final:
            assert event.end_sample > at
            at = event.end_sample
        else:
            (fulfilled,) = [e for e in events if e.final and e.start_sample == event.start_sample]
            assert fulfilled.end_sample >= event.end_sample
            assert spans([fulfilled])[0][2] == (
                event.label if isinstance(event, Segment) else event.reason
            )
    assert at == len(slots) * 2 * HOP
