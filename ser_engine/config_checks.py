"""What the settings check their values with."""

from __future__ import annotations

from ser_engine.errors import ConfigError

__all__ = ["check_choice", "check_frame_hop", "check_range"]


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside of ``low`` to ``high``, both included.

    Raises:
        ConfigError: it is outside.
    """
    if not low <= value <= high:
        raise ConfigError(f"got {name} {value}, expected {low} to {high}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of ``choices``.

    Raises:
        ConfigError: it is none of them.
    """
    if value not in choices:
        raise ConfigError(f"got {name} '{value}', expected one of {', '.join(choices)}")


def check_frame_hop(name: str, value: int) -> None:
    """Refuse a time between frames that no pass gives.

    Raises:
        ConfigError: it is neither 10 nor 20 ms.
    """
    if value not in (10, 20):
        raise ConfigError(f"got {name} {value}, expected 10 or 20")
