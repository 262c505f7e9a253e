from __future__ import annotations

from stream_server.logs import SparseLog


def test_a_flood_is_told_once_in_a_while_and_counted():
    now_s = 100.0
    log = SparseLog(10.0, lambda: now_s)
    assert [log.take("full") for _ in range(1000)] == [0] + [None] * 999
    assert log.take("unauthorized") == 0  # Another kind has its own line.
    now_s = 109.9
    assert log.take("full") is None
    now_s = 110.0
    assert log.take("full") == 1000
    assert log.take("full") is None


def test_kinds_without_end_are_one():
    log = SparseLog(10.0, lambda: 100.0)
    assert sum(log.take(str(number)) is not None for number in range(1000)) < 100
