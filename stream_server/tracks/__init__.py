"""Audio of a call that comes in packets, track by track, put on one clock."""

from stream_server.tracks.aligner import TrackAligner
from stream_server.tracks.drift import TickSource
from stream_server.tracks.track import ChannelTrack, ReportsTracks, TrackStats

__all__ = ["ChannelTrack", "ReportsTracks", "TickSource", "TrackAligner", "TrackStats"]
