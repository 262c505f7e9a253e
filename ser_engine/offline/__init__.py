"""Analysis of recordings.

Three granularities: ``utterance`` (one result for the whole), ``frame`` (one every 20 ms, or 10)
and ``stream`` (points, segments and gaps, exactly as a live stream of the recording gives them).
Recordings of any length take bounded memory, the result aside.
"""

from __future__ import annotations

from ser_engine.offline.analysis import ChannelAnalysis, FileAnalysis, SpeakerResult
from ser_engine.offline.cache_key import analysis_key, file_sha256
from ser_engine.offline.job import AnalysisJob, PendingWindow
from ser_engine.offline.listener import QualityWarning, WarningCode
from ser_engine.offline.one_call import analyze, analyze_channel, analyze_file
from ser_engine.offline.options import AnalysisOptions, Granularity, options_of_preset
from ser_engine.offline.results import FrameResult, Result, StreamResult, UtteranceResult
from ser_engine.offline.run import Engine, open_job, run_jobs
from ser_engine.offline.segment_scores import UtteranceSegment
from ser_engine.offline.source import ArraySource, AudioSource

__all__ = [
    "AnalysisJob",
    "AnalysisOptions",
    "ArraySource",
    "AudioSource",
    "ChannelAnalysis",
    "Engine",
    "FileAnalysis",
    "FrameResult",
    "Granularity",
    "PendingWindow",
    "QualityWarning",
    "Result",
    "SpeakerResult",
    "StreamResult",
    "UtteranceResult",
    "UtteranceSegment",
    "WarningCode",
    "analysis_key",
    "analyze",
    "analyze_channel",
    "analyze_file",
    "file_sha256",
    "open_job",
    "options_of_preset",
    "run_jobs",
]
