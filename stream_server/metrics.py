"""What an operator sees of the server at ``/metrics``: one registry, one attribute a metric.

Names follow the conventions of Prometheus: base units, ``_total`` for what only grows. No label
carries the id, name or role of a stream, or anything else that has no small fixed number of values.

Most figures are counted here, by the code that sees the event. What a part of the server counts
itself (the bus, the store, recordings, engines) is read from there when ``/metrics`` is requested:
those parts work in threads of their own, or on a path that is taken for every result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from stream_server.bus import SubscriberFigures
from stream_server.tracks.track import TrackStats
from stream_server.wire.results import Gap, Point, Result, StreamClosed, StreamOpened

if TYPE_CHECKING:
    from stream_server.engines.status import EngineStatus

WindowOutcome = Literal["scored", "error", "refused", "skipped"]
"""``error``: the engine could not score it; ``refused``: the engine's queue was full; ``skipped``:
it was given up because the server is overloaded."""

_PREFIX = "emotion_monitor"
_WAITS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAGS_S = (0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10, 30)
_DRIFTS = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Family(msgspec.Struct, frozen=True):
    """One metric of a process at one moment, as plain data.

    Attributes:
        kind: ``counter``, ``gauge`` or ``histogram``.
        samples: name, labels in order of their names, value.
    """

    name: str
    text: str
    kind: str
    samples: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...]

    @property
    def is_of_a_process(self) -> bool:
        """Whether it says something of the process itself, which cannot be added up."""
        return self.name.startswith(("process_", "python_"))


def format_for(accept: str) -> str:
    """Return the content type for who accepts this.

    OpenMetrics where it is asked for: it has exemplars, those of a server of one process.
    """
    return (
        openmetrics.CONTENT_TYPE_LATEST
        if "application/openmetrics-text" in accept
        else CONTENT_TYPE_PLAIN_0_0_4
    )


class Metrics:
    """The metrics of one server, in a registry of their own.

    Those of its other processes are added to them where they are shown; what concerns a process
    itself has its name in the label ``process``.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._others: dict[str, Sequence[Family]] = {}
        self._ended: list[Family] = []  # what processes counted that have ended
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._streams = self._gauge(
            "streams", "Open streams, including those that wait for their client."
        )
        self._opened = self._counter("streams_opened", "Streams opened.")
        self.closed = self._counter("streams_closed", "Streams ended, by reason.", "reason")
        self.resumed = self._counter(
            "streams_resumed", "Streams resumed by a client that reconnected."
        )
        self.given_up = self._counter(
            "streams_given_up",
            "Streams that were waiting for their client and were given up, by reason.",
            "reason",
        )
        self._refused = self._counter(
            "refused",
            "Connections refused, by reason and route.",
            "reason",
            "route",
        )
        self.audio_s = self._counter(
            "audio_seconds", "Audio received on analysed channels, including gaps, in seconds."
        )
        self._packets = self._counter(
            "packets",
            "Packets of telephone calls, by outcome: taken, late, duplicate or lost.",
            "outcome",
        )
        self._reordered = self._counter(
            "packets_reordered", "Packets that arrived out of order, but in time."
        )
        self._jumps = self._counter(
            "packet_clock_jumps", "Jumps in the timestamps or numbers of a call's packets."
        )
        self._slips = self._counter(
            "packet_slips", "Samples inserted or removed to correct the clock drift of a call."
        )
        self._drift = self._histogram(
            "clock_drift_ratio",
            "Absolute clock drift of a call's channel, at its end.",
            _DRIFTS,
        )
        self._windows = self._counter("windows", "Windows due, by outcome.", "outcome")
        self._skipped = self._counter(
            "windows_skipped", "Windows skipped under load, which widened a step."
        )
        self._batch_size = self._histogram(
            "batch_size", "Windows of one forward pass.", _BATCH_SIZES
        )
        self._queue_wait = self._histogram(
            "queue_wait_seconds", "Time that a window waited for the engine.", _WAITS_S
        )
        self._inference = self._histogram(
            "inference_seconds", "Time of one forward pass.", _WAITS_S
        )
        self._published = self._histogram(
            "window_published_seconds",
            "Time from a window's last audio to its results; exemplars are traces.",
            _WAITS_S,
        )
        self.lag_s = self._histogram(
            "lag_seconds",
            "Audio received minus audio published at each heartbeat, look-ahead included.",
            _LAGS_S,
        )
        self._points = self._counter("points", "Points published.")
        self._gaps = self._counter(
            "gaps_seconds", "Time without a result, by reason, in seconds.", "reason"
        )
        self.alerts = self._counter("alerts", "Alerts raised.", "rule", "severity")
        self.webhooks = self._counter("webhooks", "Webhook calls, by outcome.", "outcome")
        self.notifications = self._counter(
            "notifications", "Alerts sent to services by Apprise, by outcome.", "outcome"
        )
        self.mqtt_connected = self._gauge("mqtt_connected", "1 while connected to the MQTT broker.")
        self.vss_connected = self._gauge(
            "vss_connected", "1 while the car's databroker takes signals."
        )
        self.store_errors = self._counter("store_errors", "Writes to the store that failed.")
        self.store_write_s = self._histogram(
            "store_write_seconds", "Time of one write to the store.", _WAITS_S
        )
        self.restarts = self._counter(
            "process_restarts", "Processes of the server that ended and were restarted.", "kind"
        )
        self._model = self._gauge(
            "model_info", "1 for the model that new streams get.", "model", "runtime"
        )

    # Streams

    def waiting_from(self, num_waiting: Callable[[], int]) -> None:
        """Show how many streams wait for a lost client."""
        text = "Open streams that wait for their client to reconnect."
        self._read(_gauge, "streams_waiting", text, num_waiting)

    def tasks_from(self, num_tasks: Callable[[], int]) -> None:
        """Show how many tasks the event loop has."""
        self._read(_gauge, "tasks", "Tasks of the event loop.", num_tasks)

    def refused(self, reason: str, route: str) -> None:
        """A connection was refused, with the code of its error, at a route such as ``/twilio``."""
        self._refused.labels(reason, route).inc()

    def tracks(self, stats: TrackStats) -> None:
        """The packets of a stream are all here."""
        for track in stats.channels:
            dropped = track.late + track.duplicate
            for outcome, count in (
                ("taken", track.packets - dropped),
                ("late", track.late),
                ("duplicate", track.duplicate),
                ("lost", track.lost),
            ):
                self._packets.labels(outcome).inc(count)
            self._reordered.inc(track.reordered)
            self._jumps.inc(track.jumps)
            self._slips.inc(track.slips)
            if track.drift_ppm is not None:
                self._drift.observe(abs(track.drift_ppm) / 1e6)

    # Windows

    def window_answered(self, outcome: WindowOutcome = "scored") -> None:
        """A window is done with."""
        self._windows.labels(outcome).inc()
        if outcome in ("refused", "skipped"):
            self._skipped.inc()

    def window_published(self, seconds: float, trace_id: str = "") -> None:
        """The results of a window were published so long after its last audio had come."""
        self._published.observe(seconds, {"trace_id": trace_id} if trace_id else None)

    def step(self, size: int, inference_s: float, waits_s: Iterable[float]) -> None:
        """A forward pass over ``size`` windows ended, each of which had waited for it."""
        self._batch_size.observe(size)
        self._inference.observe(inference_s)
        for wait_s in waits_s:
            self._queue_wait.observe(wait_s)

    # Results

    def count(self, result: Result) -> None:
        """A result was published."""
        match result:
            case Point():
                self._points.inc()
            case Gap(final=True):
                self._gaps.labels(result.reason).inc(result.end_s - result.start_s)
            case StreamOpened():
                self._opened.inc()
                self._streams.inc()
            case StreamClosed():
                self.closed.labels(result.reason).inc()
                self._streams.dec()
            case _:
                pass

    # Engine

    def model(self, name: str, runtime: str) -> None:
        """New streams are given this model from now on."""
        self._model.clear()
        self._model.labels(name, runtime).set(1)

    # Processes

    def families(self) -> tuple[Family, ...]:
        """Return what this process has counted, for another one to show."""
        return tuple(
            Family(
                metric.name,
                metric.documentation,
                metric.type,
                tuple(
                    (each.name, tuple(sorted(each.labels.items())), each.value)
                    for each in metric.samples
                ),
            )
            for metric in _WithoutCreated(self.registry).collect()
        )

    def take(self, process: str, families: Sequence[Family]) -> None:
        """Show what another process has counted so far, together with what this one has."""
        self._others[process] = families

    def process_ended(self, process: str) -> None:
        """Show no more how a process is; what it counted stays counted."""
        ended = [
            one
            for one in self._others.pop(process, ())
            if one.kind != "gauge" and not one.is_of_a_process
        ]
        self._ended = _added_up([*self._ended, *ended])

    # What others count, read when somebody looks

    def bus_from(self, figures: Callable[[], Mapping[str, SubscriberFigures]]) -> None:
        """Show the subscribers of a bus, by name."""

        def collect() -> Iterator[Metric]:
            subscribers = _gauge("subscribers", "Subscribers of results.", "subscriber")
            pending = _gauge("results_pending", "Results that wait for subscribers.", "subscriber")
            dropped = _counter(
                "results_dropped", "Results a slow subscriber did not get.", "subscriber"
            )
            merged = _counter(
                "results_merged",
                "Interim segments and gaps that a later version replaced before they were read.",
                "subscriber",
            )
            for name, one in figures().items():
                subscribers.add_metric([name], one.subscribers)
                pending.add_metric([name], one.pending)
                dropped.add_metric([name], one.dropped)
                merged.add_metric([name], one.merged)
            yield from (subscribers, pending, dropped, merged)

        self._collect(collect)

    def store_from(
        self,
        *,
        written: Callable[[], int],
        dropped: Callable[[], int],
        pending: Callable[[], int],
    ) -> None:
        """Show the results that a store has written, has lost, and has still to write."""
        lost = "Results lost because the store did not keep up, or refused them."
        self._read(_counter, "store_written", "Results written to the store.", written)
        self._read(_counter, "store_dropped", lost, dropped)
        self._read(_gauge, "store_pending", "Results that wait to be written.", pending)

    def others_from(
        self,
        *,
        connected: Callable[[], bool],
        servers: Callable[[], int],
        kept: Callable[[], int],
        dropped: Callable[[], int],
    ) -> None:
        """Show how the bus between servers is doing."""
        waits = "Alerts, acknowledgements and audit that wait for NATS."
        lost = "Alerts and acknowledgements lost because too many waited for NATS."
        self._read(_gauge, "bus_connected", "1 while connected to NATS.", connected)
        self._read(_gauge, "bus_servers", "Other servers that are heard.", servers)
        self._read(_gauge, "bus_kept", waits, kept)
        self._read(_counter, "bus_dropped", lost, dropped)

    def recordings_from(
        self, *, dropped_s: Callable[[], float], num_failed: Callable[[], int]
    ) -> None:
        """Show what recordings have lost: seconds of audio, and how often."""
        silence = "Audio that is silence in recordings: the disk was too slow or full, in seconds."
        failed = "Times a recording could not be written; it goes on when it can."
        self._read(_counter, "recording_dropped_seconds", silence, dropped_s)
        self._read(_counter, "recording_failures", failed, num_failed)

    def engines_from(self, engines: Callable[[], Iterable[EngineStatus]]) -> None:
        """Show the engines that are open, by model: an engine that is closed takes its series."""

        def collect() -> Iterator[Metric]:
            pending = _gauge("engine_pending_windows", "Windows that wait for an engine.", "model")
            cancelled = _counter(
                "engine_windows_cancelled",
                "Windows whose stream had gone before they were scored.",
                "model",
            )
            retries = _counter(
                "engine_retries",
                "Forward passes with a single window of a batch that had failed.",
                "model",
            )
            lost = _counter("engine_workers_lost", "Workers of an engine given up.", "model")
            restarts = _counter(
                "engine_restarts", "Attempts to bring an engine's worker back.", "model"
            )
            for engine in engines():
                name, stats = [engine.info.name], engine.stats
                pending.add_metric(name, engine.num_pending)
                cancelled.add_metric(name, stats.windows_cancelled)
                retries.add_metric(name, stats.retries)
                lost.add_metric(name, stats.workers_lost)
                restarts.add_metric(name, stats.restarts)
            yield from (pending, cancelled, retries, lost, restarts)

        self._collect(collect)

    # Exposition

    def exposition(self, content_type: str = CONTENT_TYPE_PLAIN_0_0_4) -> bytes:
        """Return everything in a text format, one of :func:`format_for`."""
        if content_type == openmetrics.CONTENT_TYPE_LATEST:
            text: bytes = openmetrics.generate_latest(self._all())  # type: ignore[no-untyped-call]
            return text
        return generate_latest(self._all())

    def _all(self) -> CollectorRegistry:
        if not self._others and not self._ended:
            return _WithoutCreated(self.registry)
        own = [_of_process(one, "front") for one in self.families()]
        others = [_of_process(one, name) for name, of in self._others.items() for one in of]
        merged = CollectorRegistry()
        merged.register(_Figures(lambda: map(_metric, _added_up([*own, *others, *self._ended]))))
        return merged

    def _read(
        self, make: Callable[..., Metric], name: str, text: str, value: Callable[[], float]
    ) -> None:
        """Show a figure that is read when somebody looks."""
        self._collect(lambda: iter((make(name, text, value=float(value())),)))

    def _collect(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self.registry.register(_Figures(collect))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", text, buckets=buckets, registry=self.registry)


def _counter(name: str, text: str, *labels: str, value: float | None = None) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value, labels=labels or None)


