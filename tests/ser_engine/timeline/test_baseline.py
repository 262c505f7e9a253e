from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import SmoothingConfig
from ser_engine.labels import LabelSet
from ser_engine.schema import Segment
from ser_engine.timeline.segments import Smoother
from ser_engine.types import FloatArray, ModelInfo

HOP = 320
NAMES = ("angry", "neutral", "other", "sad")
AVERAGE = (-1.0, 2.0, 0.0, -1.0)
CONFIG = SmoothingConfig(span_ms=200, min_dwell_ms=100)
WITHOUT = replace(CONFIG, speaker_baseline=False)
SPAN = 10  # slots

INFO = ModelInfo(
    name="m",
    source="",
    licence="",
    sha256="",
    labels=LabelSet.from_tokens(NAMES),
    embedding_dim=1,
    neutral_logits=AVERAGE,
)

# A voice that sounds half sad in every neutral sentence, and nearly sad without being so.
REST = (-1.0, 1.5, -np.inf, 1.0)
LOW = (-1.0, 1.0, -np.inf, 1.5)
PLAIN = (-1.0, 2.0, -np.inf, -1.0)
ANGRY = (2.5, 0.0, -np.inf, -1.0)


def frames(*parts: tuple[Sequence[float], int]) -> FloatArray:
    return np.array([row for row, count in parts for _ in range(count)], dtype=np.float32)


def labels_of(
    logits: FloatArray,
    cuts: Sequence[int] = (),
    config: SmoothingConfig = CONFIG,
    model: ModelInfo = INFO,
) -> list[tuple[int, str | None, float]]:
    """Return start in slots, label and confidence of the segments."""
    smoother = Smoother(config, model)
    edges = [0, *sorted(cuts), len(logits)]
    for start, stop in itertools.pairwise(edges):
        smoother.slots(start * HOP, HOP, [None] * (stop - start), logits[start:stop])
    smoother.finish()
    return [
        (event.start_sample // HOP, event.label, event.confidence)
        for event in smoother.take()
        if isinstance(event, Segment) and event.final
    ]


def test_a_voice_that_is_sad_at_rest_is_judged_against_its_own_neutral() -> None:
    logits = frames((REST, 4 * SPAN), (LOW, 4 * SPAN))
    plain = labels_of(logits, config=WITHOUT)
    assert [label for _, label, _ in plain] == ["neutral", "sad"]
    assert [label for _, label, _ in labels_of(logits)] == ["neutral"]


def test_nothing_changes_before_three_spans_were_neutral() -> None:
    logits = frames((REST, 2 * SPAN), (LOW, 2 * SPAN))
    assert [label for _, label, _ in labels_of(logits)] == ["neutral", "sad"]


def test_anger_from_the_first_word_never_becomes_normal() -> None:
    angry = labels_of(frames((ANGRY, 40 * SPAN)))
    assert angry == labels_of(
        frames((ANGRY, 40 * SPAN)),
        config=WITHOUT,
    )
    assert [label for _, label, _ in angry] == ["angry"]


def test_an_average_voice_is_judged_as_it_is() -> None:
    logits = frames((PLAIN, 5 * SPAN), (ANGRY, 5 * SPAN))
    assert labels_of(logits) == labels_of(logits, config=WITHOUT)


def test_the_next_speaker_is_judged_against_their_own() -> None:
    # After the first voice the second one's LOW would be sad; it is not, once it was heard.
    logits = frames((PLAIN, 60 * SPAN), (REST, 100 * SPAN), (LOW, 4 * SPAN))
    assert labels_of(logits)[-1][1] == "neutral"


def test_a_model_without_an_average_has_no_baseline() -> None:
    model = replace(INFO, neutral_logits=())
    logits = frames((REST, 4 * SPAN), (LOW, 4 * SPAN))
    assert [label for _, label, _ in labels_of(logits, model=model)] == ["neutral", "sad"]


@given(st.sets(st.integers(1, 79), max_size=12))
def test_how_frames_were_grouped_into_calls_changes_nothing(cuts: set[int]) -> None:
    logits = frames((REST, 4 * SPAN), (LOW, 2 * SPAN), (ANGRY, 2 * SPAN))
    assert labels_of(logits, sorted(cuts)) == labels_of(logits)


def test_a_class_that_was_never_learned_stays_out() -> None:
    smoother = Smoother(CONFIG, INFO)
    logits = frames((REST, 8 * SPAN))
    found = smoother.slots(0, HOP, [None] * len(logits), logits)
    assert all(row[NAMES.index("other")] == 0 for row in found.posteriors)
    assert np.allclose(np.sum(found.posteriors, axis=1), 1)
