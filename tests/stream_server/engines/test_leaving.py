from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from ser_engine.batching.worker import ThreadWorker
from stream_server.engines.leaving import end_process, num_threads_left

LONG_S = 60.0


def test_threads_of_engines_are_counted() -> None:
    before = num_threads_left()
    go_on = threading.Event()
    worker = ThreadWorker()
    worker.submit(go_on.wait)
    assert num_threads_left() == before + 1
    go_on.set()
    worker.close()
    assert worker.join(LONG_S)
    assert num_threads_left() == before


@pytest.mark.parametrize("busy", [True, False])
def test_a_process_ends_with_its_status_and_what_it_printed(busy: bool) -> None:
    code = (
        "import threading\n"
        "from ser_engine.batching.worker import ThreadWorker\n"
        "from stream_server.engines.leaving import end_process\n"
        "worker = ThreadWorker()\n"
        f"{'worker.submit(threading.Event().wait)' if busy else 'worker.close(); worker.join(9)'}\n"
        "print('all is closed', end='')\n"
        "end_process(3)\n"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert (ended.returncode, ended.stdout) == (3, "all is closed")


def test_without_engines_it_ends_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_server.engines.leaving.num_threads_left", lambda: 0)
    with pytest.raises(SystemExit, match="2"):
        end_process(2)
