"""Alert rules from a file: a whole ``config.yaml``, or its ``alerts`` group alone.

Alert rules: the ``alerts`` group of the settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from ser_engine.config import check_choice, check_range
from ser_engine.errors import ConfigError
from ser_engine.schema import Severity


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When an alert is raised, and what then happens."""

    name: str
    """For people; each once."""
    labels: tuple[str, ...]
    """Emotions to watch; their posteriors are added."""
    roles: tuple[str, ...] = ()
    """Roles to watch; none: every analysed one."""
    threshold: float = 0.6
    """Sum of the smoothed posteriors from which on the condition holds, 0 to 1."""
    clear_threshold: float | None = None
    """Below this it holds no more; None: 0.1 less than ``threshold``."""
    hold_s: float = 6.0
    """Speech time for which it has to hold before the alert is raised, 0 to 3600 s."""
    cooldown_s: float = 60.0
    """Time after the alert was cleared in which it is not raised again, 0 to 86400 s."""
    severity: Severity = "warning"
    """``info``, ``warning`` or ``critical``."""
    webhook: str = ""
    """URL that is told of it by POST; "": none."""
    webhook_secret: str = ""
    """Signs what is posted (HMAC-SHA256); "": not signed."""

    def __post_init__(self) -> None:
        where = f"alerts.rules '{self.name}'"
        if not self.name:
            raise ConfigError("got a rule without a name in alerts.rules, expected one")
        if not self.labels:
            raise ConfigError(f"got no labels in {where}, expected at least one")
        check_range(f"{where}: threshold", self.threshold, 0, 1)
        if self.clear_threshold is not None and not 0 <= self.clear_threshold <= self.threshold:
            raise ConfigError(
                f"got {where}: clear_threshold {self.clear_threshold} with threshold"
                f" {self.threshold}, expected 0 to the threshold"
            )
        check_range(f"{where}: hold_s", self.hold_s, 0, 3600)
        check_range(f"{where}: cooldown_s", self.cooldown_s, 0, 86_400)
        check_choice(f"{where}: severity", self.severity, get_args(Severity))
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ConfigError(f"got {where}: webhook '{self.webhook}', expected an http(s) URL")

    @property
    def clear_below(self) -> float:
        """The threshold below which the condition holds no more."""
        if self.clear_threshold is not None:
            return self.clear_threshold
        return max(self.threshold - 0.1, 0.0)


DEFAULT_RULES = (
    AlertRule(
        name="customer stays angry",
        labels=("angry",),
        roles=("customer", "caller"),
        threshold=0.6,
        hold_s=6.0,
        cooldown_s=60.0,
        severity="critical",
    ),
    AlertRule(
        name="driver is upset",
        labels=("angry", "fearful", "sad"),
        roles=("driver",),
        threshold=0.7,
        hold_s=10.0,
        cooldown_s=300.0,
    ),
)


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """What people are alerted to."""

    rules: tuple[AlertRule, ...] = field(default_factory=lambda: DEFAULT_RULES)
    """The rules; an empty list: none."""

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ConfigError(f"got the names {names} in alerts.rules, expected each once")
