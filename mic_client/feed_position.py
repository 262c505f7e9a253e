"""Where a subscriber is in a feed, over any number of connections. Without I/O."""

from __future__ import annotations

from collections import OrderedDict

from stream_server.protocol.feed_messages import Dropped, FeedMessage, Snapshot
from stream_server.protocol.results import Result, StreamClosed

__all__ = ["MAX_STREAMS", "FeedPosition"]

MAX_STREAMS = 256
"""Streams a server catches a subscriber up on; of more the one longest silent is forgotten."""


class FeedPosition:
    """What came so far, so that nothing comes twice and the next connection asks for the rest."""

    def __init__(self) -> None:
        self._last_seqs: OrderedDict[str, int] = OrderedDict()
        self._missed = 0

    @property
    def missed(self) -> int:
        """Results that did not come because they were not read in time, or are not kept."""
        return self._missed

    @property
    def after(self) -> list[str]:
        """The values of the parameter ``after`` for the next connection."""
        return [f"{stream_id}:{seq}" for stream_id, seq in self._last_seqs.items()]

    def take(self, message: FeedMessage) -> list[Result]:
        """Return the results of a message that are new."""
        match message:
            case Snapshot():
                return [result for result in message.results if self._is_new(result)]
            case Dropped():
                self._missed += message.results
                return []
            case _:
                return [message] if self._is_new(message) else []

    def _is_new(self, result: Result) -> bool:
        if result.seq <= self._last_seqs.get(result.stream_id, -1):
            return False
        self._last_seqs[result.stream_id] = result.seq
        self._last_seqs.move_to_end(result.stream_id)
        if isinstance(result, StreamClosed):
            del self._last_seqs[result.stream_id]
        elif len(self._last_seqs) > MAX_STREAMS:
            self._last_seqs.popitem(last=False)
        return True
