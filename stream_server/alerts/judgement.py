"""The loop after an alert: was it right, did it help to step in, what threshold is better. Pure.

**Outcome.** Somebody steps in when they acknowledge the alert. The rule's sum of posteriors is
averaged over speech, for 30 s before that and 60 s after it; it *fell* if it is half of what it
was or less. With less than 3 s of speech on either side nothing is said.

**Fit.** A rule is tried again on the streams whose alerts were judged, with other thresholds and
times to hold. An alert raised then counts as right or wrong as the judged one that it overlaps;
one that overlaps none counts as neither. The best numbers have the largest

    F = 2 · right kept / (2 · right kept + wrong kept + right lost)

and among equals those nearest to what the rule has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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

    Args:
        points: of the alert's channel.
        labels: indices of the rule's labels among the posteriors.
        intervention_s: when somebody stepped in, s of the stream.
    """
    sums, speech = [0.0, 0.0], [0.0, 0.0]
    for point in points:
        if intervention_s - BEFORE_S <= point.start_s < intervention_s:
            side = 0
        elif intervention_s <= point.start_s < intervention_s + AFTER_S:
            side = 1
        else:
            continue
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
    """Count verdicts.

    Args:
        alerts: of each its rule, when it was raised (seconds since 1970), and its verdict.

    Returns:
        By rule, then the newest week first.
    """
    counts: dict[tuple[str, str], dict[Verdict | None, int]] = defaultdict(
        lambda: {"right": 0, "wrong": 0, None: 0}
    )
    for rule, raised_at, verdict in alerts:
        day = datetime.fromtimestamp(raised_at, UTC).date()
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
    found.sort(key=lambda each: each.week, reverse=True)
    return sorted(found, key=lambda each: each.rule)


@dataclass(frozen=True, slots=True)
class Judged:
    """An alert that was judged: the channel, and from when to when the condition held, s."""

    channel: int
    since_s: float
    end_s: float
    is_right: bool


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

    Args:
        rule: as it is.
        judged: streams, and their alerts of this rule that were judged.
    """
    # What is not known of a stored stream must not keep the rule from raising anything.
    plain = replace(rule, measures={})
    before = _kept(plain, judged)
    best, best_kept = rule, before
    for threshold in THRESHOLDS:
        for hold_s in HOLDS_S:
            tried = replace(plain, threshold=threshold, hold_s=hold_s, clear_threshold=None)
            kept = _kept(tried, judged)
            candidate = replace(tried, measures=rule.measures)
            if (kept.score, -_distance(rule, candidate)) > (
                best_kept.score,
                -_distance(rule, best),
            ):
                best, best_kept = candidate, kept
    return Fit(rule, best, before, best_kept)


def _distance(rule: AlertRule, other: AlertRule) -> float:
    return abs(rule.threshold - other.threshold) + abs(rule.hold_s - other.hold_s) / 30


def _kept(rule: AlertRule, judged: Sequence[tuple[Timeline, Sequence[Judged]]]) -> Kept:
    right = wrong = lost = 0
    for timeline, alerts in judged:
        (count,) = replay([rule], [timeline]).rules
        for alert in alerts:
            is_kept = any(
                raised.channel == alert.channel
                and raised.since_s < alert.end_s
                and alert.since_s < raised.cleared_s
                for raised in count.alerts
            )
            right += is_kept and alert.is_right
            wrong += is_kept and not alert.is_right
            lost += not is_kept and alert.is_right
    return Kept(right, wrong, lost)
