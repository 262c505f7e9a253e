from __future__ import annotations

import pytest

from dashboard.jobs.queue import JobQueue, QueueFullError


def make_queue(max_running: int = 1, max_waiting: int = 10, max_bytes: int = 1000) -> JobQueue:
    return JobQueue(max_running=max_running, max_waiting=max_waiting, max_bytes=max_bytes)


def put(queue: JobQueue, *job_ids: str, num_bytes: int = 1) -> None:
    for job_id in job_ids:
        reservation = queue.reserve()
        queue.grow(reservation, num_bytes)
        queue.put(job_id, reservation)


def test_one_after_another_in_their_order():
    queue = make_queue()
    put(queue, "a", "b", "c")
    assert [queue.before(name) for name in "abc"] == [0, 1, 2]
    assert queue.next() == "a"
    assert queue.next() is None
    assert [queue.before(name) for name in "abc"] == [0, 1, 2]
    queue.leave("a")
    assert [queue.next(), queue.next()] == ["b", None]
    assert (queue.num_waiting, queue.num_running) == (1, 1)


def test_as_many_run_as_may():
    queue = make_queue(max_running=2)
    put(queue, "a", "b", "c")
    assert [queue.next(), queue.next(), queue.next()] == ["a", "b", None]
    queue.leave("b")
    assert queue.next() == "c"


def test_one_that_waits_can_leave():
    queue = make_queue()
    put(queue, "a", "b")
    queue.leave("a")
    assert not queue.is_waiting("a")
    assert queue.next() == "b"
    queue.leave("nobody")


def test_what_is_being_sent_takes_a_place():
    queue = make_queue(max_waiting=2)
    first, second = queue.reserve(), queue.reserve()
    with pytest.raises(QueueFullError, match="2 files are waiting, expected fewer than 2"):
        queue.reserve()
    queue.release(first)
    queue.release(first)
    queue.put("b", second)
    put(queue, "c")
    with pytest.raises(QueueFullError):
        queue.reserve()
    assert queue.next() == "b"
    assert queue.reserve()


def test_room_is_taken_as_a_file_grows_and_given_back():
    queue = make_queue(max_bytes=10)
    put(queue, "a", num_bytes=6)
    reservation = queue.reserve()
    queue.grow(reservation, 4)
    with pytest.raises(QueueFullError, match="expected all of them together"):
        queue.grow(reservation, 1)
    queue.release(reservation)
    assert queue.num_bytes == 6
    assert queue.next() == "a"
    assert queue.num_bytes == 6
    queue.leave("a")
    assert queue.num_bytes == 0


def test_what_a_former_server_began_comes_last_and_runs_alone():
    queue = make_queue(max_running=2)
    queue.restore("suspect", 1, was_begun=True)
    queue.restore("other suspect", 1, was_begun=True)
    queue.restore("innocent", 1, was_begun=False)
    put(queue, "new")
    assert [queue.before(name) for name in ("innocent", "new", "suspect")] == [0, 1, 2]
    assert [queue.next(), queue.next()] == ["innocent", "new"]
    queue.leave("innocent")
    assert queue.next() is None
    queue.leave("new")
    assert queue.next() == "suspect"
    put(queue, "newer")
    assert queue.next() is None
    queue.leave("suspect")
    assert [queue.next(), queue.next()] == ["newer", None]


def test_limits_do_not_matter_to_what_is_there():
    queue = make_queue(max_waiting=1, max_bytes=1)
    queue.restore("a", 5, was_begun=False)
    queue.restore("b", 5, was_begun=False)
    with pytest.raises(QueueFullError):
        queue.reserve()
    assert queue.next() == "a"
