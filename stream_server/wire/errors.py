"""Every error that a client can be sent: its code, whether it ends the stream, and how.

Whoever repeats what failed, client or server, waits for a :class:`Backoff`.

::

    ProtocolError
      kind.close_code is None    the stream goes on; the client gets an ``error`` message
      kind.close_code is set     an ``error`` message, and a close with this code

Before the WebSocket is open an error is an HTTP status instead. Close codes from 4000 on are this
protocol's own (RFC 6455, section 7.4.2); the last three digits of most are those of the HTTP status
with the same meaning.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

CLOSE_NORMAL = 1000
CLOSE_ABNORMAL = 1006
"""Never sent: the connection was lost without a close (RFC 6455, section 7.4.1)."""

_SHOWN_CHARACTERS = 60


def shown(value: str | int) -> str:
    """Return a value as an error message may repeat it: quoted, escaped and short."""
    if isinstance(value, int):
        # Python refuses to print integers of more than 4300 digits.
        return str(value) if value.bit_length() <= 64 else "a number beyond 64 bits"
    quoted = repr(value[: _SHOWN_CHARACTERS + 1])
    return quoted if len(quoted) <= _SHOWN_CHARACTERS else quoted[: _SHOWN_CHARACTERS - 2] + "…'"


class ErrorCode(StrEnum):
    """What went wrong, for programs."""

    # The stream goes on.
    BAD_MESSAGE = "bad_message"
    UNKNOWN_MESSAGE = "unknown_message"
    UNEXPECTED_MESSAGE = "unexpected_message"
    BAD_AUDIO = "bad_audio"
    # The stream ends, or does not begin.
    BAD_START = "bad_start"
    BAD_FORMAT = "bad_format"
    UNSUPPORTED_VERSION = "unsupported_version"
    NOT_STARTED = "not_started"
    NOTHING_TO_ANALYSE = "nothing_to_analyse"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    UNKNOWN_PATH = "unknown_path"
    SERVER_FULL = "server_full"
    TOO_MANY_STREAMS = "too_many_streams"
    NOT_READY = "not_ready"
    MESSAGE_TOO_BIG = "message_too_big"
    TOO_MANY_MESSAGES = "too_many_messages"
    TOO_MANY_ERRORS = "too_many_errors"
    IDLE = "idle"
    TOO_LONG = "too_long"
    SLOW_CONSUMER = "slow_consumer"
    REPLACED = "replaced"
    SHUTTING_DOWN = "shutting_down"
    ENGINE_FAILED = "engine_failed"
    INTERNAL = "internal"
    NO_NOTICE = "no_notice"
    OBJECTED = "objected"
    # Feeds only: the subscription does not begin.
    BAD_QUERY = "bad_query"
    UNKNOWN_STREAM = "unknown_stream"
    TOO_MANY_SUBSCRIBERS = "too_many_subscribers"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What an error does, and what the client can do.

    Attributes:
        close_code: of the WebSocket close that follows; None: the stream goes on.
        http_status: of the response to a handshake that is refused with this error.
        retry: trying again unchanged may work.
    """

    close_code: int | None
    http_status: int
    remedy: str
    retry: bool = False


