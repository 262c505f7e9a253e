from __future__ import annotations

import subprocess
import sys

LONG_S = 60.0


def test_a_process_with_a_busy_worker_ends_with_its_status_and_what_it_printed() -> None:
    code = (
        "import threading\n"
        "from ser_engine.core.host import ThreadWorker\n"
        "from stream_server.engines.pool import end_process\n"
        "worker = ThreadWorker()\n"
        "worker.submit(threading.Event().wait)\n"
        "print('all is closed', end='')\n"
        "end_process(3)\n"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert (ended.returncode, ended.stdout) == (3, "all is closed")
