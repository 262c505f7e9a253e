"""What the gateway needs of a way in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from stream_server.ingest.handshake import Handshake
from stream_server.protocol.dialect import Dialect
from stream_server.protocol.encoding import encode_message
from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.server_messages import error_message

__all__ = ["Admission", "Entrance", "Refusal", "native_close_frame", "plain_refusal"]


def native_close_frame(error: ProtocolError) -> tuple[int, str]:
    """Return the native protocol's close code and reason."""
    code = error.kind.close_code
    assert code is not None, "an error that leaves the stream as it was does not end it"
    return code, error.code.value


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that is let in.

    Attributes:
        dialect: what it speaks.
        authorize: takes the token of the first message, "" without one; returns the name of who
            connects, "" for nobody in particular. Raises ProtocolError.
        headers: of the answer that opens the WebSocket, beside those of every such answer.
        close_frame: takes the error that ends the connection, returns close code and reason.
        is_known: it has proved who it is, as far as it has to; False: it may do so yet.
    """

    dialect: Dialect
    authorize: Callable[[str], str]
    headers: dict[str, str] = field(default_factory=dict)
    close_frame: Callable[[ProtocolError], tuple[int, str]] = native_close_frame
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP answer to a client that is not let in.

    Attributes:
        status: HTTP status.
        body: text.
        headers: beside those of every answer.
    """

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


class Entrance(Protocol):
    """One way in.

    Attributes:
        subprotocols: WebSocket subprotocols its clients may ask for.
    """

    subprotocols: tuple[str, ...]

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in; a capacity check follows where that is of use before the upgrade.

        Raises:
            ProtocolError: it is not let in. UNAUTHORIZED is told after a fixed delay.
        """
        ...

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the form of refusal this kind of client understands."""
        ...


def plain_refusal(error: ProtocolError) -> Refusal:
    """Return the native protocol's form: the error message as JSON."""
    headers = {"Content-Type": "application/json"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.code is ErrorCode.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Refusal(error.kind.http_status, encode_message(error_message(error)) + "\n", headers)
