from __future__ import annotations

import re

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ser_engine.core.batcher import BatchingStats
from stream_server.bus import SubscriberFigures
from stream_server.engines.status import EngineStatus
from stream_server.metrics import Metrics
from stream_server.tracks.track import ChannelTrack, TrackStats
from tests.support.fake_engine import FakeEngine
from tests.support.results import make_closed, make_gap, make_opened, make_point


def families(metrics: Metrics) -> dict[str, Metric]:
    text = metrics.exposition().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"emotion_monitor_{name}", labels)


def touched() -> Metrics:
    """Every metric touched."""
    metrics = Metrics()
    for result in (make_opened(), make_opened(), make_closed(), make_point(), make_gap(0, 2.5)):
        metrics.count(result)
    metrics.resumed.inc()
    metrics.given_up.labels("server_full").inc()
    metrics.waiting_from(lambda: 1)
    metrics.tasks_from(lambda: 1)
    metrics.refused("server_full", "/twilio")
    metrics.audio_s.inc(0.5)
    metrics.window_published(0.2)
    metrics.tracks(
        TrackStats(
            (
                ChannelTrack(packets=100, lost=4, late=2, duplicate=3, drift_ppm=-50.0),
                ChannelTrack(packets=10, reordered=1, jumps=2, slips=7),
            )
        )
    )
    metrics.window_answered()
    metrics.window_answered("error")
    metrics.window_answered("skipped")
    metrics.window_answered("refused")
    metrics.step(4, 0.1, [0.02] * 4)
    metrics.lag_s.observe(0.8)
    metrics.alerts.labels("customer stays angry", "critical").inc()
    metrics.webhooks.labels("delivered").inc()
    metrics.notifications.labels("failed").inc()
    metrics.bus_from(lambda: {"sse": SubscriberFigures(1, pending=5, dropped=3, merged=2)})
    metrics.mqtt_connected.set(1)
    metrics.vss_connected.set(1)
    metrics.store_write_s.observe(0.01)
    metrics.store_errors.inc()
    metrics.store_from(written=lambda: 10, dropped=lambda: 2, pending=lambda: 7)
    metrics.recordings_from(dropped_s=lambda: 1.5, num_failed=lambda: 1)
    metrics.others_from(
        connected=lambda: True, servers=lambda: 2, kept=lambda: 3, dropped=lambda: 4
    )
    engine = FakeEngine()
    stats = BatchingStats(windows_cancelled=5, retries=4, workers_lost=3, restarts=2)
    status = EngineStatus(
        info=engine.info,
        runtime="torch",
        takes_new_streams=True,
        num_streams=1,
        is_alive=True,
        num_pending=6,
        stats=stats,
    )
    metrics.engines_from(lambda: [status])
    metrics.restarts.labels("worker").inc()
    metrics.model("compact", "torch")
    return metrics


def test_every_family_is_named_by_convention():
    ours = {
        name: family
        for name, family in families(touched()).items()
        if name.startswith("emotion_monitor")
    }
    assert len(ours) > 20
    for name, family in ours.items():
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name), name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|milliseconds|minutes|mb|kb)(_|$)", name), name
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names == {f"{name}_total"}, name
        else:
            assert not name.endswith(("_total", "_count", "_sum", "_bucket")), name
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_size", "_ratio")), name


