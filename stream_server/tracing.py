"""Traces of single windows, from the message with their last audio to what was published of them.

::

    window ─┬─ message     its last audio: decoded, resampled, heard
            ├─ waiting     for the window of its channel before it
            ├─ engine ──── score    in the process of the engine, wherever that is
            ├─ point       frames are joined and smoothed, labels and segments come of them
            └─ published   with a number, on the bus ─┬─ forwarded   by the front, from its worker
                                                      └─ shown       on the bus of each other server

One window in so many is traced, as spans of OpenTelemetry, which leave by OTLP. A span has the
stream's id and times, and nothing of what was said or felt. Between processes the trace goes on by
a W3C ``traceparent`` in the message that is sent anyway. Like logging, it is set up once a process;
where it is not, OpenTelemetry is not imported.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ser_engine.errors import ConfigError, how_to_install
from stream_server.config import TracingConfig
from stream_server.wire.results import Point, Result

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

_EXPORT_TIMEOUT_S = 2.0
# Points that were published and not yet sent to other servers: far more than wait at a time.
_MOST_POINTS = 1000

_HEX_TRACE, _HEX_SPAN = 32, 16


class _Tracing:
    """What a process that traces has."""

    def __init__(self, share: float, provider: TracerProvider) -> None:
        self.share = share
        self.provider = provider
        self.tracer: Tracer = provider.get_tracer("emotion_monitor")
        self.points: OrderedDict[tuple[str, int], str] = OrderedDict()


_of_process: _Tracing | None = None
_current: ContextVar[WindowTrace | None] = ContextVar("window trace", default=None)


def configure_tracing(
    config: TracingConfig, process: str, processor: SpanProcessor | None = None
) -> None:
    """Trace windows of this process from now on, if the settings say so.

    ``process``: ``service.name`` of the spans; ``processor`` takes them instead.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    global _of_process
    close_tracing()
    if not config.url:
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        processor = processor or _otlp(config.url)
    except ModuleNotFoundError:
        raise ConfigError(
            f"tracing.url needs packages that are not installed; {how_to_install('tracing')}"
        ) from None
    provider = TracerProvider(
        resource=Resource.create({"service.name": process}), shutdown_on_exit=False
    )
    provider.add_span_processor(processor)
    _of_process = _Tracing(config.share, provider)


def _otlp(url: str) -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # In a thread of its own; what the collector does not take in time is dropped.
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=_EXPORT_TIMEOUT_S))


def close_tracing() -> None:
    """Send what waits, for a few seconds at most, and trace no more."""
    global _of_process
    tracing, _of_process = _of_process, None
    if tracing is not None:
        tracing.provider.shutdown()


class WindowTrace:
    """The trace of one window: phases, one after another.

    ``arrived_ns``: when the message with its last audio came, as of :func:`time.time_ns`.
    """

    def __init__(self, tracing: _Tracing, stream_id: str, channel: int, arrived_ns: int) -> None:
        self._tracing = tracing
        self._root = tracing.tracer.start_span("window", start_time=arrived_ns)
        self._root.set_attributes({"stream_id": stream_id, "channel": channel})
        self._phase = self._child("message", arrived_ns)

    @property
    def trace_id(self) -> str:
        """Of the trace, in hexadecimal digits, as in an exemplar."""
        return f"{self._root.get_span_context().trace_id:0{_HEX_TRACE}x}"

    @property
    def traceparent(self) -> str:
        """Of the phase it is in, by which another process goes on with it."""
        return f"00-{self.trace_id}-{self._phase.get_span_context().span_id:0{_HEX_SPAN}x}-01"

    def phase(self, name: str) -> None:
        """End the phase it is in and begin the next one."""
        now_ns = time.time_ns()
        self._phase.end(now_ns)
        self._phase = self._child(name, now_ns)

    def end(self, outcome: str) -> None:
        """End it."""
        now_ns = time.time_ns()
        self._phase.end(now_ns)
        self._root.set_attribute("outcome", outcome)
        self._root.end(now_ns)

    def carry(self, result: Result) -> None:
        """Take note of a point that comes of it, for the servers that it is sent to."""
        carry(result, self.traceparent)

    def _child(self, name: str, start_ns: int) -> Span:
        from opentelemetry.trace import set_span_in_context

        return self._tracing.tracer.start_span(
            name, context=set_span_in_context(self._root), start_time=start_ns
        )


def begin_window(stream_id: str, channel: int, arrived_ns: int) -> WindowTrace | None:
    """Return the trace of a window that is due; None: it is not traced."""
    tracing = _of_process
    if tracing is None or random.random() >= tracing.share:
        return None
    return WindowTrace(tracing, stream_id, channel, arrived_ns)


def work_on(trace: WindowTrace | None) -> None:
    """Say whose window the task that calls this works on from now on."""
    _current.set(trace)


def traceparent() -> str:
    """Return what goes with a message about the window of this task; "": it is not traced."""
    trace = _current.get()
    return "" if trace is None else trace.traceparent


def publishing(result: Result) -> None:
    """Take note that the task publishes a result."""
    if isinstance(result, Point) and (trace := _current.get()) is not None:
        trace.carry(result)


def carry(result: Result, traceparent: str) -> None:
    """Take note of the trace of a result, for the processes that it is sent to."""
    if _of_process is None:
        return
    points = _of_process.points
    points[result.stream_id, result.seq] = traceparent
    if len(points) > _MOST_POINTS:
        points.popitem(last=False)


def take_traces(results: Sequence[Result]) -> tuple[tuple[int, str], ...]:
    """Return which of the results, by index, come of traced windows, and their ``traceparent``."""
    if _of_process is None or not (points := _of_process.points):
        return ()
    found = (points.pop((one.stream_id, one.seq), "") for one in results)
    return tuple((index, parent) for index, parent in enumerate(found) if parent)


def add_span(
    traceparent: str, name: str, began_ns: int, attributes: Mapping[str, str | int]
) -> None:
    """Add a span of this process to a trace that began in another one; it ends now.

    ``traceparent`` "": of no trace, and nothing is done. ``began_ns``: as of :func:`time.time_ns`.
    """
    tracing = _of_process
    if tracing is None or not traceparent:
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    tracing.tracer.start_span(
        name, context=context, start_time=began_ns, attributes=attributes
    ).end()
