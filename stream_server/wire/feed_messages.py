"""Results as JSON text, made once for all who are sent them.

What a feed says to a subscriber: results as they are published, and what is between them.

Messages of a server, from text.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import get_args

import msgspec

from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ServerMessage
from stream_server.wire.results import Message, Point, Result

RESULT_TYPES = (
    "stream_opened",
    "point",
    "segment",
    "gap",
    "marked",
    "flushed",
    "alert",
    "warning",
    "measures",
    "consent",
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


class _Typed(msgspec.Struct):
    type: str


_typed_decoder = msgspec.json.Decoder(_Typed)
_message_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_KNOWN_TYPES = frozenset(message.__struct_config__.tag for message in get_args(ServerMessage))


def decode_server_message(text: str) -> ServerMessage | None:
    """Return the message; None: it is of a type that only a later version knows.

    Raises:
        ProtocolError: the text is no message of this protocol.
    """
    try:
        return _message_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        try:
            if _typed_decoder.decode(text).type not in _KNOWN_TYPES:
                return None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"got a message from the server that is not of this protocol: {error}",
        ) from None


_encoder = msgspec.json.Encoder()


def encode_message(message: ServerMessage) -> str:
    return _encoder.encode(message).decode()


def encode_result(result: Result, *, frames: bool = True) -> bytes:
    """Return a result as JSON in UTF-8; without ``frames`` a point goes without its frames."""
    if not frames and isinstance(result, Point) and result.frames is not None:
        result = msgspec.structs.replace(result, frames=None)
    return _encoder.encode(result)


class ResultEncoder:
    """JSON text of recent results, for a result that goes to many readers.

    Results are told apart by identity, which is cheaper than comparing them; one that is kept
    here cannot be freed, so no other takes its place.
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
