from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.bus import Mailbox
from stream_server.wire.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
    Summary,
)
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_marked,
    make_opened,
    make_point,
    make_segment,
    make_summary,
    make_warning,
)


def need(result: Result) -> int:
    """How much a result is needed, written out anew."""
    if isinstance(result, Point):
        return 0
    if isinstance(result, Segment | Gap) and not result.final:
        return 1
    if isinstance(result, Segment):
        return 3
    return 4 if isinstance(result, StreamOpened | Summary | StreamClosed | Alert) else 2


class PlainMailbox:
    """The rules, one after the other, on a list."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.waiting: list[Result] = []
        self.dropped = self.merged = 0

    def put(self, result: Result) -> None:
        if isinstance(result, Segment | Gap):
            for former in self.waiting:
                if (
                    isinstance(former, Segment | Gap)
                    and not former.final
                    and (former.stream_id, former.channel, former.start_sample)
                    == (result.stream_id, result.channel, result.start_sample)
                ):
                    self.waiting.remove(former)
                    self.merged += 1
                    break
        self.waiting.append(result)
        if len(self.waiting) > self.capacity:
            self.waiting.remove(min(self.waiting, key=need))
            self.dropped += 1

    def take(self) -> Result | None:
        return self.waiting.pop(0) if self.waiting else None


spans = st.fixed_dictionaries(
    {
        "stream_id": st.sampled_from(("s1", "t")),
        "channel": st.integers(0, 1),
        "start_s": st.sampled_from((0.0, 0.5)),
    }
)
kinds: st.SearchStrategy[Any] = st.one_of(
    spans.map(lambda span: (make_point, span)),
    st.tuples(spans, st.booleans()).map(lambda got: (make_segment, {**got[0], "final": got[1]})),
    st.tuples(spans, st.booleans()).map(lambda got: (make_gap, {**got[0], "final": got[1]})),
    st.sampled_from(
        [
            (make, {})
            for make in (
                make_alert,
                make_marked,
                make_warning,
                make_opened,
                make_summary,
                make_closed,
            )
        ]
    ),
)


@given(st.integers(1, 8), st.lists(st.one_of(st.none(), kinds), max_size=60))
def test_keeps_and_drops_by_the_rules(capacity, steps):
    mailbox, plain = Mailbox(capacity), PlainMailbox(capacity)
    for seq, step in enumerate(steps):
        if step is None:
            assert mailbox.take() is plain.take()
        else:
            make, arguments = step
            result = make(seq=seq, **arguments)
            mailbox.put(result)
            plain.put(result)
        assert len(mailbox) == len(plain.waiting) <= capacity
        assert (mailbox.dropped, mailbox.merged) == (plain.dropped, plain.merged)
    while (result := plain.take()) is not None:
        assert mailbox.take() is result
    assert mailbox.take() is None


@given(st.lists(kinds, max_size=60))
def test_a_stream_keeps_the_order_of_seq(steps):
    mailbox = Mailbox(5)
    for seq, (make, arguments) in enumerate(steps):
        mailbox.put(make(seq=seq, **arguments))
    taken = []
    while (result := mailbox.take()) is not None:
        taken.append(result.seq)
    assert taken == sorted(taken)


def test_a_later_version_takes_the_place_of_an_interim_one():
    mailbox = Mailbox(10)
    for seq, final in enumerate((False, False, True)):
        mailbox.put(make_segment(seq=seq, end_s=0.5 * (seq + 1), final=final))
    result = mailbox.take()
    assert isinstance(result, Segment)
    assert result.final
    assert (len(mailbox), mailbox.merged, mailbox.dropped) == (0, 2, 0)


def test_a_point_that_comes_too_late_goes_before_what_matters_more():
    mailbox = Mailbox(2)
    for result in (make_alert(seq=0), make_segment(seq=1), make_point(seq=2)):
        mailbox.put(result)
    assert isinstance(mailbox.take(), Alert)
    assert isinstance(mailbox.take(), Segment)
    assert mailbox.dropped == 1


def test_what_is_thrown_away_is_not_counted():
    mailbox = Mailbox(4)
    mailbox.put(make_point())
    mailbox.put(make_segment(final=False))
    mailbox.clear()
    assert (len(mailbox), mailbox.take(), mailbox.dropped) == (0, None, 0)


def test_a_mailbox_holds_something():
    with pytest.raises(ValueError, match="must be 1 or more"):
        Mailbox(0)
