from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale_model import STEP_S, Fleet, PassTimes, simulate

TEN_MS = PassTimes({1: [0.010], 16: [0.160]})
ONE = Fleet(calls=1, gateways=1, engines=1, gateway_s=0.002, way_s=0.001, max_wait_s=0.005)


def test_one_stream_waits_for_nobody():
    found = simulate(ONE, TEN_MS, 20.0)
    assert found.skipped == 0 and found.due == len(found.lags_s) + 4
    # The gateway, the way there and back, the wait for others, a pass.
    assert found.lags_s == pytest.approx([0.002 + 2 * 0.001 + 0.005 + 0.010] * len(found.lags_s))


def test_what_an_engine_cannot_score_is_covered_by_later_windows():
    # 100 windows a second at most, of 200 that fall due.
    crowd = replace(ONE, calls=100)
    found = simulate(crowd, TEN_MS, 30.0)
    assert found.skipped / found.due == pytest.approx(0.5, abs=0.05)
    assert max(found.lags_s) < 2 * STEP_S + 2 * 0.160 + 0.1
    # Three engines are enough for them.
    assert simulate(replace(crowd, engines=3), TEN_MS, 30.0).skipped == 0


def test_a_full_gateway_is_seen_however_many_engines_there_are():
    crowd = replace(ONE, calls=300, gateway_s=0.005, engines=30)
    one, many = (simulate(replace(crowd, gateways=each), TEN_MS, 30.0) for each in (1, 10))
    assert one.skipped > 0 and many.skipped == 0


def test_times_between_those_that_were_measured_are_on_a_line():
    times = PassTimes({1: [0.01], 3: [0.03], 4: [0.1]})
    assert times.median(2) == pytest.approx(0.02)
    assert times.median(8) == pytest.approx(0.2)
