"""Try rules on recorded timelines: what alerts would have been raised, and how many an hour.

A timeline is read from what ``emotion-monitor analyze`` prints, from results as a client or a feed
got them, or from the store.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ser_engine.errors import SerEngineError
from ser_engine.frames import samples_to_s
from ser_engine.schema import Alert, FileResult
from stream_server.alerts import AlertRule
from stream_server.alerts.evaluator import AlertEvaluator, check_rules
from stream_server.wire.results import (
    Gap,
    Measures,
    Point,
    Result,
    Segment,
    StreamOpened,
    Summary,
    in_envelope,
)

_ANALYZE = "`emotion-monitor analyze -g stream --json`"


class TimelineError(SerEngineError):
    """A file has no timeline that rules can be tried on."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The points of one stream, or of one channel of a recording.

    Attributes:
        name: where it is from, for people.
        labels: names of the classes, in the order of posteriors.
        duration_s: length of the stream's clock.
        has_roles: False: it is not known who speaks, so every rule is tried.
        measures: of the conversation, each with how many points came before it; (): none are known.
    """

    name: str
    labels: tuple[str, ...]
    points: tuple[Point, ...]
    duration_s: float
    has_roles: bool
    measures: tuple[tuple[int, Measures], ...] = ()


def read_timelines(path: Path, role: str = "") -> list[Timeline]:
    """Read a file: what ``analyze`` prints, or results, one JSON object a line.

    ``role``: of the channels of a recording, which carries none.

    Raises:
        TimelineError: it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TimelineError(f"cannot read the timeline {path}: {reason}") from None
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    # One line of results is JSON as well: it has a type, a file's result has none.
    if document is None or (isinstance(document, dict) and "type" in document):
        return _of_lines(path, text)
    entries = document if isinstance(document, list) else [document]
    return [
        timeline
        for number, entry in enumerate(entries)
        for timeline in _of_analysis(path, number, entry, role)
    ]


def timelines_of(
    results: Iterable[Result], name: str = "", labels: Sequence[str] = ()
) -> list[Timeline]:
    """Return the timelines in results of any number of streams.

    ``results`` are those of each stream in order. ``name`` is put in front of the streams' ids,
    ``labels`` stand where no ``stream_opened`` tells them.

    Raises:
        TimelineError: nothing tells the names of the classes.
    """
    streams: dict[str, list[Result]] = {}
    for result in results:
        streams.setdefault(result.stream_id, []).append(result)
    return [
        _of_stream(f"{name}: {stream_id}" if name else stream_id, of_stream, tuple(labels))
        for stream_id, of_stream in streams.items()
    ]


def _of_stream(name: str, results: Sequence[Result], labels: tuple[str, ...]) -> Timeline:
    points = tuple(result for result in results if isinstance(result, Point))
    ends_s = [0.0]
    measures: list[tuple[int, Measures]] = []
    num_points = 0
    for result in results:
        match result:
            case Measures():
                measures.append((num_points, result))
            case StreamOpened():
                labels = result.labels
            case Point() | Segment() | Gap():
                ends_s.append(result.end_s)
            case Summary():
                ends_s.append(result.duration_s)
        num_points += isinstance(result, Point)
    if points and len(labels) != len(points[0].posteriors):
        raise TimelineError(
            f"got {name} with {len(points[0].posteriors)} posteriors a point and"
            f" {len(labels)} names for them, expected the stream's 'ready' or 'stream_opened'"
            " message among the lines"
        )
    return Timeline(name, labels, points, max(ends_s), has_roles=True, measures=tuple(measures))


def _of_lines(path: Path, text: str) -> list[Timeline]:
    labels: tuple[str, ...] = ()
    results: list[Result] = []
    decoder: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            message = json.loads(line)
            if message["type"] == "ready":
                labels = tuple(label["name"] for label in message["labels"])
            elif message["type"] in _RESULT_TYPES:
                results.append(decoder.decode(line))
        except (ValueError, KeyError, TypeError) as error:
            raise TimelineError(
                f"got {path}, line {number}: {' '.join(str(error).split())[:200]}; expected what"
                f" {_ANALYZE} prints, or one result a line"
            ) from None
    if not results:
        raise TimelineError(f"got {path} without a result, expected points")
    return timelines_of(results, path.name, labels)


