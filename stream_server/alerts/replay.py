"""What rules would have raised on recorded timelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ser_engine.frames import samples_to_s
from stream_server.alerts.evaluator import AlertChange, AlertEvaluator, check_rules
from stream_server.alerts.rule import AlertRule
from stream_server.alerts.timelines import Timeline

__all__ = ["RaisedAlert", "Replay", "RuleCount", "replay"]


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """One alert that would have been raised.

    Attributes:
        timeline: name of the timeline.
        channel: its index.
        role: of the channel; "": not known.
        since_s: where the condition began to hold.
        raised_s: where it would have been raised.
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
        rules: one entry a rule, in their order.
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
        tried = [rule if timeline.has_roles else replace(rule, roles=()) for rule in rules]
        evaluator = AlertEvaluator(tried, "replay", timeline.labels)
        changes = [change for point in timeline.points for change in evaluator.feed(point)]
        changes += evaluator.finish()
        raised = {change.alert_id: change for change in changes if change.state == "raised"}
        for change in changes:
            if change.state == "cleared":
                alert = _alert(timeline.name, raised[change.alert_id], change)
                alerts[change.rule].append(alert)
    return Replay(
        duration_s=sum(timeline.duration_s for timeline in timelines),
        rules=tuple(RuleCount(rule, tuple(alerts[rule.name])) for rule in rules),
    )


def _alert(timeline: str, raised: AlertChange, cleared: AlertChange) -> RaisedAlert:
    return RaisedAlert(
        timeline=timeline,
        channel=raised.channel,
        role=raised.role,
        since_s=samples_to_s(raised.since_sample),
        raised_s=samples_to_s(raised.at_sample),
        cleared_s=samples_to_s(cleared.at_sample),
        posterior=raised.posterior,
    )
