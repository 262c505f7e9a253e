"""What a client wants of a stream, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_server.protocol.audio_format import AudioFormat
from stream_server.protocol.client_messages import ChannelSpec, ResumeRequest, Want

__all__ = ["StreamSpec"]


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A ``start`` that holds together.

    Attributes:
        format: of the audio.
        channels: one entry a channel, in the order of the interleaved samples.
        name: of the stream, for people.
        metadata: kept with the stream.
        wants: which results to send to the client.
        live: whether the audio is of this moment; a recording can wait.
        resume: where it goes on with an earlier stream.
        token: access token, "" if a header carried it or none is needed.
    """

    format: AudioFormat
    channels: tuple[ChannelSpec, ...]
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    wants: frozenset[Want] = frozenset(("points", "segments", "alerts"))
    live: bool = True
    resume: ResumeRequest | None = None
    token: str = field(default="", repr=False)
