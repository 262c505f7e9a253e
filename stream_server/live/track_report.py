"""What is told of a stream's packets: warnings while it runs, metrics and a log line at its end."""

from __future__ import annotations

import structlog

from stream_server.live.runner import StreamRunner
from stream_server.protocol.results import WarningCode
from stream_server.protocol.tracks.stats import ChannelTrack, TrackStats

__all__ = ["DRIFT_PPM", "LOST_SHARE", "MIN_PACKETS", "TrackReport"]

_log = structlog.get_logger(__name__)

LOST_SHARE = 0.03
"""Share of a channel's packets from which on their loss is told: more harms every sentence."""
MIN_PACKETS = 250
"""Packets sent before a share is told: 5 s of 20 ms."""
DRIFT_PPM = 500
"""Drift from which on it is told. Crystals are off by 100 parts in a million at most; more is a
rate that is not what the platform says, or times that are wrong."""


class TrackReport:
    """Of one stream.

    Args:
        runner: of the stream.
    """

    def __init__(self, runner: StreamRunner) -> None:
        self._runner = runner
        self._told: set[tuple[WarningCode, int]] = set()
        self._has_ended = False

    def check(self, stats: TrackStats) -> None:
        """Warn of what is bad by now, once of each channel."""
        for channel, track in enumerate(stats.channels):
            if track.packets + track.lost >= MIN_PACKETS and track.lost_share >= LOST_SHARE:
                self._warn("packet_loss", channel, _loss(track))
            if track.drift_ppm is not None and abs(track.drift_ppm) >= DRIFT_PPM:
                pace = "fast" if track.drift_ppm > 0 else "slow"
                self._warn(
                    "clock_drift",
                    channel,
                    f"audio comes {abs(track.drift_ppm):.0f} parts in a million too {pace} for its"
                    " times; it is corrected",
                )

    def end(self, stats: TrackStats) -> None:
        """Warn for the last time, count and log; later calls do nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        self.check(stats)
        self._runner.metrics.tracks(stats)
        for channel, track in enumerate(stats.channels):
            _log.info(
                "track_ended",
                stream_id=self._runner.session.stream_id,
                channel=channel,
                packets=track.packets,
                lost=track.lost,
                late=track.late,
                duplicate=track.duplicate,
                reordered=track.reordered,
                jumps=track.jumps,
                slips=track.slips,
                lost_ms=track.lost_ms,
                drift_ppm=None if track.drift_ppm is None else round(track.drift_ppm, 1),
            )

    def _warn(self, code: WarningCode, channel: int, message: str) -> None:
        if (code, channel) not in self._told:
            self._told.add((code, channel))
            self._runner.warn(code, message, channel)


def _loss(track: ChannelTrack) -> str:
    return (
        f"{track.lost_share:.1%} of the packets did not come or came too late"
        f" ({track.lost} and {track.late} of {track.packets + track.lost})"
    )
