"""Spans that a test's process made, in memory, and those that other processes send it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stream_server.config import TracingConfig
from stream_server.tracing import close_tracing, configure_tracing


@contextmanager
def recorded_spans() -> Iterator[Any]:
    """Trace every window; yield the exporter, whose ``get_finished_spans()`` has the spans."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    config = TracingConfig(url="http://localhost", share=1.0)
    configure_tracing(config, "test", SimpleSpanProcessor(exporter))
    try:
        yield exporter
    finally:
        close_tracing()


@dataclass(frozen=True)
class SentSpan:
    """A span that another process sent."""

    process: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes


class SpanCollector(ThreadingHTTPServer):
    """Takes spans by OTLP on a port of loopback, while it is entered.

    Attributes:
        url: where they are to be sent.
        spans: those that came.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TakeSpans)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"
        self.spans: list[SentSpan] = []

    def __enter__(self) -> SpanCollector:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def processes(self) -> list[dict[str, str]]:
        """Return the process of each span of a window, by the span's name, for each trace."""
        traces: dict[bytes, dict[str, str]] = {}
        for span in list(self.spans):
            traces.setdefault(span.trace_id, {})[span.name] = span.process
        return list(traces.values())


class _TakeSpans(BaseHTTPRequestHandler):
    server: SpanCollector

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for of_process in told.resource_spans:
            values = {each.key: each.value for each in of_process.resource.attributes}
            process = values["service.name"].string_value
            self.server.spans += [
                SentSpan(process, one.name, one.trace_id, one.span_id, one.parent_span_id)
                for scope in of_process.scope_spans
                for one in scope.spans
            ]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
