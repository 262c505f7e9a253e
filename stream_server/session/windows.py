"""A window and the channel it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from ser_engine.types import Window

__all__ = ["ChannelWindow", "stream_key", "supersedes"]


def stream_key(stream_id: str, channel: int) -> str:
    """Return what the engine knows a channel of a stream by."""
    return f"{stream_id}/{channel}"


@dataclass(frozen=True, slots=True, eq=False)
class ChannelWindow:
    """A window to be scored for one channel of a stream.

    Attributes:
        channel: index of the channel.
        window: its audio.
    """

    channel: int
    window: Window

    @property
    def start_sample(self) -> int:
        """First sample, on the stream's clock."""
        return self.window.start_sample

    @property
    def end_sample(self) -> int:
        """End, not included."""
        return self.window.start_sample + len(self.window.samples)


def supersedes(newer: ChannelWindow, older: ChannelWindow) -> bool:
    """Return whether ``older`` may be given up for ``newer`` at no or little loss.

    It is so where ``newer`` is a later window of the same channel that still holds audio of
    ``older``: what ``older`` was to tell of is then told by ``newer``, as far as it reaches back.
    """
    return (
        newer.channel == older.channel
        and newer.end_sample > older.end_sample
        and newer.start_sample < older.end_sample
    )
