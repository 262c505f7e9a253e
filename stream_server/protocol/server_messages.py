"""Text messages from the server to the client that streams: results, and what is between the two.

``docs/protocol.md`` tells how messages follow one another. Positions of audio a client sent count
samples a channel at the client's own rate; positions of results count at 16 kHz.
"""

from __future__ import annotations

import msgspec

from stream_server.protocol.errors import ERRORS, ProtocolError
from stream_server.protocol.message_base import Message, ModelNotice, StreamChannel
from stream_server.protocol.results import Result

__all__ = ["Error", "Heartbeat", "LabelName", "Limits", "Ready", "ServerMessage", "error_message"]


class LabelName(msgspec.Struct, frozen=True, kw_only=True):
    """One class, in the order of ``posteriors``."""

    name: str
    name_zh: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the server puts up with.

    Attributes:
        max_message_bytes: of one message.
        max_messages_per_s: on average; a burst of ten seconds' worth is taken.
        idle_timeout_s: longest time without audio or ``keepalive``.
        max_stream_s: longest audio of one stream.
        resume_window_s: how long a lost client may come back.
    """

    max_message_bytes: int
    max_messages_per_s: int
    idle_timeout_s: float
    max_stream_s: float
    resume_window_s: float


class Ready(Message, tag="ready", frozen=True, kw_only=True):
    """Audio may come.

    Attributes:
        stream_id: names the stream in feeds, store and dashboard.
        resume_token: secret that takes the stream up again.
        resumed: this connection goes on with a stream; False although it was asked for: the stream
            is gone and this is a new one.
        received_samples: position at which this connection's audio goes on, in samples a channel
            at the client's rate; 0 if new.
        received_controls: how many ``flush``, ``pause``, ``resume``, ``discarded``, ``mark`` and
            ``stop`` of this stream the server has acted on; a client that comes back sends the
            later ones again. 0 if new.
        paused: the stream is paused: ``resume`` comes before audio.
        labels: the classes, in the order of ``posteriors``.
        window_ms, step_ms, look_ahead_ms, frame_hop_ms: how the stream is scored.
    """

    version: int
    stream_id: str
    resume_token: str
    resumed: bool
    received_samples: int
    model: ModelNotice
    labels: tuple[LabelName, ...]
    channels: tuple[StreamChannel, ...]
    window_ms: int
    step_ms: int
    look_ahead_ms: int
    frame_hop_ms: int
    limits: Limits
    received_controls: int = 0
    paused: bool = False


class Error(Message, tag="error", frozen=True, kw_only=True):
    """Something went wrong.

    Attributes:
        code: for programs; :mod:`stream_server.protocol.errors` lists them.
        message: what was got and what was expected.
        remedy: what to do.
        close_code: of the close that follows; None: the stream goes on.
        retry_after_s: when trying again may work.
    """

    code: str
    message: str
    remedy: str
    close_code: int | None = None
    retry_after_s: float | None = None


class Heartbeat(Message, tag="heartbeat", frozen=True, kw_only=True):
    """How the stream is doing, every ``heartbeat_ms``.

    Attributes:
        received_samples: up to which position the server has the stream, in samples a channel at
            the client's rate; what is before it need not be kept for a resume.
        received_controls: as in ``ready``; these need not be kept either.
        received_s: audio received, on the stream's clock.
        published_s: every analysed channel is scored or in a gap up to here.
        lag_ms: received minus published. Look-ahead and up to one step are always part of it.
        real_time_factor: time the engine takes for a second of this stream's audio, waiting
            included; below 1 it keeps up.
        effective_step_ms: mean audio between scored windows lately; above ``step_ms`` the server
            is overloaded and the step was widened.
    """

    stream_id: str
    received_samples: int
    received_s: float
    published_s: float
    lag_ms: float
    real_time_factor: float
    effective_step_ms: float
    received_controls: int = 0


ServerMessage = Ready | Error | Heartbeat | Result


def error_message(error: ProtocolError) -> Error:
    """Return the message that tells a client of an error."""
    return Error(
        code=error.code.value,
        message=str(error),
        remedy=ERRORS[error.code].remedy,
        close_code=ERRORS[error.code].close_code,
        retry_after_s=error.retry_after_s,
    )
