"""The loop after an alert: was it right, did it help to step in, what threshold is better. Pure.

**Outcome.** Somebody steps in when they acknowledge the alert. The rule's sum of posteriors is
averaged over speech, for 30 s before that and 60 s after it; it *fell* if it is half of what it
was or less. With less than 3 s of speech on either side nothing is said.

**Fit.** A rule is tried again on the streams whose alerts were judged, with other thresholds and
times to hold. An alert raised then counts as right or wrong as the judged one that it overlaps;
one that overlaps none counts as neither. The best numbers have the largest

    F = 2 · right kept / (2 · right kept + wrong kept + right lost)

and among equals those nearest to what the rule has.

Of measures only the figures are used that an alert keeps, those its rule asked for: with a larger
least value it would have been raised if its figure was as large. So values of measures are fitted
among those of the alerts that were right. An alert without a figure, of before figures were kept,
counts as if it was large enough.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import msgspec

from stream_server.alerts import AlertRule
from stream_server.alerts.replay import Timeline, replay
from stream_server.store import Verdict
from stream_server.wire.results import Point

BEFORE_S, AFTER_S = 30.0, 60.0
MIN_SPEECH_S = 3.0
FELL_TO = 0.5
"""Share of what it was before."""

THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))
MOST_VALUES = 12
"""Least values of a measure that are tried."""
HOLDS_S = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the emotion after somebody stepped in.

    Attributes:
        before, after: mean sum of the rule's posteriors, 0 to 1.
        fell: ``after`` is half of ``before`` or less.
    """

    before: float
    after: float
    fell: bool


def outcome(
    points: Iterable[Point], labels: Sequence[int], intervention_s: float
) -> Outcome | None:
    """Return what became of the emotion; None: too little speech to say.

    ``points`` are of the alert's channel, ``labels`` indices among the posteriors.
    """
    sums, speech = [0.0, 0.0], [0.0, 0.0]
    for point in points:
        if intervention_s - BEFORE_S <= point.start_s < intervention_s:
            side = 0
        elif intervention_s <= point.start_s < intervention_s + AFTER_S:
            side = 1
        else:
            continue
        # A point that is half silence says half as much.
        speech_s = (point.end_s - point.start_s) * point.speech_share
        speech[side] += speech_s
        sums[side] += speech_s * min(sum(point.posteriors[index] for index in labels), 1.0)
    if min(speech) < MIN_SPEECH_S:
        return None
    before, after = (round(total / length, 3) for total, length in zip(sums, speech, strict=True))
    return Outcome(before=before, after=after, fell=after <= FELL_TO * before)


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule was right in a week.

    Attributes:
        week: its Monday, e.g. ``2026-11-23``, UTC.
        right, wrong, unjudged: numbers of alerts.
        precision: right / (right + wrong); None: none was judged.
    """

    rule: str
    week: str
    right: int
    wrong: int
    unjudged: int
    precision: float | None


def precision_by_week(alerts: Iterable[tuple[str, float, Verdict | None]]) -> list[Precision]:
    """Count verdicts, by rule, then the newest week first.

    ``alerts``: of each its rule, when it was raised (seconds since 1970), and its verdict.
    """
    counts: dict[tuple[str, str], dict[Verdict | None, int]] = defaultdict(
        lambda: {"right": 0, "wrong": 0, None: 0}
    )
    for rule, raised_at, verdict in alerts:
        day = datetime.fromtimestamp(raised_at, UTC).date()
        # Weeks begin on Monday (ISO 8601).
        monday = day - timedelta(days=day.weekday())
        counts[rule, monday.isoformat()][verdict] += 1
    found = [
        Precision(
            rule=rule,
            week=week,
            right=count["right"],
            wrong=count["wrong"],
            unjudged=count[None],
            precision=round(count["right"] / judged, 3)
            if (judged := count["right"] + count["wrong"])
            else None,
        )
        for (rule, week), count in counts.items()
    ]
    # Sorting is stable: by week first, then by rule, leaves the weeks in order in each rule.
    found.sort(key=lambda each: each.week, reverse=True)
    return sorted(found, key=lambda each: each.rule)


@dataclass(frozen=True, slots=True)
class Judged:
    """An alert that was judged: the channel, and from when to when the condition held, s.

    Attributes:
        measures: the figures it had, of those its rule asks for.
    """

    channel: int
    since_s: float
    end_s: float
    is_right: bool
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a rule would have raised of what was judged."""

    right: int
    wrong: int
    right_lost: int

    @property
    def score(self) -> float:
        """The F of the module's text; 0 where no alert was right."""
        weight = 2 * self.right + self.wrong + self.right_lost
        return 2 * self.right / weight if weight else 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """A rule as it is and as it would be better; the same where nothing is."""

    rule: AlertRule
    fitted: AlertRule
    before: Kept
    after: Kept


