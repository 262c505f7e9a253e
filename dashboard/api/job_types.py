"""Files that are analysed, as JSON has them."""

from __future__ import annotations

import msgspec

from dashboard.api.result_types import AnalysisResult
from dashboard.jobs import JobState
from ser_engine.offline import Granularity
from stream_server.protocol.server_messages import Error

__all__ = ["Accepted", "JobRef", "JobView", "SampleRequest"]


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
    """How to analyse the sample call."""

    granularity: Granularity = "stream"


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file is.

    Attributes:
        job_id, name, granularity: of the job.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        progress: 0 to 1.
        before: files that are analysed before it.
        error: why it failed.
        result: once it is done; frames beyond 6000 a channel are averaged.
    """

    job_id: str
    name: str
    granularity: Granularity
    state: JobState
    progress: float
    before: int
    error: Error | None
    result: AnalysisResult | None
