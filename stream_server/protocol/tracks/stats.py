"""What became of a call's packets."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChannelTrack", "TrackStats"]


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
            :class:`~stream_server.protocol.dialect.LostSpan` of the channel add up to, also before
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
