"""Analysis of recordings.

Three granularities: ``utterance`` (one result for the whole), ``frame`` (one every 20 ms, or 10)
and ``stream`` (points, segments and gaps, exactly as a live stream of the recording gives them).
Recordings of any length take bounded memory, the result aside.
"""

from __future__ import annotations

from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.cache import analysis_key, file_sha256
from ser_engine.files.job import AnalysisJob, PendingWindow
from ser_engine.files.options import AnalysisOptions, options_of_preset
from ser_engine.files.results import (
    ChannelAnalysis,
    FrameResult,
    PieceResult,
    Result,
    SpeakerResult,
    StreamResult,
    UtteranceResult,
)
from ser_engine.files.run import Engine, analyze, analyze_channel, analyze_file, open_job, run_jobs
from ser_engine.files.source import ArraySource, AudioSource
from ser_engine.schema import FileResult, Granularity

__all__ = [
    "AnalysisJob",
    "AnalysisOptions",
    "ArraySource",
    "AudioSource",
    "ChannelAnalysis",
    "Engine",
    "FileAnalysis",
    "FileResult",
    "FrameResult",
    "Granularity",
    "PendingWindow",
    "PieceResult",
    "Result",
    "SpeakerResult",
    "StreamResult",
    "UtteranceResult",
    "analysis_key",
    "analyze",
    "analyze_channel",
    "analyze_file",
    "file_sha256",
    "open_job",
    "options_of_preset",
    "run_jobs",
]
