"""Messages of the native protocol, both ways; ``docs/reference/protocol.md`` shows their order.

Positions of audio count samples a channel at the client's rate from the start of the stream,
whatever fills them: audio, the spans of ``discarded`` and ``resume``, and what was lost. A pause
whose length the client does not give takes no positions. Positions of results count at 16 kHz.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ser_engine.schema import LabelName, ModelNotice
from stream_server.wire.errors import ERRORS, ProtocolError
from stream_server.wire.results import Message, Result, StreamChannel

# Fields may be added within a version, as both sides ignore unknown ones; anything else needs a
# new one.
PROTOCOL_VERSION = 1

Want = Literal["points", "segments", "frames", "alerts", "measures"]
"""What a client may ask for. ``frames`` adds frames to points; gaps come with either of ``points``
and ``segments``; marks, warnings, heartbeats and errors always come."""


class ChannelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, in the order of the interleaved samples.

    Attributes:
        role: who speaks: ``customer``, ``agent``, ``driver``, ... The server's settings say which
            roles are analysed.
    """

    role: str = "speaker"
    name: str = ""


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Resume a stream whose connection was lost.

    Attributes:
        token: ``resume_token`` of the stream's ``ready``.
        next_sample: position of the oldest audio that the client can still send. If the server has
            received less, what is missing becomes a gap, ``lost``. The connection continues at
            ``received_samples`` of ``ready``, which is never below it.
        last_seq: ``seq`` of the last result received; later ones are sent again. −1: none.
        next_byte: of a stream that is decoded, in place of ``next_sample``: the first byte that the
            client can still send. None: what the server has received.
    """

    token: str
    next_sample: int
    last_seq: int = -1
    next_byte: int | None = None


class Start(Message, tag="start", frozen=True, kw_only=True):
    """The first message of a connection, unless the query of the URL says the same.

    Attributes:
        encoding: ``pcm_s16le``, ``pcm_f32le``, ``mulaw``, ``alaw``, or a codec
            (:mod:`stream_server.wire.codecs`).
        sample_rate: 8000 to 48000 Hz. Of a codec the rate that its audio is brought to, and that
            positions count; None: the codec's default.
        channels: 1 to 8.
        metadata: kept with the stream; at most 32 entries of 256 characters.
        wants: which results to send; ``frames`` brings ``points`` along.
        live: False: a recording, sent as fast as the server takes it. Under overload it waits and
            loses nothing; live streams go first.
        resume: set if this connection continues an earlier stream.
        token: access token, where no header carries it.
        consent: ``given``, ``refused`` or ``unknown``; "": what the metadata of that name say.
        consent_source: who or what says so.
        notice_version, notice_language, notice_how: which notice was given, and how.
        speakers: ``apart``: tell the speakers of one channel apart; ``agent_first``: and leave out
            whoever speaks first; "": what the metadata of that name say.
        window_ms, step_ms: audio of a forward pass, and time between two; None: as the server has
            it.
    """

    # A plain str, not a Literal: check_start gives a better error than msgspec would.
    encoding: str
    sample_rate: int | None = None
    channels: tuple[ChannelSpec, ...] = (ChannelSpec(),)
    name: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    wants: tuple[Want, ...] = ("points", "segments", "alerts")
    live: bool = True
    resume: ResumeRequest | None = None
    token: str = ""
    consent: str = ""
    consent_source: str = ""
    notice_version: str = ""
    notice_language: str = ""
    notice_how: str = ""
    speakers: str = ""
    window_ms: int | None = None
    step_ms: int | None = None
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
        key: of the telephone, where a platform reports that one was pressed. It is compared with
            the setting ``rights.objection_key`` and kept nowhere.
    """

    name: str
    key: str = ""


class ConsentTold(Message, tag="tell_consent", frozen=True, kw_only=True):
    """What the people in the stream have said or been told; audio from here on is treated so.

    Attributes:
        consent: ``given``, ``refused`` or ``unknown``; None: nothing was said of it.
        source: who or what says so.
        notice_version, notice_language, notice_how: which notice was given, and how; None: none.
    """

    consent: str | None = None
    source: str | None = None
    notice_version: str | None = None
    notice_language: str | None = None
    notice_how: str | None = None


class SpeakerTold(Message, tag="tell_speaker", frozen=True, kw_only=True):
    """Who a speaker is, in a channel whose speakers are told apart; it holds from here on.

    Attributes:
        speaker: the name in results, such as ``speaker 1``.
        left_out: it is an agent, or somebody else who is not analysed.
        channel: the index of the channel.
    """

    speaker: str
    left_out: bool = True
    channel: int = 0


