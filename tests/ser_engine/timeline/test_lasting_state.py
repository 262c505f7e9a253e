from __future__ import annotations

import pytest

from ser_engine.schema import LastingState, Point
from ser_engine.timeline.course import StateTracker

RATE = 16_000


def state_after(*course: tuple[str | None, int]) -> LastingState:
    """Return the state after so many seconds of each label, a point a second."""
    tracker, at = StateTracker(), 0
    for label, seconds in course:
        for _ in range(seconds):
            tracker.point(
                Point(
                    start_sample=at * RATE,
                    end_sample=(at + 1) * RATE,
                    posteriors=(1.0,),
                    label=label,
                    best="angry",
                    confidence=0.6,
                    speech_share=1.0,
                    provisional=False,
                    widened=False,
                )
            )
            at += 1
    return tracker.state


@pytest.mark.parametrize(
    ("course", "state"),
    [
        # Too little speech, then enough: it began with its first speech.
        ([("angry", 5)], LastingState()),
        ([("angry", 6)], LastingState(label="angry", since_s=0)),
        # A short change of the moment is not one of the state.
        ([("angry", 30), ("neutral", 9)], LastingState(label="angry", since_s=0)),
        # Neither is enough of it: mixed, and what was is remembered.
        (
            [("angry", 30), ("neutral", 10), ("sad", 9)],
            LastingState(before="angry", before_until_s=48),
        ),
        (
            [("angry", 30), ("neutral", 19)],
            LastingState(label="neutral", since_s=30, before="angry", before_until_s=48),
        ),
        # Doubt is no state.
        ([(None, 40)], LastingState()),
        ([("angry", 30), (None, 40)], LastingState(before="angry", before_until_s=48)),
    ],
)
def test_a_state_is_what_most_of_the_last_half_minute_was(
    course: list[tuple[str | None, int]], state: LastingState
) -> None:
    assert state_after(*course) == state
