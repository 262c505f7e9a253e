"""How far the audio of a stream is ahead of the time since it began. Time is an argument."""

from __future__ import annotations

__all__ = ["Pace"]

_AHEAD_S = 1.0
"""Audio this far ahead comes faster than real time: it can wait, so none of its windows is given
up, and live audio goes before it."""
_WARN_AHEAD_S = 5.0
"""Far enough ahead for the client to be told."""


class Pace:
    """Of one stream.

    Args:
        is_live: the client says that its audio comes as it is spoken.
        started_s: when the stream began.
    """

    def __init__(self, *, is_live: bool, started_s: float) -> None:
        self._is_live = is_live
        self._started_s = started_s
        self._has_warned = False

    def can_wait(self, received_s: float, now_s: float) -> bool:
        """Return whether the audio is of a recording, or comes like that of one.

        Args:
            received_s: audio received so far.
            now_s: the time.
        """
        return not self._is_live or self._ahead_s(received_s, now_s) > _AHEAD_S

    def warning(self, received_s: float, now_s: float) -> str | None:
        """Return what the client is to be told, once; None: nothing."""
        ahead_s = self._ahead_s(received_s, now_s)
        if self._has_warned or not self._is_live or ahead_s <= _WARN_AHEAD_S:
            return None
        self._has_warned = True
        return f"live audio comes {ahead_s:.0f} s ahead of time; say 'live': false of a recording"

    def _ahead_s(self, received_s: float, now_s: float) -> float:
        return received_s - (now_s - self._started_s)
