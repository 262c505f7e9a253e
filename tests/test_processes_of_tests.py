from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer


class Process:
    """A process of xdist that runs what it is given at once.

    Attributes:
        tests: their places in the collection.
    """

    gateway = SimpleNamespace(id="process")
    shutting_down = False

    def __init__(self) -> None:
        self.tests: list[int] = []

    def send_runtest_some(self, places: list[int]) -> None:
        self.tests += places

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_process_runs_whole_files_and_what_shares_a_browser(pytestconfig: pytest.Config) -> None:
    files = [
        *("tests/dashboard/browser/test_a.py", "tests/test_b.py"),
        *("tests/dashboard/browser/test_c.py", "tests/chaos/test_d.py"),
    ]
    tests = [f"{file}::test_it[{case}]" for file in files for case in ("a@b", "c/d::e", "f")]
    config: Any = SimpleNamespace(
        getvalue=lambda name: ["2*popen"], option=SimpleNamespace(loadscopereorder=False)
    )
    scheduler = pytestconfig.hook.pytest_xdist_make_scheduler(
        config=config, log=Producer("", enabled=False)
    )
    processes = [Process(), Process()]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)

    scheduler.schedule()
    for process in processes:
        for place in process.tests:
            scheduler.mark_test_complete(process, place)

    ran_by = [
        {
            place
            for place, process in enumerate(processes)
            for test in process.tests
            if tests[test].startswith(file)
        }
        for file in files
    ]
    assert sorted(test for process in processes for test in process.tests) == list(
        range(len(tests))
    )
    assert [len(each) for each in ran_by] == [1, 1, 1, 1]
    assert ran_by[0] == ran_by[2]