def test_there_are_no_series_of_creation_times():
    assert "_created" not in touched().exposition().decode()


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("streams", {}, 1),
        ("streams_opened_total", {}, 2),
        ("streams_closed_total", {"reason": "stopped"}, 1),
        ("streams_resumed_total", {}, 1),
        ("refused_total", {"reason": "server_full", "route": "/twilio"}, 1),
        ("audio_seconds_total", {}, 0.5),
        ("packets_total", {"outcome": "taken"}, 105),
        ("packets_total", {"outcome": "late"}, 2),
        ("packets_total", {"outcome": "duplicate"}, 3),
        ("packets_total", {"outcome": "lost"}, 4),
        ("packets_reordered_total", {}, 1),
        ("packet_clock_jumps_total", {}, 2),
        ("packet_slips_total", {}, 7),
        ("clock_drift_ratio_sum", {}, 5e-5),
        ("clock_drift_ratio_count", {}, 1),
        ("windows_total", {"outcome": "scored"}, 1),
        ("windows_total", {"outcome": "error"}, 1),
        ("windows_total", {"outcome": "skipped"}, 1),
        ("windows_total", {"outcome": "refused"}, 1),
        ("windows_skipped_total", {}, 2),
        ("batch_size_sum", {}, 4),
        ("queue_wait_seconds_sum", {}, 0.08),
        ("inference_seconds_count", {}, 1),
        ("lag_seconds_sum", {}, 0.8),
        ("points_total", {}, 1),
        ("gaps_seconds_total", {"reason": "silence"}, 2.5),
        ("alerts_total", {"rule": "customer stays angry", "severity": "critical"}, 1),
        ("webhooks_total", {"outcome": "delivered"}, 1),
        ("notifications_total", {"outcome": "failed"}, 1),
        ("subscribers", {"subscriber": "sse"}, 1),
        ("results_pending", {"subscriber": "sse"}, 5),
        ("results_dropped_total", {"subscriber": "sse"}, 3),
        ("results_merged_total", {"subscriber": "sse"}, 2),
        ("recording_dropped_seconds_total", {}, 1.5),
        ("recording_failures_total", {}, 1),
        ("engine_pending_windows", {"model": "fake"}, 6),
        ("engine_windows_cancelled_total", {"model": "fake"}, 5),
        ("engine_retries_total", {"model": "fake"}, 4),
        ("engine_workers_lost_total", {"model": "fake"}, 3),
        ("engine_restarts_total", {"model": "fake"}, 2),
        ("mqtt_connected", {}, 1),
        ("store_written_total", {}, 10),
        ("store_dropped_total", {}, 2),
        ("store_pending", {}, 7),
        ("store_errors_total", {}, 1),
        ("process_restarts_total", {"kind": "worker"}, 1),
        ("store_write_seconds_count", {}, 1),
        ("model_info", {"model": "compact", "runtime": "torch"}, 1),
    ],
)
def test_each_event_is_counted(name: str, labels: dict[str, str], expected: float):
    assert value(touched(), name, **labels) == expected


def test_a_new_model_takes_the_place_of_the_old_one():
    metrics = touched()
    metrics.model("emotion2vec_plus_base", "openvino")
    samples = families(metrics)["emotion_monitor_model_info"].samples
    assert [sample.labels["model"] for sample in samples] == ["emotion2vec_plus_base"]


def test_two_servers_in_one_process_count_apart():
    metrics = touched()
    assert value(Metrics(), "streams_opened_total") == 0
    assert value(metrics, "streams_opened_total") == 2


def test_processes_are_added_up_and_an_ended_one_stays_counted():
    front, worker = Metrics(), touched()
    front.count(make_closed(reason="idle"))
    front.take("worker-0", worker.families())
    front.take("worker-1", Metrics().families())

    def shown(name: str) -> dict[str, float]:
        samples = families(front)[name].samples
        return {" ".join(each.labels.values()): each.value for each in samples}

    assert shown("emotion_monitor_streams_closed") == {"idle": 1, "stopped": 1}
    assert shown("emotion_monitor_streams") == {"": 0}  # 1 there, -1 of the one that closed here
    assert set(shown("process_open_fds")) == {"front", "worker-0", "worker-1"}
    lag = families(front)["emotion_monitor_lag_seconds"].samples
    assert [each.value for each in lag if each.name.endswith("_count")] == [1]
    front.process_ended("worker-0")
    front.take("worker-0", worker.families())
    assert shown("emotion_monitor_streams_closed") == {"idle": 1, "stopped": 2}
    front.process_ended("worker-0")
    assert shown("emotion_monitor_streams") == {"": -1}
    assert set(shown("process_open_fds")) == {"front", "worker-1"}
