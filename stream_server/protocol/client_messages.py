"""Text messages from the client, as types.

Positions count samples a channel at the client's rate from the start of the stream, whatever
fills them: audio, and the spans of ``discarded``, of ``resume`` and of what was lost. A pause whose
length the client does not say is left out.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from stream_server.protocol.message_base import Message

__all__ = [
    "PROTOCOL_VERSION",
    "ChannelSpec",
    "ClientMessage",
    "Discarded",
    "Flush",
    "KeepAlive",
    "Mark",
    "Pause",
    "Resume",
    "ResumeRequest",
    "Start",
    "Stop",
    "Want",
]

PROTOCOL_VERSION = 1

Want = Literal["points", "segments", "frames", "alerts"]
"""What a client may ask for. ``frames`` gives points their frames; gaps come with either of
``points`` and ``segments``; marks, warnings, heartbeats and errors always come."""


class ChannelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, in the order of the interleaved samples.

    Attributes:
        role: who speaks: ``customer``, ``agent``, ``driver``, ... The server's settings say which
            roles are analysed.
        name: for people; may be "".
    """

    role: str = "speaker"
    name: str = ""


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Take up a stream whose connection was lost.

    Attributes:
        token: of the stream's ``ready``.
        next_sample: position of the oldest audio the client can still send. Where the server has
            less, what is missing becomes a gap, ``lost``. The connection goes on at
            ``received_samples`` of ``ready``, which is never below it.
        last_seq: ``seq`` of the last result the client has; later ones are sent again. −1: none.
    """

    token: str
    next_sample: int
    last_seq: int = -1


class Start(Message, tag="start", frozen=True, kw_only=True):
    """The first message of a connection, unless the query of the URL says the same.

    Attributes:
        encoding: ``pcm_s16le``, ``pcm_f32le``, ``mulaw`` or ``alaw``.
        sample_rate: 8000 to 48000 Hz.
        channels: 1 to 8.
        name: of the stream, for people.
        metadata: kept with the stream; at most 32 entries of 256 characters.
        wants: which results to send; ``frames`` brings ``points`` along.
        live: False: a recording, sent as fast as the server takes it. None of it is given up when
            the server is overloaded; it waits instead, and live streams go first.
        resume: where this connection goes on with an earlier stream.
        token: access token, where no header carries it.
        version: of the protocol.
    """

    encoding: str
    sample_rate: int
    channels: tuple[ChannelSpec, ...] = (ChannelSpec(),)
    name: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    wants: tuple[Want, ...] = ("points", "segments", "alerts")
    live: bool = True
    resume: ResumeRequest | None = None
    token: str = ""
    version: int = PROTOCOL_VERSION


class KeepAlive(Message, tag="keepalive", frozen=True, kw_only=True):
    """There is no audio at the moment, but the client is there."""


class Flush(Message, tag="flush", frozen=True, kw_only=True):
    """Score what is there now, without waiting for the look-ahead; ``flushed`` follows."""


class Pause(Message, tag="pause", frozen=True, kw_only=True):
    """No audio comes until ``resume``; the time in between becomes a gap, ``paused``."""


class Resume(Message, tag="resume", frozen=True, kw_only=True):
    """Audio goes on.

    Attributes:
        paused_samples: how long the pause was, in samples a channel at the client's rate. None:
            the time between the two messages.
    """

    paused_samples: int | None = None


class Discarded(Message, tag="discarded", frozen=True, kw_only=True):
    """The client had to throw audio away; it becomes a gap, ``discarded``.

    Attributes:
        samples: how much, in samples a channel at the client's rate.
    """

    samples: int


class Mark(Message, tag="mark", frozen=True, kw_only=True):
    """Comes back as ``marked`` with the position of the audio sent before it.

    Attributes:
        name: up to 256 characters.
    """

    name: str


class Stop(Message, tag="stop", frozen=True, kw_only=True):
    """No more audio. The remaining results, ``summary`` and a normal close follow."""


ClientMessage = Start | KeepAlive | Flush | Pause | Resume | Discarded | Mark | Stop
