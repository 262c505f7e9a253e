"""What a feed says to a subscriber: results as they are published, and what is between them."""

from __future__ import annotations

import msgspec

from stream_server.protocol.message_base import Message
from stream_server.protocol.results import Result

__all__ = [
    "RESULT_TYPES",
    "Dropped",
    "FeedMessage",
    "Snapshot",
    "decode_feed_message",
    "result_type",
]

RESULT_TYPES = (
    "stream_opened",
    "point",
    "segment",
    "gap",
    "marked",
    "flushed",
    "alert",
    "warning",
    "summary",
    "stream_closed",
)
"""The ``type`` of every result."""


class Snapshot(Message, tag="snapshot", frozen=True, kw_only=True):
    """The first message: how the live streams stand.

    Attributes:
        results: of every live stream in order of ``seq``: its ``stream_opened`` and, of each
            channel, the last point and the segment or gap it is in, and the alerts that hold.
            Only what the subscription asks for; streams that are caught up on are left out.
    """

    results: tuple[Result, ...]


class Dropped(Message, tag="dropped", frozen=True, kw_only=True):
    """The subscriber did not read in time, or what was asked for is not kept.

    Attributes:
        results: how many results are missing here.
    """

    results: int


FeedMessage = Snapshot | Dropped | Result


def result_type(result: Message) -> str:
    """Return the ``type`` a message has on the wire."""
    tag = type(result).__struct_config__.tag
    assert isinstance(tag, str), "every message has its type as tag"
    return tag


def decode_feed_message(data: str | bytes) -> FeedMessage:
    """Read a message of a feed; fields it does not know are ignored.

    Raises:
        msgspec.MsgspecError: it is not one.
    """
    return _DECODER.decode(data)


_DECODER: msgspec.json.Decoder[FeedMessage] = msgspec.json.Decoder(FeedMessage)
