"""One window's trace, from its last audio to the published point."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ser_engine.errors import ConfigError
from stream_server.cluster.zeromq import ZmqHost
from stream_server.config import TracingConfig
from stream_server.engines.host import EngineHost
from stream_server.engines.pool import EnginePool
from stream_server.metrics import format_for
from stream_server.tracing import begin_window, close_tracing, configure_tracing
from stream_server.wire.results import Point
from tests.stream_server.engines.test_remote import config_of
from tests.support.live_lab import LabEngine, chunks, level, live_lab, pcm, receive_all, send, start
from tests.support.spans import recorded_spans


@pytest.mark.needs("tracing")
async def test_a_window_is_traced_from_its_message_to_its_points_over_an_engine_elsewhere(
    tmp_path: Path,
):
    url = f"zmq://{tmp_path}/engine"
    socket = ZmqHost(url)
    serving = asyncio.create_task(EngineHost(LabEngine(), socket).run())
    pool = EnginePool(config=config_of(url))
    await pool.start()
    with recorded_spans() as exporter:
        async with live_lab(pool) as lab, lab.connect() as client:
            await client.send(start())
            for chunk in chunks(pcm(level(3, 0.1))):
                await client.send(chunk)
            await send(client, type="stop")
            messages, _ = await receive_all(client)
            shown = lab.metrics.exposition(format_for("text/plain, application/openmetrics-text"))
        await pool.aclose()
        spans = exporter.get_finished_spans()
    serving.cancel()
    await asyncio.wait([serving])
    socket.close()
    points = [each for each in messages if isinstance(each, Point)]
    windows = [each for each in spans if each.name == "window"]
    assert windows and len(windows) >= len(points) > 2
    for window in windows:
        own = [each for each in spans if each.context.trace_id == window.context.trace_id]
        by_name = {each.name: each for each in own}
        phases = ["message", "waiting", "engine", "point", "published"]
        assert sorted(by_name) == sorted(["window", "score", *phases]) and len(own) == 7
        # One after another without a hole, from the message to the end.
        edges = [edge for name in phases for edge in times(by_name[name])]
        assert edges == sorted(edges) and edges[1:-1:2] == edges[2::2]
        assert (edges[0], edges[-1]) == times(window)
        assert {by_name[each].parent.span_id for each in phases} == {window.context.span_id}
        assert by_name["score"].parent.span_id == by_name["engine"].context.span_id
        assert window.attributes["outcome"] == "scored"
        assert set(window.attributes) == {"stream_id", "channel", "outcome"}
    # An exemplar of the time it took leads from the metric to the trace.
    (family,) = [
        each
        for each in text_string_to_metric_families(shown.decode())
        if each.name == "emotion_monitor_window_published_seconds"
    ]
    traces = {each.exemplar.labels["trace_id"] for each in family.samples if each.exemplar}
    assert traces and traces <= {f"{each.context.trace_id:032x}" for each in windows}
    # What was said or felt is nowhere in it.
    assert "angry" not in json.dumps([dict(each.attributes) for each in spans])


def times(span: Any) -> tuple[int, int]:
    return span.start_time, span.end_time


@pytest.mark.needs("tracing")
def test_as_many_windows_are_traced_as_the_share_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(random, "random", iter([0.0009, 0.001, 0.5]).__next__)
    configure_tracing(TracingConfig(url="http://localhost:1/v1/traces"), "test")
    try:
        traces = [begin_window("a", 0, 1) for _ in range(3)]
    finally:
        close_tracing()
    assert [each is not None for each in traces] == [True, False, False]
    assert begin_window("a", 0, 1) is None


@pytest.mark.needs("tracing")
def test_a_collector_gets_what_waits_when_the_process_ends():
    taken: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        configure_tracing(TracingConfig(url=url, share=1.0), "gateway-a")
        trace = begin_window("a", 0, 1)
        assert trace is not None
        trace.end("scored")
        close_tracing()
        answering.join()
    ((path, body),) = taken
    assert path == "/v1/traces"
    assert b"gateway-a" in body


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="expected http"):
        TracingConfig(url="localhost:4318")
