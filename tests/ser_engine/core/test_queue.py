from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ser_engine.core.queue import Pending, Priority, WindowQueue
from ser_engine.errors import EngineOverloadedError, StreamBusyError
from tests.support.fake_core import a_window, marks

LIVE, OFFLINE = Priority.LIVE, Priority.OFFLINE


def pending(
    mark: int, priority: Priority = LIVE, *, stream: str | None = None, at: float = 0.0
) -> Pending:
    return Pending(a_window(mark, stream), priority, at)


def queue_of(*entries: Pending, max_pending: int = 100) -> WindowQueue[Pending]:
    queue: WindowQueue[Pending] = WindowQueue(max_pending)
    for entry in entries:
        queue.add(entry)
    return queue


def taken(queue: WindowQueue[Pending], size: int = 100, now: float = 0.0) -> list[int]:
    return marks([entry.window for entry in queue.take(size, now)])


def test_windows_go_in_the_order_they_came() -> None:
    queue = queue_of(*(pending(mark) for mark in range(5)))
    assert taken(queue, 3) == [0, 1, 2]
    assert taken(queue, 3) == [3, 4]
    assert taken(queue, 3) == []


def test_live_windows_go_first_and_alone() -> None:
    queue = queue_of(pending(0, OFFLINE), pending(1), pending(2, OFFLINE), pending(3))
    assert taken(queue) == [1, 3]
    assert taken(queue, now=60.0) == [0, 2]


def test_offline_windows_go_one_by_one_while_live_ones_are_about() -> None:
    queue = queue_of(pending(0, at=10.0), *(pending(mark, OFFLINE) for mark in range(1, 6)))
    assert taken(queue, now=10.0) == [0]
    assert queue.due_s(4, 1.0, 10.0) == 10.0
    assert taken(queue, 4, now=14.9) == [1]
    assert taken(queue, 4, now=15.1) == [2, 3, 4, 5]


def test_a_batch_is_due_when_it_is_full_or_its_first_window_has_waited() -> None:
    queue = queue_of()
    assert queue.due_s(2, 0.5, 7.0) is None
    queue.add(pending(0, at=7.0))
    assert queue.due_s(2, 0.5, 7.2) == 7.5
    queue.add(pending(1, at=7.3))
    assert queue.due_s(2, 0.5, 7.3) == 7.3
    assert queue.due_s(3, 0.5, 7.3) == 7.5


def test_a_stream_has_one_window_waiting_or_running() -> None:
    first = pending(0, stream="a")
    queue = queue_of(first, pending(1, stream="b"), pending(2), pending(3))
    with pytest.raises(StreamBusyError, match="after its result"):
        queue.add(pending(4, stream="a"))
    batch = queue.take(4, 0.0)
    with pytest.raises(StreamBusyError):
        queue.add(pending(4, stream="a"))
    queue.finish(batch)
    queue.add(pending(4, stream="a"))


def test_a_refused_window_leaves_nothing() -> None:
    queue = queue_of(pending(0, stream="a"), max_pending=1)
    with pytest.raises(EngineOverloadedError, match="max_pending 1"):
        queue.add(pending(1, stream="b"))
    queue.finish(queue.take(1, 0.0))
    queue.add(pending(1, stream="b"))


def test_offline_windows_leave_half_of_the_queue_to_live_ones() -> None:
    queue = queue_of(pending(0, OFFLINE), pending(1, OFFLINE), max_pending=4)
    with pytest.raises(EngineOverloadedError, match="fewer than 2"):
        queue.add(pending(2, OFFLINE))
    queue.add(pending(3))
    queue.add(pending(4))
    with pytest.raises(EngineOverloadedError):
        queue.add(pending(5))


def test_a_discarded_window_is_gone_and_its_stream_free() -> None:
    first, second = pending(0, stream="a"), pending(1)
    queue = queue_of(first, second)
    assert queue.discard(first)
    assert not queue.discard(first)
    queue.add(pending(2, stream="a"))
    assert taken(queue) == [1, 2]
    assert not queue.discard(second)


def test_windows_that_are_put_back_go_first_again() -> None:
    queue = queue_of(*(pending(mark, stream=str(mark)) for mark in range(4)))
    batch = queue.take(3, 0.0)
    queue.put_back(batch[1:])
    assert taken(queue) == [1, 2, 3]


def test_clearing_returns_what_waits_and_frees_the_streams() -> None:
    queue = queue_of(pending(0, OFFLINE, stream="a"), pending(1, stream="b"))
    assert marks([entry.window for entry in queue.clear()]) == [1, 0]
    queue.add(pending(2, stream="a"))
    assert len(queue) == 1


@given(st.lists(st.sampled_from([LIVE, OFFLINE])), st.integers(1, 5))
def test_every_window_goes_once_and_in_order(priorities: list[Priority], size: int) -> None:
    entries = [pending(mark, priority) for mark, priority in enumerate(priorities)]
    queue = queue_of(*entries, max_pending=1000)
    order: list[int] = []
    while len(queue):
        batch = taken(queue, size, 100.0)
        assert 0 < len(batch) <= size
        order += batch
    live = [mark for mark, priority in enumerate(priorities) if priority is LIVE]
    offline = [mark for mark, priority in enumerate(priorities) if priority is OFFLINE]
    assert order == live + offline


class QueueMachine(RuleBasedStateMachine):
    """Any sequence of operations: nothing is lost, doubled, over the limit or stuck as busy."""

    MAX_PENDING = 6

    def __init__(self) -> None:
        super().__init__()
        self.queue: WindowQueue[Pending] = WindowQueue(self.MAX_PENDING)
        self.waiting: list[Pending] = []
        self.running: list[Pending] = []
        self.mark = 0

    @rule(stream=st.sampled_from([None, "a", "b", "c"]), priority=st.sampled_from([LIVE, OFFLINE]))
    def add(self, stream: str | None, priority: Priority) -> None:
        entry = pending(self.mark, priority, stream=stream)
        self.mark += 1
        keys = {other.window.stream_key for other in [*self.waiting, *self.running]}
        offline = sum(other.priority is OFFLINE for other in self.waiting)
        full = len(self.waiting) >= self.MAX_PENDING
        full |= priority is OFFLINE and offline >= self.MAX_PENDING // 2
        if stream is not None and stream in keys:
            with pytest.raises(StreamBusyError):
                self.queue.add(entry)
        elif full:
            with pytest.raises(EngineOverloadedError):
                self.queue.add(entry)
        else:
            self.queue.add(entry)
            self.waiting.append(entry)

    @rule(size=st.integers(1, 4), now=st.sampled_from([0.0, 60.0]))
    @precondition(lambda self: not self.running)
    def take(self, size: int, now: float) -> None:
        self.running = self.queue.take(size, now)
        assert bool(self.running) == bool(self.waiting)
        assert len({entry.priority for entry in self.running}) <= 1
        for entry in self.running:
            self.waiting.remove(entry)

    @rule()
    def finish(self) -> None:
        self.queue.finish(self.running)
        self.running = []

    @rule()
    def put_back(self) -> None:
        self.queue.put_back(self.running)
        self.waiting = [*self.running, *self.waiting]
        self.running = []

    @rule(index=st.integers(0, 9))
    @precondition(lambda self: self.waiting)
    def discard(self, index: int) -> None:
        assert self.queue.discard(self.waiting.pop(index % len(self.waiting)))

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.waiting)

    def teardown(self) -> None:
        assert set(self.queue.clear()) == set(self.waiting)


TestQueueMachine = QueueMachine.TestCase