# What a timeline is made of; other messages of a client are left out.
_RESULT_TYPES = frozenset(("stream_opened", "point", "segment", "gap", "measures", "summary"))


def _of_analysis(path: Path, number: int, entry: Any, role: str) -> list[Timeline]:
    """Return a timeline for each channel of a file's result."""
    try:
        result = msgspec.convert(entry, FileResult)
    except msgspec.ValidationError as error:
        raise TimelineError(
            f"got {path}, entry {number + 1}: {str(error)[:200]}; expected what {_ANALYZE} prints"
        ) from None
    if result.granularity != "stream":
        raise TimelineError(
            f"got {path} of the granularity '{result.granularity}', expected what {_ANALYZE} prints"
        )
    name = f"{path.name}: {Path(result.name).name}"
    labels = tuple(label.name for label in result.labels)
    return [
        Timeline(
            f"{name}, channel {channel.channel}",
            labels,
            tuple(
                in_envelope(
                    Point,
                    point,
                    stream_id="",
                    seq=seq,
                    channel=channel.channel,
                    role=role,
                    model=result.model.name,
                )
                for seq, point in enumerate(channel.points)
            ),
            result.duration_s,
            has_roles=bool(role),
        )
        for channel in result.channels
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedAlert:
    """One alert that would have been raised.

    Attributes:
        role: of the channel; "": not known.
        since_s: where the condition began to hold.
        cleared_s: where it would have been cleared, at the stream's end at the latest.
        posterior: sum of the posteriors when it would have been raised.
    """

    timeline: str
    channel: int
    role: str
    since_s: float
    raised_s: float
    cleared_s: float
    posterior: float

    @property
    def duration_s(self) -> float:
        """From raised to cleared."""
        return self.cleared_s - self.raised_s


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule would have raised."""

    rule: AlertRule
    alerts: tuple[RaisedAlert, ...]

    @property
    def alert_s(self) -> float:
        """Time in alerts, all together."""
        return sum(alert.duration_s for alert in self.alerts)


@dataclass(frozen=True, slots=True)
class Replay:
    """What all rules would have raised.

    Attributes:
        duration_s: length of all timelines together.
    """

    duration_s: float
    rules: tuple[RuleCount, ...]

    def per_hour(self, count: RuleCount) -> float:
        """Return how often a rule would have been raised in an hour of streams."""
        return len(count.alerts) * 3600 / self.duration_s if self.duration_s else 0.0


def replay(rules: Sequence[AlertRule], timelines: Sequence[Timeline]) -> Replay:
    """Try rules on timelines.

    Raises:
        ConfigError: a rule watches a label a timeline does not have.
    """
    alerts: dict[str, list[RaisedAlert]] = {rule.name: [] for rule in rules}
    for timeline in timelines:
        if not timeline.points:
            continue
        check_rules(rules, timeline.labels)
        # A recording carries no roles: a rule for customers would never be tried there.
        tried = [rule if timeline.has_roles else replace(rule, roles=()) for rule in rules]
        evaluator = AlertEvaluator(tried, "replay", timeline.labels)
        changes = _changes(evaluator, timeline)
        raised = {change.alert_id: change for change in changes if change.state == "raised"}
        for change in changes:
            if change.state == "cleared":
                alert = _alert(timeline.name, raised[change.alert_id], change)
                alerts[change.rule].append(alert)
    return Replay(
        duration_s=sum(timeline.duration_s for timeline in timelines),
        rules=tuple(RuleCount(rule, tuple(alerts[rule.name])) for rule in rules),
    )


def _changes(evaluator: AlertEvaluator, timeline: Timeline) -> list[Alert]:
    changes: list[Alert] = []
    coming = deque(timeline.measures)
    for number, point in enumerate(timeline.points):
        # Measures came between points: the rule must not know them sooner than it did live.
        while coming and coming[0][0] <= number:
            evaluator.measure(coming.popleft()[1])
        changes += evaluator.feed(point)
    return changes + evaluator.finish()


def _alert(timeline: str, raised: Alert, cleared: Alert) -> RaisedAlert:
    return RaisedAlert(
        timeline=timeline,
        channel=raised.channel,
        role=raised.role,
        since_s=samples_to_s(raised.since_sample),
        raised_s=samples_to_s(raised.at_sample),
        cleared_s=samples_to_s(cleared.at_sample),
        posterior=raised.posterior,
    )
