"""Tell when the rules of the settings hold, over the points of one stream.

Pure: time is that of the audio. For every rule and channel::

    sum of posteriors   .. under .. at threshold and over .. between .. under clear_below ..
    condition                       [------------ holds ------------)
    alert                            hold_s    [------ raised ------) cooldown_s )

The condition begins to hold at ``threshold`` and holds until the sum is below the rule's
``clear_below``, so that a value that trembles about the threshold neither hides an alert nor raises
a dozen. Only speech counts for ``hold_s``. Silence up to :data:`LONGEST_PAUSE_S` leaves what has
been held as it is; after a longer one, or a gap of that length, the condition begins anew. An alert
that was raised lasts through any silence, until speech ends it or the stream does.

A client that comes back to another server, or after a restart, is in a new stream that continues
the former one. What had been cleared in that one cools down here (:class:`Cooldown`); what was
raised when it broke off may be raised at once, for nobody sees any more that it holds.

A rule with ``measures`` raises only while the last :class:`Measures` of the stream have at least
its values for the channel; what has been held meanwhile counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from ser_engine.errors import ConfigError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Alert, AlertState, LastingState, Measures
from ser_engine.timeline.course import StateTracker
from stream_server.alerts import AlertRule
from stream_server.wire.results import Point

LONGEST_PAUSE_S = 15
"""Time without a point after which a condition that was not yet held for long enough begins anew:
longer than anyone pauses within a turn or listens to a question, shorter than being put on hold."""


class Cooldown(msgspec.Struct, frozen=True):
    """A rule that may not be raised yet, because of an alert in the stream that is continued.

    Attributes:
        until_sample: on the clock of the stream that continues.
    """

    rule: str
    channel: int
    until_sample: int


def check_rules(rules: Iterable[AlertRule], labels: Collection[str]) -> None:
    """Check that a model has the labels that rules watch.

    Raises:
        ConfigError: one line that names every other label with its rule, and the labels there are.
    """
    unknown = [
        f"{', '.join(missing)} in '{rule.name}'"
        for rule in rules
        if (missing := [label for label in rule.labels if label not in labels])
    ]
    if unknown:
        raise ConfigError(
            f"alerts.rules has labels that the model does not have: {'; '.join(unknown)};"
            f" it has {', '.join(labels)}"
        )


class AlertEvaluator:
    """The rules over one stream.

    ``labels`` are in the order of a point's posteriors. A label of a rule that is not among them
    counts as never heard; :func:`check_rules` reports it, once, when the server starts.
    """

    def __init__(self, rules: Sequence[AlertRule], stream_id: str, labels: Sequence[str]) -> None:
        self._rules = [
            (rule, tuple(labels.index(label) for label in set(rule.labels) & set(labels)))
            for rule in rules
        ]
        self._stream_id = stream_id
        self._conditions: dict[tuple[str, int], _Condition] = {}
        self._cooldowns: dict[tuple[str, int], int] = {}
        self._measures: dict[int, dict[str, float]] = {}
        self._states: dict[int, StateTracker] = {}
        self._num_raised = 0

    @property
    def num_raised(self) -> int:
        """Alerts raised so far."""
        return self._num_raised

    def feed(self, point: Point) -> list[Alert]:
        """Evaluate the next point of a channel; return the alerts it raised or cleared.

        Points of one channel come in order of time; how channels interleave does not matter.
        """
        changes = []
        # Whatever the rules: an alert says how the channel had been before it, too.
        lasting = self._states.setdefault(point.channel, StateTracker()).point(point)
        for rule, indices in self._rules:
            if rule.roles and point.role not in rule.roles:
                continue
            condition = self._conditions.get((rule.name, point.channel))
            if condition is None:
                cools_until = self._cooldowns.get((rule.name, point.channel))
                condition = _Condition(rule, point.channel, point.role, cools_until)
                self._conditions[rule.name, point.channel] = condition
            # Rounded posteriors may add up to a little more than 1.
            posterior = min(math.fsum(point.posteriors[index] for index in indices), 1.0)
            figures = self._measures.get(point.channel, {})
            # A figure that is not known, such as a change before there is a start, is not enough.
            is_met = all(
                figures.get(name, -math.inf) >= least for name, least in rule.measures.items()
            )
            change = condition.feed(point, posterior, is_met=is_met)
            changes += self._named(condition, change, lasting)
        return changes

    def cool(self, cooldowns: Iterable[Cooldown]) -> None:
        """Take what cools down since before this stream; it may come after the first points."""
        for each in cooldowns:
            key = each.rule, each.channel
            self._cooldowns[key] = each.until_sample
            if (condition := self._conditions.get(key)) is not None:
                condition.cool(each.until_sample)

    def measure(self, measures: Measures) -> None:
        """Take how the conversation is, for the points that come after."""
        self._measures = {each.channel: each.figures() for each in measures.channels}

    def finish(self) -> list[Alert]:
        """End the stream: alerts that are raised are cleared."""
        return [
            change
            for condition in self._conditions.values()
            for change in self._named(
                condition, condition.finish(), self._states[condition.channel].state
            )
        ]

    def _named(
        self, condition: _Condition, change: Alert | None, lasting: LastingState
    ) -> list[Alert]:
        if change is None:
            return []
        if change.state == "raised":
            self._num_raised += 1
            condition.alert_id = f"{self._stream_id}-{self._num_raised}"
        figures = self._measures.get(condition.channel, {})
        asked = {name: figures[name] for name in condition.measures if name in figures}
        return [
            replace(
                change,
                alert_id=condition.alert_id,
                lasting=lasting,
                measures=asked or msgspec.UNSET,
            )
        ]


class _Condition:
    """One rule on one channel."""

    def __init__(
        self, rule: AlertRule, channel: int, role: str, cools_until_sample: int | None
    ) -> None:
        self.alert_id = ""
        self._rule = rule
        self.channel = channel
        self._role = role
        self.measures = rule.measures
        self._hold_samples = _samples(rule.hold_s)
        self._cooldown_samples = _samples(rule.cooldown_s)
        self._since_sample: int | None = None  # None: the condition does not hold
        self._held_samples = 0
        self._raised = False
        self._cools_until_sample = cools_until_sample
        self._last_end_sample = 0
        self._last_posterior = 0.0

    def feed(self, point: Point, posterior: float, *, is_met: bool = True) -> Alert | None:
        # Silence and gaps have no points, so a pause shows as a distance between two of them.
        pause_samples = point.start_sample - self._last_end_sample
        if not self._raised and pause_samples > LONGEST_PAUSE_S * SAMPLE_RATE_HZ:
            self._since_sample = None
        self._last_end_sample, self._last_posterior = point.end_sample, posterior
        holds = self._since_sample is not None
        if posterior < (self._rule.clear_below if holds else self._rule.threshold):
            return self._end()
        if self._since_sample is None:
            self._since_sample, self._held_samples = point.start_sample, 0
        span_samples = point.end_sample - point.start_sample
        self._held_samples += round(point.speech_share * span_samples)
        # While it cools down, or its measures are not met, the condition goes on being held: an
        # alert that is due then is raised as soon as that is over.
        if self._raised or self._held_samples < self._hold_samples:
            return None
        if self._cools_down or not is_met:
            return None
        self._raised = True
        return self._change("raised")

    def cool(self, until_sample: int) -> None:
        self._cools_until_sample = max(until_sample, self._cools_until_sample or 0)

    def finish(self) -> Alert | None:
        return self._end()

    @property
    def _cools_down(self) -> bool:
        until = self._cools_until_sample
        return until is not None and self._last_end_sample < until

    def _end(self) -> Alert | None:
        change = self._change("cleared") if self._raised else None
        if change is not None:
            self._cools_until_sample = self._last_end_sample + self._cooldown_samples
        self._raised = False
        self._since_sample = None
        return change

    def _change(self, state: AlertState) -> Alert:
        assert self._since_sample is not None, "only a condition that holds is raised or cleared"
        return Alert(
            alert_id=self.alert_id,
            rule=self._rule.name,
            state=state,
            severity=self._rule.severity,
            channel=self.channel,
            role=self._role,
            labels=self._rule.labels,
            posterior=self._last_posterior,
            since_sample=self._since_sample,
            at_sample=self._last_end_sample,
        )


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
