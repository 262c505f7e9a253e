"""What a stream client streams: where audio comes from, seen from the sender."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from stream_server.protocol.audio_format import AudioFormat

__all__ = ["Chunk", "Lost", "Source", "SourceItem"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio.

    Attributes:
        data: interleaved samples in the source's format, whole ones: a multiple of
            ``format.bytes_per_tick`` bytes.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Audio that was there and could not be kept; it becomes a gap, ``discarded``.

    Attributes:
        samples: how much, in samples a channel at the source's rate; above 0.
    """

    samples: int


SourceItem = Chunk | Lost


class Source(Protocol):
    """Audio, chunk by chunk, in one format; it is iterated over once.

    Iteration waits until the next chunk is due and ends with the audio. It raises
    :class:`~mic_client.errors.SourceError` where the audio cannot go on.
    """

    @property
    def format(self) -> AudioFormat:
        """The format of the chunks."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether audio goes on when nobody reads it, as a microphone's does.

        A live source is read while the connection is down, one that is not waits.
        """
        ...

    @property
    def is_real_time(self) -> bool:
        """Whether chunks come at the speed at which they would be heard.

        A server that is overloaded gives up some of it rather than fall behind; of other audio it
        gives up nothing.
        """
        ...

    def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Begin."""
        ...

    async def aclose(self) -> None:
        """Let go of the device or file. May be called twice and while another task iterates."""
        ...
