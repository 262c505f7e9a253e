from __future__ import annotations

import threading
from functools import partial

import pytest

from ser_engine.core.host import ThreadWorker

LONG_S = 30.0


def test_jobs_run_in_order_in_one_other_thread() -> None:
    worker = ThreadWorker("a-name")
    order: list[int] = []
    futures = [worker.submit(partial(order.append, i)) for i in range(5)]
    name = worker.submit(lambda: threading.current_thread().name)
    for future in futures:
        future.result(LONG_S)
    assert order == [0, 1, 2, 3, 4]
    assert name.result(LONG_S) == "a-name"
    worker.close()
    assert worker.join(LONG_S)


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
def test_a_job_that_raises_does_not_end_the_thread(error: BaseException) -> None:
    def fail() -> None:
        raise error

    worker = ThreadWorker()
    failed, after = worker.submit(fail), worker.submit(lambda: 1)
    with pytest.raises(type(error)):
        failed.result(LONG_S)
    assert after.result(LONG_S) == 1
    worker.close()
    assert worker.join(LONG_S)


def test_a_cancelled_job_is_not_run() -> None:
    worker = ThreadWorker()
    go_on = threading.Event()
    ran: list[int] = []
    worker.submit(lambda: go_on.wait(LONG_S))
    cancelled = worker.submit(lambda: ran.append(1))
    assert cancelled.cancel()
    go_on.set()
    worker.close()
    assert worker.join(LONG_S)
    assert ran == []


def test_closing_does_not_wait() -> None:
    worker = ThreadWorker()
    go_on = threading.Event()
    worker.submit(lambda: go_on.wait(LONG_S))
    worker.close()
    assert not worker.join(0.0)
    go_on.set()
    assert worker.join(LONG_S)
