"""What became of a call's packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ChannelTrack:
    """The packets of one channel.

    Attributes:
        packets: that came, whatever became of them.
        lost: that never came, as far as numbers or times tell.
        late: that came when their time was given up already, and were dropped.
        duplicate: that came again, and were dropped.
        reordered: that came after a later one, in time.
        jumps: times the packets' times or numbers made no sense and were taken up anew.
        slips: single samples put in or left out against drift.
        received_ms: audio of the packets.
        lost_ms: time of the channel without audio, for whatever reason: what the
            :class:`~stream_server.wire.dialect.LostSpan` of the channel add up to, also before
            its first packet and after its last.
        drift_ppm: how much faster the channel's samples come than its times say; negative: slower.
            None: it had no times, or not for long enough.
    """

    packets: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    jumps: int = 0
    slips: int = 0
    received_ms: int = 0
    lost_ms: int = 0
    drift_ppm: float | None = None

    @property
    def lost_share(self) -> float:
        """Share of the packets sent that never came or came too late, 0 to 1."""
        return (self.lost + self.late) / max(self.packets - self.duplicate + self.lost, 1)


@dataclass(frozen=True, slots=True)
class TrackStats:
    """The packets of a stream.

    Attributes:
        channels: one entry a channel.
    """

    channels: tuple[ChannelTrack, ...]

    @property
    def packets(self) -> int:
        """Packets of all channels that came."""
        return sum(channel.packets for channel in self.channels)

    @property
    def lost(self) -> int:
        """Packets of all channels that never came."""
        return sum(channel.lost for channel in self.channels)


@runtime_checkable
class ReportsTracks(Protocol):
    """A dialect whose audio comes in packets; others need not have this.

    While the stream runs, warnings follow from what it says; at its end metrics and a line of the
    log do.
    """

    @property
    def tracks(self) -> TrackStats | None:
        """What became of the packets so far; None: no audio is expected yet."""
        ...