def fit(rule: AlertRule, judged: Sequence[tuple[Timeline, Sequence[Judged]]]) -> Fit:
    """Return the numbers with which a rule would have been right most often.

    ``judged``: streams, and their alerts of this rule that were judged.
    """
    # Measures are held against the figures of alerts: of a stored stream nothing else is known.
    plain = replace(rule, measures={})
    alerts = [alert for _, each in judged for alert in each]
    combinations = [
        (measures, [_is_met(alert, measures) for alert in alerts])
        for measures in _measures_tried(rule, alerts)
    ]
    kept_before = _raised(plain, judged)
    before = _kept(alerts, kept_before, [_is_met(alert, rule.measures) for alert in alerts])
    best, best_kept = rule, before
    for threshold in THRESHOLDS:
        for hold_s in HOLDS_S:
            tried = replace(plain, threshold=threshold, hold_s=hold_s, clear_threshold=None)
            raised = _raised(tried, judged)
            # The rule's own threshold has its own end, too.
            is_own = (threshold, hold_s) == (rule.threshold, rule.hold_s)
            for measures, met in combinations:
                candidate = replace(rule if is_own else tried, measures=measures)
                kept = _kept(alerts, kept_before if is_own else raised, met)
                if (kept.score, -_distance(rule, candidate)) > (
                    best_kept.score,
                    -_distance(rule, best),
                ):
                    best, best_kept = candidate, kept
    return Fit(rule, best, before, best_kept)


def _measures_tried(rule: AlertRule, alerts: Sequence[Judged]) -> Iterator[dict[str, float]]:
    """Yield the rule's measures with other least values: figures of alerts that were right."""
    choices: list[list[float]] = []
    for name, least in rule.measures.items():
        figures = sorted(
            {alert.measures[name] for alert in alerts if alert.is_right and name in alert.measures}
        )
        # Evenly through the figures, so that few values cover all of them.
        step = max(1, -(-len(figures) // MOST_VALUES))
        choices.append([least, *(figure for figure in figures[::step] if figure != least)])
    for values in itertools.product(*choices):
        yield dict(zip(rule.measures, values, strict=True))


def _is_met(alert: Judged, measures: Mapping[str, float]) -> bool:
    return all(alert.measures.get(name, least) >= least for name, least in measures.items())


def _distance(rule: AlertRule, other: AlertRule) -> float:
    moved = abs(rule.threshold - other.threshold) + abs(rule.hold_s - other.hold_s) / 30
    for name, least in rule.measures.items():
        moved += abs(other.measures[name] - least) / max(abs(least), 1.0)
    return moved


def _raised(rule: AlertRule, judged: Sequence[tuple[Timeline, Sequence[Judged]]]) -> list[bool]:
    """Return of each judged alert whether a rule without measures would have raised it."""
    found: list[bool] = []
    for timeline, alerts in judged:
        (count,) = replay([rule], [timeline]).rules
        found += [
            any(
                raised.channel == alert.channel
                and raised.since_s < alert.end_s
                and alert.since_s < raised.cleared_s
                for raised in count.alerts
            )
            for alert in alerts
        ]
    return found


def _kept(alerts: Sequence[Judged], raised: Sequence[bool], met: Sequence[bool]) -> Kept:
    right = wrong = lost = 0
    for alert, is_raised, is_met in zip(alerts, raised, met, strict=True):
        is_kept = is_raised and is_met
        right += is_kept and alert.is_right
        wrong += is_kept and not alert.is_right
        lost += not is_kept and alert.is_right
    return Kept(right, wrong, lost)
