from __future__ import annotations

import json

import pytest

from emotion_monitor import main
from emotion_monitor.capacity import Measured, lag_p95_s, most_streams, pass_time_s
from ser_engine.config import BatchingConfig, EngineConfig, TimelineConfig

CONFIG = EngineConfig(batching=BatchingConfig(max_batch_size=8, max_wait_ms=0))
STEP_S = TimelineConfig().step_ms / 1000


def measured(**pass_s: float) -> Measured:
    sizes = {int(size.removeprefix("of_")): seconds for size, seconds in pass_s.items()}
    return Measured("a model", "a runtime", "torch", "live", sizes, 300.0, 1000.0)


def test_a_pass_takes_what_was_measured_and_in_proportion_beyond():
    pass_s = {1: 0.1, 2: 0.15, 4: 0.25}
    assert [pass_time_s(pass_s, size) for size in (1, 3, 4, 8)] == pytest.approx(
        [0.1, 0.2, 0.25, 0.45]
    )
    assert pass_time_s({1: 0.1}, 4) == pytest.approx(0.4)


def test_one_stream_waits_for_its_own_pass_only():
    assert lag_p95_s(1, STEP_S, {1: 0.1}, max_batch=8, max_wait_s=0.0) == pytest.approx(0.1)
    waits_too = lag_p95_s(1, STEP_S, {1: 0.1}, max_batch=8, max_wait_s=0.02)
    assert waits_too == pytest.approx(0.12)


def test_more_than_the_engine_can_do_falls_behind_without_end():
    # 11 windows of 50 ms a step of 500 ms.
    busy = lag_p95_s(9, STEP_S, {1: 0.05, 8: 0.4}, max_batch=8, max_wait_s=0.0)
    over = lag_p95_s(11, STEP_S, {1: 0.05, 8: 0.4}, max_batch=8, max_wait_s=0.0)
    assert busy < STEP_S < over


def test_the_engine_bounds_the_streams_and_then_the_server():
    streams, lag_s, full = most_streams(measured(of_1=0.05, of_8=0.4), CONFIG, 0.0, cores=2)
    assert 8 <= streams <= 10
    assert lag_s <= STEP_S
    assert full == "engine"
    fewer, _, _ = most_streams(measured(of_1=0.05, of_8=0.4), CONFIG, 0.02, cores=2)
    assert fewer < streams
    streams, _, full = most_streams(measured(of_1=1e-4, of_8=2e-4), CONFIG, 0.007, cores=8)
    assert full == "server"
    assert 99 <= streams <= 100  # 0.7 of a core at 7 ms each
    # Batches pay: a pass of eight costs less than eight passes.
    more, _, _ = most_streams(measured(of_1=0.05, of_8=0.1), CONFIG, 0.0, cores=2)
    assert more > 20


def test_nothing_is_carried_where_one_window_takes_longer_than_a_step():
    assert most_streams(measured(of_1=0.6), CONFIG, 0.0, cores=2) == (0, 0.0, "engine")


def test_the_command_measures_a_model(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["capacity", "--seconds", "1", "--model", "compact", "--runtime", "auto", "--json"])
    assert ended.value.code == 0
    document = json.loads(capsys.readouterr().out)
    found, economy = document["results"]
    assert found["measured"]["model"] == "compact"
    assert document["profiles"]["economy"] == {"step_ms": 1000, "window_ms": 3000}
    assert economy["settings"]["ser_engine.timeline.profile"] == "economy"
    assert economy["measured"]["pass_s"]["1"] > 0
    assert found["measured"]["memory_mb"] > 50
    assert set(found["settings"]) >= {"ser_engine.model.name", "stream_server.limits.max_streams"}
