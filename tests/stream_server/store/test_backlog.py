from __future__ import annotations

from itertools import count

from stream_server.store.writer import MAX_TRANSACTION, Backlog
from tests.support.results import make_alert, make_point


def backlog(max_pending: int = 100_000) -> Backlog:
    clock = count(1000)
    return Backlog(max_pending, lambda: float(next(clock)))


def test_results_stay_until_they_are_settled():
    waiting = backlog()
    for seq in range(3):
        waiting.put(make_point(seq=seq))
    assert waiting.current() == []
    waiting.take_in_hand()
    assert [result.seq for result in waiting.current()] == [0, 1, 2]
    waiting.settle(2, num_dropped=1)
    assert [result.seq for result in waiting.current()] == [2]
    assert (len(waiting), waiting.dropped) == (1, 1)


def test_a_transaction_is_bounded():
    waiting = backlog()
    for seq in range(MAX_TRANSACTION + 1):
        waiting.put(make_point(seq=seq))
    waiting.take_in_hand()
    assert len(waiting.current()) == MAX_TRANSACTION
    waiting.settle(MAX_TRANSACTION, num_dropped=0)
    assert len(waiting.current()) == 1


def test_what_is_in_hand_counts_against_the_bound():
    waiting = backlog(10)
    for seq in range(8):
        waiting.put(make_point(seq=seq))
    waiting.take_in_hand()
    waiting.current()
    waiting.hold_back()
    for seq in range(8, 20):
        waiting.put(make_point(seq=seq))
    assert (len(waiting), waiting.dropped) == (10, 10)


def test_alerts_keep_the_time_they_were_published_at():
    waiting = backlog()
    waiting.put(make_alert(seq=1))
    waiting.put(make_alert(seq=2, state="cleared"))
    assert waiting.published_at(make_alert(seq=1)) == 1000
    waiting.take_in_hand()
    waiting.current()
    waiting.settle(2, num_dropped=0)
    assert waiting.published_at(make_alert(seq=1)) == 1001


def test_an_alert_is_cleared_after_it_was_raised_though_the_clock_was_set_back():
    times = iter([2000.0, 1000.0, 999.0])
    waiting = Backlog(100, lambda: next(times))
    waiting.put(make_alert(seq=1))
    waiting.put(make_alert(seq=2, state="cleared"))
    assert 2000 <= waiting.published_at(make_alert(seq=2)) < 2000 + 60
    # Of one that was raised before, nothing is known.
    waiting.put(make_alert(seq=3, state="cleared"))
    assert waiting.published_at(make_alert(seq=3)) == 1000


def test_giving_up_counts_everything():
    waiting = backlog()
    for seq in range(3):
        waiting.put(make_point(seq=seq))
    waiting.take_in_hand()
    waiting.put(make_point(seq=3))
    assert waiting.give_up() == 4
    assert (len(waiting), waiting.dropped) == (0, 4)
