"""Drift made up for by single samples, put in or left out: a controlled slip.

The idea is that of ITU-T G.822, whose slips are whole frames. At most one sample a packet: at 50
packets a second of 8 kHz that makes up for 6250 parts in a million.
"""

from __future__ import annotations

from stream_server.protocol.tracks.offset import OffsetFilter, TickSource

__all__ = ["DEAD_BAND_MS", "Slip"]

DEAD_BAND_MS = 3
"""Offset from which on samples are put in or left out, until a third of it is left."""


class Slip:
    """Of one channel.

    Args:
        rate_hz: of the channel.
        sample_bytes: of a sample.
        source: of the packets' times.

    Attributes:
        offsets: what is known of drift.
        count: samples put in or left out.
    """

    def __init__(self, rate_hz: int, sample_bytes: int, source: TickSource) -> None:
        self.offsets = OffsetFilter(rate_hz, source)
        self.count = 0
        self._sample_bytes = sample_bytes
        self._band = DEAD_BAND_MS * rate_hz / 1000
        self._balance = 0  # samples put in, less those left out
        self._is_active = False

    @property
    def off(self) -> float:
        """How far times are believed to be from places, in samples."""
        return 0.0 if self.offsets.offset is None else self.offsets.offset - self._balance

    def observe(self, position: int, off: int) -> None:
        """Take how far a packet's time is from its place."""
        self.offsets.add(position, off + self._balance)

    def apply(self, payload: bytes) -> bytes:
        """Return ``payload``, a sample longer or shorter where the channel is off."""
        off = self.off
        self._is_active = abs(off) > (self._band / 3 if self._is_active else self._band)
        if not self._is_active or len(payload) <= self._sample_bytes:
            return payload
        self.count += 1
        if off > 0:
            self._balance += 1
            return payload + payload[-self._sample_bytes :]
        self._balance -= 1
        return payload[: -self._sample_bytes]
