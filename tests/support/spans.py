"""Spans that a test's process made, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
