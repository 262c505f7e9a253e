"""Results as JSON text, made once for all who are sent them."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from stream_server.protocol.results import Point, Result
from stream_server.protocol.server_messages import ServerMessage

__all__ = ["ResultEncoder", "encode_message", "encode_result"]

_encoder = msgspec.json.Encoder()


def encode_message(message: ServerMessage) -> str:
    """Return a message as JSON text."""
    return _encoder.encode(message).decode()


def encode_result(result: Result, *, frames: bool = True) -> bytes:
    """Return a result as JSON in UTF-8.

    Args:
        result: any result.
        frames: False: a point goes without its frames, which are most of its bytes.
    """
    if not frames and isinstance(result, Point) and result.frames is not None:
        result = msgspec.structs.replace(result, frames=None)
    return _encoder.encode(result)


class ResultEncoder:
    """JSON text of recent results, for a result that goes to many readers.

    Results are told apart by identity, which is cheaper than comparing them; one that is kept
    here cannot be freed, so no other takes its place.

    Args:
        capacity: how many texts are kept; the oldest goes first.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._texts: OrderedDict[tuple[int, bool], tuple[Result, str]] = OrderedDict()

    def encode(self, result: Result, *, frames: bool = True) -> str:
        """Return ``result`` as JSON text; see :func:`encode_result`."""
        # Only points differ by it.
        frames = frames or not isinstance(result, Point) or result.frames is None
        key = (id(result), frames)
        kept = self._texts.get(key)
        if kept is not None:
            return kept[1]
        text = encode_result(result, frames=frames).decode()
        self._texts[key] = (result, text)
        if len(self._texts) > self._capacity:
            self._texts.popitem(last=False)
        return text
