"""Alerts: rules over the timeline, and what happens when one holds.

Here are the rules themselves, the ``alerts`` group of the settings; ``evaluator.py`` says when one
holds, ``actions.py`` what is done about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from ser_engine.schema import MEASURE_NAMES, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """When an alert is raised, and which webhook is called."""

    name: str
    """For people; each once."""
    labels: tuple[str, ...]
    """Emotions to watch; their posteriors are added."""
    roles: tuple[str, ...] = ()
    """Roles to watch; none: every analysed one."""
    threshold: Annotated[float, Range(0, 1)] = 0.6
    """Sum of the smoothed posteriors from which on the condition holds."""
    clear_threshold: float | None = None
    """Below this it holds no more; None: 0.1 less than ``threshold``."""
    hold_s: Annotated[float, Range(0, 3600)] = 6.0
    """Speech time for which it has to hold before the alert is raised."""
    cooldown_s: Annotated[float, Range(0, 86_400)] = 60.0
    """Time after the alert was cleared in which it is not raised again."""
    measures: dict[str, float] = field(default_factory=dict)
    """Least values of the channel's measures for the alert to be raised, such as
    ``interrupted_lately: 2``; see docs/reference/results.md for the names. None: any."""
    severity: Severity = "warning"
    """``info``, ``warning`` or ``critical``."""
    webhook: str = ""
    """URL that is called with each alert by POST; "": none."""
    webhook_secret: str = ""
    """Signs what is posted (HMAC-SHA256); "": not signed."""
    notify: tuple[str, ...] = ()
    """URLs of Apprise: mail, chats and on-call services that are told in a few words."""

    def __post_init__(self) -> None:
        where = f"alerts.rules '{self.name}'"
        if not self.name:
            raise ConfigError("a rule of alerts.rules has no name")
        if not self.labels:
            raise ConfigError(f"{where} has no labels; it needs at least one")
        check_fields(self, where)
        if self.clear_threshold is not None and not 0 <= self.clear_threshold <= self.threshold:
            raise ConfigError(
                f"{where}: clear_threshold {self.clear_threshold} with threshold {self.threshold};"
                " it must be 0 to the threshold"
            )
        if unknown := [name for name in self.measures if name not in MEASURE_NAMES]:
            raise ConfigError(
                f"{where}: got the measures {', '.join(unknown)}, expected some of"
                f" {', '.join(MEASURE_NAMES)}"
            )
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ConfigError(f"{where}: webhook '{self.webhook}' is not an http or https URL")
        if any("://" not in url for url in self.notify):
            # Not the value, which may be a secret in the wrong place.
            raise ConfigError(
                f"{where}: got an entry of notify that is not a URL, expected e.g. mailto://… or"
                " slack://…"
            )

    @property
    def clear_below(self) -> float:
        """The sum of posteriors below which the condition no longer holds."""
        if self.clear_threshold is not None:
            return self.clear_threshold
        return max(self.threshold - 0.1, 0.0)


DEFAULT_RULES = (
    AlertRule(
        name="customer stays angry",
        labels=("angry",),
        roles=("customer", "caller"),
        threshold=0.5,
        hold_s=6.0,
        cooldown_s=60.0,
        severity="critical",
    ),
    AlertRule(
        name="driver is upset",
        labels=("angry", "fearful", "sad"),
        roles=("driver",),
        threshold=0.6,
        hold_s=10.0,
        cooldown_s=300.0,
    ),
)


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """The rules by which alerts are raised."""

    rules: tuple[AlertRule, ...] = field(default_factory=lambda: DEFAULT_RULES)
    """The rules. Each has: name; labels, whose posteriors are added; roles (none: every analysed
    one); threshold at which the condition begins to hold, 0 to 1; clear_threshold below which it
    ends (null: 0.1 less); hold_s, seconds of speech for which it has to hold, 0 to 3600;
    cooldown_s, seconds after an alert was cleared, 0 to 86400; measures, least values of measures
    of the channel, such as {interrupted_lately: 2} (docs/reference/results.md has the names);
    severity info, warning or critical; webhook, a URL to post alerts to; webhook_secret, which
    signs these requests; notify, URLs of Apprise (mailto://…, slack://…), which need the extra
    notify."""
    dashboard_url: str = ""
    """Address of the dashboard for links in messages of notify, e.g. https://monitor.example.org;
    "": no links."""

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ConfigError(f"alerts.rules has the names {names}; each may occur once")
        if self.dashboard_url and not self.dashboard_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"got alerts.dashboard_url '{self.dashboard_url}', expected an http or https URL"
            )
