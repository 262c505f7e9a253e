"""Files that are analysed, as JSON has them."""

from __future__ import annotations

import msgspec

from dashboard.api.options import Options
from dashboard.results.types import AnalysisResult
from ser_engine.offline import Granularity
from stream_server.protocol.server_messages import Error
from stream_server.store import JobState

__all__ = [
    "Accepted",
    "JobItem",
    "JobList",
    "JobRef",
    "JobSummary",
    "JobView",
    "SampleRequest",
    "SummaryChannel",
]


class JobRef(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is going to be analysed."""

    job_id: str
    name: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Files that are going to be analysed.

    Attributes:
        job_id: of the first one.
        jobs: all of them, in the order of the form.
    """

    job_id: str
    jobs: list[JobRef]


class SampleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to analyse the sample call; fields that are left out as for files."""

    granularity: Granularity | None = None
    frame_hop_ms: int | None = None
    embeddings: bool | None = None
    speakers: bool | None = None
    preset: str = ""


class SummaryChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel in a list.

    Attributes:
        emotion: the strongest class.
        confidence: its posterior, 0 to 1.
    """

    emotion: str
    confidence: float


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A result in a list.

    Attributes:
        channels: in their order; None: nothing of it could be scored.
        warnings: codes of what is wrong with the audio.
    """

    channels: list[SummaryChannel | None] = []
    warnings: list[str] = []


class JobItem(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file is.

    Attributes:
        job_id, name: of the job.
        granularity, options: what was asked for.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        progress: 0 to 1.
        before: files that come before it.
        size_bytes: of the file.
        created_at, started_at, finished_at: s since 1970, UTC; None: not yet.
        duration_s: of the recording, once it is done.
        error: why it failed.
        summary: of the result, once it is done.
    """

    job_id: str
    name: str
    granularity: Granularity
    options: Options
    state: JobState
    progress: float
    before: int
    size_bytes: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    duration_s: float | None
    error: Error | None
    summary: JobSummary | None


class JobView(JobItem, frozen=True, kw_only=True):
    """A file and its result.

    Attributes:
        result: once it is done; frames beyond 6000 a channel are averaged.
    """

    result: AnalysisResult | None


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """Files, the newest first.

    Attributes:
        jobs: some of them.
        waiting, running: how many of all of them wait and run.
    """

    jobs: list[JobItem]
    waiting: int
    running: int