ERRORS: dict[ErrorCode, ErrorKind] = {
    ErrorCode.BAD_MESSAGE: ErrorKind(
        None,
        400,
        "Send one JSON object with a 'type' and the fields docs/reference/protocol.md lists.",
    ),
    ErrorCode.UNKNOWN_MESSAGE: ErrorKind(
        None,
        400,
        "Send one of the message types of docs/reference/protocol.md; this one was ignored.",
    ),
    ErrorCode.UNEXPECTED_MESSAGE: ErrorKind(
        None,
        400,
        "Send this message only where docs/reference/protocol.md allows it; it was ignored.",
    ),
    ErrorCode.BAD_AUDIO: ErrorKind(
        None, 400, "Send finite samples; this message's audio became a gap."
    ),
    ErrorCode.BAD_START: ErrorKind(4400, 400, "Correct 'start' or the query and connect again."),
    ErrorCode.BAD_FORMAT: ErrorKind(4400, 400, "Name a format docs/reference/protocol.md lists."),
    ErrorCode.UNSUPPORTED_VERSION: ErrorKind(4400, 400, "Speak version 1 of the protocol."),
    ErrorCode.NOT_STARTED: ErrorKind(
        4408, 408, "Send 'start' first, or put the format into the query of the URL."
    ),
    ErrorCode.NOTHING_TO_ANALYSE: ErrorKind(
        4422, 422, "Give a channel a role of the setting stream_server.streams.analyse_roles."
    ),
    ErrorCode.UNAUTHORIZED: ErrorKind(
        4401, 401, "Send 'Authorization: Bearer TOKEN', or 'token' in 'start'."
    ),
    ErrorCode.FORBIDDEN: ErrorKind(
        4403,
        403,
        "Ask an admin for a token or a role that may do this; see docs/how-to/security.md.",
    ),
    ErrorCode.FORBIDDEN_ORIGIN: ErrorKind(
        4403, 403, "Add the page's origin to the setting stream_server.access.allowed_origins."
    ),
    ErrorCode.UNKNOWN_PATH: ErrorKind(4404, 404, "Connect to the path '/'."),
    ErrorCode.SERVER_FULL: ErrorKind(
        4503, 503, "Try again when a stream has ended, or on another server.", retry=True
    ),
    ErrorCode.TOO_MANY_STREAMS: ErrorKind(
        4429, 429, "End one of this token's streams first.", retry=True
    ),
    ErrorCode.NOT_READY: ErrorKind(
        4503, 503, "Try again when /readyz says so; the model is being loaded.", retry=True
    ),
    ErrorCode.MESSAGE_TOO_BIG: ErrorKind(1009, 413, "Send the audio in smaller messages."),
    ErrorCode.TOO_MANY_MESSAGES: ErrorKind(
        4429, 429, "Put more audio into a message; 20 to 100 ms is usual.", retry=True
    ),
    ErrorCode.TOO_MANY_ERRORS: ErrorKind(4400, 400, "Correct the client."),
    ErrorCode.IDLE: ErrorKind(
        4408, 408, "Send audio, or 'keepalive' while there is none.", retry=True
    ),
    ErrorCode.TOO_LONG: ErrorKind(4413, 413, "Begin a new stream.", retry=True),
    ErrorCode.SLOW_CONSUMER: ErrorKind(
        4408, 408, "Read the results as they come, or ask for fewer in 'wants'.", retry=True
    ),
    ErrorCode.REPLACED: ErrorKind(
        4409, 409, "Nothing: another connection has resumed this stream."
    ),
    ErrorCode.SHUTTING_DOWN: ErrorKind(1001, 503, "Connect again in a moment.", retry=True),
    ErrorCode.ENGINE_FAILED: ErrorKind(
        4500, 503, "Connect again later; the operator has to look at the server's log.", retry=True
    ),
    ErrorCode.INTERNAL: ErrorKind(
        4500, 500, "Connect again; the server's log says what went wrong.", retry=True
    ),
    ErrorCode.NO_NOTICE: ErrorKind(
        4403,
        403,
        "Give notice and say so in 'start', as 'notice_version'; see docs/how-to/privacy.md.",
    ),
    ErrorCode.OBJECTED: ErrorKind(
        4410, 410, "Nothing: a person in the stream objected, and what was kept is erased."
    ),
    ErrorCode.BAD_QUERY: ErrorKind(
        4400, 400, "Ask with the parameters docs/how-to/feeds.md lists."
    ),
    ErrorCode.UNKNOWN_STREAM: ErrorKind(
        4404, 404, "Ask for a stream that is live or was kept; a feed of all streams names them."
    ),
    ErrorCode.TOO_MANY_SUBSCRIBERS: ErrorKind(
        4503,
        503,
        "Try again when another subscriber has gone, or raise the setting"
        " stream_server.feeds.max_subscribers.",
        retry=True,
    ),
}


class ProtocolError(Exception):
    """An error that is reported to the client.

    Args:
        code: what went wrong.
        message: what was got, what is allowed, what to do.
        retry_after_s: when to try again, if that is known.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> ErrorKind:
        return ERRORS[self.code]

    @property
    def ends_stream(self) -> bool:
        """Whether the connection is closed after it."""
        return self.kind.close_code is not None


class Backoff:
    """Delays before attempts that failed are repeated.

    They double from ``first_s`` up to ``longest_s``; each is cut by a random part.

    ::

        backoff = Backoff(1.0, 60.0)
        while not succeeded():
            sleep(backoff.next_s())

    Args:
        rng: source of the random part; None: one of its own.

    Attributes:
        attempts: failures in a row, which is how often :meth:`next_s` was called since the last
            :meth:`reset`.
    """

    def __init__(self, first_s: float, longest_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng or random.Random()
        self.attempts = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """Return the next delay, s.

        Args:
            at_least_s: what the other side asked for (``Retry-After``). The delay is added to it:
                many clients are told the same number and would all come back at the same moment.
        """
        # 2 ** 1024 overflows a float, and a server may be away for weeks.
        delay_s = min(self._longest_s, self._first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        # "Equal jitter": half of the delay stays. With "full jitter" (0 to 1) every second client
        # would be back before half of the delay has passed.
        delay_s *= self._rng.uniform(0.5, 1.0)
        return delay_s if at_least_s is None else at_least_s + delay_s

    def reset(self) -> None:
        self.attempts = 0
