from __future__ import annotations

import pytest

from tests.requirements import REQUIREMENTS, Requirement, missing

pytest_plugins = ["pytester"]

_SUITE = """
    import pytest

    @pytest.mark.needs("{name}")
    def test_something():
        pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite of its own under this repository's conftest."""
    absent = Requirement(lambda: False, "there is no unicorn", "catch one")
    hardware = Requirement(lambda: False, "there is no horn", "grow one", is_hardware=True)
    present = Requirement(lambda: True, "", "")
    monkeypatch.setitem(REQUIREMENTS, "unicorn", absent)
    monkeypatch.setitem(REQUIREMENTS, "horn", hardware)
    monkeypatch.setitem(REQUIREMENTS, "horse", present)
    pytester.makeconftest("from tests.conftest import pytest_runtest_setup")
    pytester.makeini(
        "[pytest]\nmarkers = needs(*names)\nasyncio_default_fixture_loop_scope = function"
    )
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    return pytester


def test_a_test_runs_where_its_needs_are_met(suite: pytest.Pytester):
    suite.makepyfile(_SUITE.format(name="horse"))
    suite.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_test_is_skipped_with_the_reason_and_the_remedy(suite: pytest.Pytester):
    suite.makepyfile(_SUITE.format(name="unicorn"))
    result = suite.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*there is no unicorn: catch one*"])


def test_require_all_turns_the_skip_into_a_failure(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUIRE_ALL", "1")
    suite.makepyfile(_SUITE.format(name="unicorn"))
    result = suite.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*there is no unicorn: catch one*"])


def test_require_all_does_not_demand_hardware(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUIRE_ALL", "1")
    suite.makepyfile(_SUITE.format(name="horn"))
    suite.runpytest_inprocess().assert_outcomes(skipped=1)


def test_a_need_that_is_not_defined_is_an_error(suite: pytest.Pytester):
    suite.makepyfile(_SUITE.format(name="unicron"))
    suite.runpytest_inprocess().assert_outcomes(errors=1)


def test_the_first_missing_requirement_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(REQUIREMENTS, "a", Requirement(lambda: True, "a", ""))
    monkeypatch.setitem(REQUIREMENTS, "b", Requirement(lambda: False, "b", ""))
    monkeypatch.setitem(REQUIREMENTS, "c", Requirement(lambda: False, "c", ""))
    lacking = missing(("a", "b", "c"))
    assert lacking is not None
    assert lacking.reason == "b"
    assert missing(("a",)) is None


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_every_requirement_says_what_is_missing_and_how_to_get_it(name: str):
    requirement = REQUIREMENTS[name]
    assert requirement.reason
    assert requirement.how_to_get
    assert requirement.is_met() in (True, False)


def test_only_the_gpu_is_hardware():
    assert [name for name, one in REQUIREMENTS.items() if one.is_hardware] == ["gpu"]