Told = ConsentTold | SpeakerTold
"""What is told of a stream that runs, by its client or from elsewhere."""


class Objection(Message, tag="objection", frozen=True, kw_only=True):
    """A person in the stream objects: it ends, and what was kept of it is erased."""


class Stop(Message, tag="stop", frozen=True, kw_only=True):
    """No more audio. The remaining results, ``summary`` and a normal close follow."""


Control = KeepAlive | Flush | Pause | Resume | Discarded | Mark | Told | Objection | Stop
"""What a client requests of a stream that runs."""

ClientMessage = Start | Control


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the server.

    Attributes:
        max_messages_per_s: on average; a burst of ten seconds' worth is taken.
        idle_timeout_s: longest time without audio or ``keepalive``.
        max_stream_s: longest audio of one stream.
        resume_window_s: how long a stream waits for a lost client.
    """

    max_message_bytes: int
    max_messages_per_s: int
    idle_timeout_s: float
    max_stream_s: float
    resume_window_s: float


class Ready(Message, tag="ready", frozen=True, kw_only=True):
    """Audio may come.

    Attributes:
        resume_token: secret that resumes the stream.
        resumed: this connection continues a stream; False although it was asked for: that stream is
            gone and this is a new one.
        received_samples: position at which this connection's audio continues, in samples a channel
            at the client's rate; 0 if new.
        received_controls: how many ``flush``, ``pause``, ``resume``, ``discarded``, ``mark`` and
            ``stop`` of this stream the server has acted on; a client that resumes sends the later
            ones again. 0 if new.
        paused: the stream is paused: ``resume`` comes before audio.
        continues: id of the stream that was to be resumed and is gone; this one begins at 0 and is
            shown as its continuation.
        received_bytes: of a stream that is decoded, at which byte this connection's audio
            continues; left out of others.
        labels: the classes, in the order of ``posteriors``.
        window_ms, step_ms, look_ahead_ms, frame_hop_ms: how the stream is scored.
        profile: who chose window and step: ``live`` or ``economy``, by the server's settings or by
            what it measured; ``asked``: the client did, for one of them at least.
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
    # A server that leaves these out counts no controls, and cannot be paused across a resume.
    received_controls: int = 0
    paused: bool = False
    continues: str | None = None
    profile: str = "live"
    received_bytes: int | msgspec.UnsetType = msgspec.UNSET


class Error(Message, tag="error", frozen=True, kw_only=True):
    """Something went wrong.

    Attributes:
        code: for programs; :mod:`stream_server.wire.errors` lists them.
        message: what was got and what was expected.
        close_code: of the close that follows; None: the stream goes on.
        retry_after_s: when trying again may work.
    """

    code: str
    message: str
    remedy: str
    # Repeats that of the close frame, which is lost if the connection breaks first.
    close_code: int | None = None
    retry_after_s: float | None = None


class Heartbeat(Message, tag="heartbeat", frozen=True, kw_only=True):
    """How the stream is doing, every ``heartbeat_ms``.

    Attributes:
        received_samples: position up to which the server has received the stream, in samples a
            channel at the client's rate; what is before it need not be kept for a resume.
        received_controls: as in ``ready``; these need not be kept either.
        received_s: audio received, on the stream's clock.
        published_s: every analysed channel is scored or in a gap up to here.
        lag_ms: received minus published. Look-ahead and up to one step are always part of it.
        real_time_factor: time the engine takes for a second of this stream's audio, waiting
            included; below 1 it keeps up.
        effective_step_ms: mean audio between scored windows lately, pauses apart; above
            ``step_ms`` the server is overloaded and the step was widened.
        received_bytes: of a stream that is decoded, how many bytes the server has received, which a
            client need not keep; left out of others.
        unrecorded_s: audio so far that is silence in the stream's recording, because the disk was
            full or too slow; None: it is not recorded.
    """

    stream_id: str
    received_samples: int
    received_s: float
    published_s: float
    lag_ms: float
    real_time_factor: float
    effective_step_ms: float
    received_controls: int = 0
    unrecorded_s: float | None = None
    received_bytes: int | msgspec.UnsetType = msgspec.UNSET


ServerMessage = Ready | Error | Heartbeat | Result


def error_message(error: ProtocolError) -> Error:
    return Error(
        code=error.code.value,
        message=str(error),
        remedy=ERRORS[error.code].remedy,
        close_code=ERRORS[error.code].close_code,
        retry_after_s=error.retry_after_s,
    )
