"""How fast audio comes: as fast as it is spoken, or not, and why not."""

from __future__ import annotations

from collections import deque
from statistics import median

from ser_engine.schema import StreamWarningCode

# Audio this far ahead comes faster than real time: it can wait, so none of its windows is given
# up, and live audio goes before it.
_AHEAD_S = 1.0
# Audio this far ahead makes a warning for the client.
_WARN_AHEAD_S = 5.0

_MEASURED_S = 10
"""Seconds with audio that are looked at: a pause of some seconds leaves the median as it is."""
_MIN_MEASURED_S = 3
"""Seconds that tell a steady rate from a burst."""
_STEADY = 0.1
"""Share by which each of them may differ from the median: at a wrong rate samples come evenly."""
_MOST_TIMES = 8
"""No rate is taken for one so much lower: what comes faster is a file."""
_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_NEAR = 0.03
"""Share by which a rate may be off the one it is taken for."""
_LEAST_OFF = 0.06
"""44.1 and 48 kHz, the closest two, are 9 % apart."""


class RateMeter:
    """Measures how fast audio comes, second by second. Time is an argument."""

    def __init__(self) -> None:
        self.shares: deque[float] = deque(maxlen=_MEASURED_S)
        self._since_s: float | None = None
        self._since_audio_s = 0.0

    def take(self, audio_s: float, now_s: float) -> None:
        """Note that ``audio_s`` of audio came up to ``now_s``, in seconds by the rate told."""
        if self._since_s is None:
            # What comes first may have waited for long: it only starts the clock.
            self._since_s, self._since_audio_s = now_s, audio_s
            return
        elapsed_s = now_s - self._since_s
        if elapsed_s >= 1:
            self.shares.append((audio_s - self._since_audio_s) / elapsed_s)
            self._since_s, self._since_audio_s = now_s, audio_s

    @property
    def is_full(self) -> bool:
        """Whether as many seconds were measured as are looked at."""
        return len(self.shares) == _MEASURED_S

    def steady_share(self) -> float | None:
        """Return audio against time, where it comes evenly; None: it does not, or is too little."""
        if len(self.shares) < _MIN_MEASURED_S:
            return None
        share = median(self.shares)
        is_steady = all(abs(each - share) <= _STEADY * share for each in self.shares)
        return share if is_steady else None


class Pace:
    """How far the audio of one stream is ahead of the time since it began. Time is an argument.

    Args:
        is_live: the client says that its audio comes as it is spoken.
    """

    def __init__(self, *, is_live: bool, rate_hz: int, started_s: float) -> None:
        self._is_live = is_live
        self._rate_hz = rate_hz
        self._started_s = started_s
        self._meter = RateMeter()
        self._has_warned = False

    def can_wait(self, received_s: float, now_s: float) -> bool:
        """Return whether ``received_s`` of audio are of a recording, or come as fast as one."""
        return not self._is_live or self._ahead_s(received_s, now_s) > _AHEAD_S

    def take(self, received_s: float, now_s: float) -> tuple[StreamWarningCode, str] | None:
        """Note what came so far; return a warning for the client, once, or None."""
        if self._has_warned or not self._is_live:
            return None
        self._meter.take(received_s, now_s)
        found = self._judge(self._ahead_s(received_s, now_s), now_s - self._started_s)
        self._has_warned = found is not None
        return found

    def _judge(self, ahead_s: float, elapsed_s: float) -> tuple[StreamWarningCode, str] | None:
        share = self._meter.steady_share()
        if ahead_s > _WARN_AHEAD_S:
            if share is not None and share > 1 + _LEAST_OFF:
                return "faster_than_real_time", self._wrong_rate(share)
            if elapsed_s >= _MIN_MEASURED_S + 1 or ahead_s > _MOST_TIMES * max(elapsed_s, 1):
                message = f"live audio comes {ahead_s:.0f} s ahead of time"
                return "faster_than_real_time", f"{message}; send 'live': false for a recording"
        elif share is not None and self._meter.is_full and share < 1 - _LEAST_OFF:
            # Clients may send less than all, too; a wrong rate is one of a few.
            if _likely_rate(share * self._rate_hz) is not None:
                return "clock_drift", self._wrong_rate(share)
        return None

    def _wrong_rate(self, share: float) -> str:
        text = f"audio comes at {share:.2f} times the {self._rate_hz} Hz that were told"
        causes = []
        if (rate_hz := _likely_rate(share * self._rate_hz)) is not None:
            causes.append(f"its rate is {rate_hz} Hz")
        if abs(share - 2) < 2 * _NEAR:
            causes.append("two channels or samples of twice the size were told as one")
        if abs(share - 0.5) < _NEAR / 2:
            causes.append("one channel or samples of half the size were told as two")
        return f"{text}; likely {', or '.join(causes)}" if causes else text

    def _ahead_s(self, received_s: float, now_s: float) -> float:
        return received_s - (now_s - self._started_s)


def _likely_rate(rate_hz: float) -> int | None:
    """Return the usual rate that a measured one is close to; None: there is none."""
    nearest = min(_RATES_HZ, key=lambda each: abs(each - rate_hz))
    return nearest if abs(nearest - rate_hz) <= _NEAR * nearest else None
