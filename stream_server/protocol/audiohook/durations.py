"""Durations of ISO 8601, e.g. ``PT1.2S``, in whole nanoseconds: AudioHook's positions."""

from __future__ import annotations

import re

__all__ = [
    "MAX_DURATION_NS",
    "NS_PER_S",
    "format_duration",
    "parse_duration",
    "ticks_of",
    "to_duration",
]

NS_PER_S = 10**9
MAX_DURATION_NS = 7 * 24 * 3600 * NS_PER_S
"""Longest duration that is taken: a week, the longest stream settings allow."""

_NUMBER = r"((?:[0-9]{1,15}(?:[.,][0-9]{0,18})?|[.,][0-9]{1,18}))"
_DURATION = re.compile(
    rf"P(?:{_NUMBER}D)?(?:T(?=[0-9.,])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_UNITS_NS = (24 * 3600 * NS_PER_S, 3600 * NS_PER_S, 60 * NS_PER_S, NS_PER_S)


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds, rounded to the nearest.

    Days, hours, minutes and seconds are known; the last of them may have a fraction (ISO 8601,
    section 5.5.2). The platform itself uses seconds only.

    Raises:
        ValueError: the text is no such duration, or it is longer than :data:`MAX_DURATION_NS`.
    """
    match = _DURATION.fullmatch(text)
    parts = match.groups() if match is not None else ()
    given = [(part, unit) for part, unit in zip(parts, _UNITS_NS, strict=False) if part]
    if not given or any(not part.isdigit() for part, _ in given[:-1]):
        raise ValueError(f"got a duration of {len(text)} characters, expected e.g. 'PT1.2S'")
    duration_ns = sum(_to_ns(part, unit) for part, unit in given)
    if duration_ns > MAX_DURATION_NS:
        raise ValueError(f"got a duration of more than {MAX_DURATION_NS // NS_PER_S} s")
    return duration_ns


def format_duration(duration_ns: int) -> str:
    """Return a duration of nanoseconds, 0 or more, in seconds and without needless digits."""
    whole, fraction = divmod(duration_ns, NS_PER_S)
    digits = f"{fraction:09}".rstrip("0")
    return f"PT{whole}.{digits}S" if digits else f"PT{whole}S"


def ticks_of(duration_ns: int, rate_hz: int) -> int:
    """Return how many samples a channel a duration is, to the nearest."""
    return (2 * duration_ns * rate_hz + NS_PER_S) // (2 * NS_PER_S)


def to_duration(ticks: int, rate_hz: int) -> int:
    """Return the duration of samples of a channel, in nanoseconds, to the nearest."""
    return (2 * ticks * NS_PER_S + rate_hz) // (2 * rate_hz)


def _to_ns(number: str, unit_ns: int) -> int:
    whole, _, fraction = number.replace(",", ".").partition(".")
    scale: int = 10 ** len(fraction)
    digits = int(f"{whole}{fraction}")
    return (2 * digits * unit_ns + scale) // (2 * scale)
