"""Audio of a call that comes in packets, track by track, put on one clock."""

from stream_server.tracks.aligner import TrackAligner
from stream_server.tracks.coded import CodedTracks, track_format
from stream_server.tracks.drift import TickSource
from stream_server.tracks.track import ChannelTrack, ReportsTracks, TrackStats

__all__ = [
    "ChannelTrack",
    "CodedTracks",
    "ReportsTracks",
    "TickSource",
    "TrackAligner",
    "TrackStats",
    "track_format",
]
