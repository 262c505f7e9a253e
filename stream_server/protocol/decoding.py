"""Messages of a server, from text."""

from __future__ import annotations

from typing import get_args

import msgspec

from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.server_messages import ServerMessage

__all__ = ["decode_server_message"]


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
