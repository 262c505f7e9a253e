"""How a channel has been for a while, beside the label of the moment. Pure.

People and programs that look now and then want to know "angry for five minutes" or "was angry two
minutes ago"; the label of a point changes with a sentence.
"""

from __future__ import annotations

import math
from collections import deque

from msgspec.structs import replace

from ser_engine.schema import LastingState, Point

STATE_SPEECH_S = 30.0
"""Speech that a state is made of: with its pauses half a minute to a minute of a conversation."""
_ENOUGH_SPEECH_S = 6.0
_BEGINS_AT, _HOLDS_AT = 0.6, 0.4


class StateTracker:
    """Follows one channel.

    A label becomes the state when it has 60 % of the last 30 s of speech (or of 6 s and more, as
    long as there was less), and stays so down to 40 %; below that another label, or
    none, is the state. It began where the oldest speech of it that counts lies. Silence changes
    nothing.

    Attributes:
        state: as of the last point.
    """

    def __init__(self) -> None:
        self.state = LastingState()
        self._points: deque[tuple[str | None, float, float]] = deque()  # label, start, speech, s
        self._speech_s: dict[str | None, float] = {}

    def point(self, point: Point) -> LastingState:
        """Take the next point; return the state."""
        speech_s = (point.end_s - point.start_s) * point.speech_share
        self._points.append((point.label, point.start_s, speech_s))
        self._speech_s[point.label] = self._speech_s.get(point.label, 0.0) + speech_s
        total_s = math.fsum(self._speech_s.values())
        while total_s - self._points[0][2] > STATE_SPEECH_S:
            label, _, oldest_s = self._points.popleft()
            self._speech_s[label] -= oldest_s
            total_s -= oldest_s
        state = self.state
        if state.label is not None:
            if self._share(state.label, total_s) >= _HOLDS_AT:
                return state
            state = LastingState(before=state.label, before_until_s=round(point.start_s, 2))
        best = max(self._speech_s, key=self._speech_s.__getitem__)
        is_long = total_s >= _ENOUGH_SPEECH_S
        if best is not None and is_long and self._share(best, total_s) >= _BEGINS_AT:
            since_s = next(start_s for label, start_s, _ in self._points if label == best)
            state = replace(state, label=best, since_s=round(since_s, 2))
        self.state = state
        return state

    def _share(self, label: str, total_s: float) -> float:
        return self._speech_s.get(label, 0.0) / total_s if total_s else 0.0