def _gauge(name: str, text: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value, labels=labels or None)


def _of_process(family: Family, process: str) -> Family:
    if not family.is_of_a_process:
        return family
    samples = tuple(
        (name, tuple(sorted((*labels, ("process", process)))), value)
        for name, labels, value in family.samples
    )
    return Family(family.name, family.text, family.kind, samples)


def _added_up(families: Iterable[Family]) -> list[Family]:
    """Return one family a name; samples of the same labels are added, buckets too."""
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    first: dict[str, Family] = {}
    for family in families:
        first.setdefault(family.name, family)
        of_family = sums.setdefault(family.name, {})
        for name, labels, value in family.samples:
            of_family[name, labels] = of_family.get((name, labels), 0.0) + value
    return [
        Family(
            name,
            first[name].text,
            first[name].kind,
            tuple((sample, labels, value) for (sample, labels), value in of_family.items()),
        )
        for name, of_family in sums.items()
    ]


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.text, family.kind)
    for name, labels, value in family.samples:
        metric.add_sample(name, dict(labels), value)
    return metric


class _Figures(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._read = collect

    def collect(self) -> Iterable[Metric]:
        return self._read()


class _WithoutCreated(CollectorRegistry):
    """Leaves out the ``_created`` series, which double the output and which few people read.

    ``disable_created_metrics()`` of prometheus_client would switch them off for the whole process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._all = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._all.collect():
            kept = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            if metric.samples and not kept:
                continue
            metric.samples = kept
            yield metric
