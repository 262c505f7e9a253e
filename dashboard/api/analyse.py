"""Files: sent, listed, asked about, cancelled, deleted. Their results: ``analyse_results``."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import msgspec
from aiohttp import web

from dashboard.api.job_types import (
    Accepted,
    JobItem,
    JobList,
    JobRef,
    JobSummary,
    JobView,
    SampleRequest,
)
from dashboard.api.options import FORM_FIELDS, Options, options_of
from dashboard.api.params import Param
from dashboard.api.routes import Call, Route, reply
from dashboard.backend import Backend
from dashboard.config import AnalyseConfig
from dashboard.errors import API_ERRORS, ApiError
from dashboard.jobs import Jobs
from dashboard.uploads import read_form
from stream_server.store import JobRecord, JobState

__all__ = ["AnalyseRoutes", "error_of", "unknown_job"]

_STATES: tuple[JobState, ...] = get_args(JobState)
_SAMPLE_NAME = "Sample call.wav"
_POLL_S = 1.0
_ONE = "/analyse/{job_id}"


class AnalyseRoutes:
    """Handlers.

    Args:
        backend: the rest of the server.
        jobs: the files.
        config: their limits.
    """

    def __init__(self, backend: Backend, jobs: Jobs, config: AnalyseConfig) -> None:
        self._backend = backend
        self._jobs = jobs
        self._max_file_bytes = config.max_file_mb << 20

    def routes(self) -> list[Route]:
        """Return the routes of this module."""
        refused = ("too_many_jobs", "no_room", "not_ready", "store_away")
        file = {
            "type": "string",
            "format": "binary",
            "description": "a recording; may occur several times",
        }
        return [
            Route(
                "POST",
                "/analyse",
                "Analyse files, one job each; live streams go first.",
                self.send,
                response=Accepted,
                status=202,
                errors=("file_too_big", *refused),
                form={
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": file, **FORM_FIELDS},
                },
            ),
            Route(
                "POST",
                "/analyse/sample",
                "Analyse the sample call.",
                self.sample,
                body=SampleRequest,
                response=Accepted,
                status=202,
                errors=refused,
            ),
            Route(
                "GET",
                "/analyse",
                "Files, the newest first.",
                self.list,
                params=(
                    Param("state", "list", "only those; default: all", choices=_STATES),
                    Param("limit", "integer", "how many at most", 100, 1, 1000),
                    Param("offset", "integer", "how many of the newest to leave out", 0, 0, 10**9),
                ),
                response=JobList,
                errors=("store_away",),
            ),
            Route(
                "GET",
                _ONE,
                "How far a file is, and its result.",
                self.view,
                response=JobView,
                errors=("not_found", "store_away"),
            ),
            Route(
                "POST",
                _ONE + "/cancel",
                "Stop an analysis; one that has ended stays as it is.",
                self.cancel,
                response=JobItem,
                errors=("not_found", "store_away"),
            ),
            Route(
                "DELETE",
                _ONE,
                "Stop an analysis, and forget it with its result.",
                self.delete,
                status=204,
                errors=("not_found", "store_away"),
            ),
        ]

    async def send(self, call: Call) -> web.StreamResponse:
        """Answer ``POST /analyse``."""
        self._check_ready()
        async with read_form(call.request, self._jobs, self._max_file_bytes) as form:
            options = options_of(form.fields, self._backend.presets)
            jobs = await self._jobs.add([(file.place, file.name, options) for file in form.files])
        return _accepted(jobs)

    async def sample(self, call: Call) -> web.StreamResponse:
        """Answer ``POST /analyse/sample``."""
        self._check_ready()
        given = msgspec.structs.asdict(call.body)
        if not given["preset"] and given["granularity"] is None:
            given["granularity"] = "stream"
        options = options_of(given, self._backend.presets)
        with self._jobs.place() as place:
            audio = await self._backend.sample_audio()
            place.grow(len(audio))
            await asyncio.to_thread(place.path.write_bytes, audio)
            jobs = await self._jobs.add([(place, _SAMPLE_NAME, options)])
        return _accepted(jobs)

    async def list(self, call: Call) -> web.StreamResponse:
        """Answer ``GET /analyse``."""
        query = call.query
        records = await self._jobs.page(
            states=query["state"] or None, limit=query["limit"], offset=query["offset"]
        )
        waiting, running = self._jobs.counts
        items = [JobItem(**self._fields(record)) for record in records]
        return reply(JobList(jobs=items, waiting=waiting, running=running))

    async def view(self, call: Call) -> web.StreamResponse:
        """Answer ``GET /analyse/{job}``."""
        record = await self._record(call)
        result: Any = None
        folder = self._jobs.folder(record)
        if record.state == "done" and folder is not None:
            try:
                result = msgspec.Raw(await asyncio.to_thread((folder / "view.json").read_bytes))
            except OSError:
                raise unknown_job() from None
        return reply({**self._fields(record), "result": result})

    async def cancel(self, call: Call) -> web.StreamResponse:
        """Answer ``POST /analyse/{job}/cancel``."""
        record = await self._jobs.cancel(call.part("job_id"))
        if record is None:
            raise unknown_job()
        return reply(JobItem(**self._fields(record)))

    async def delete(self, call: Call) -> web.StreamResponse:
        """Answer ``DELETE /analyse/{job}``."""
        if not await self._jobs.delete(call.part("job_id")):
            raise unknown_job()
        return web.Response(status=204)

    def _check_ready(self) -> None:
        if not self._backend.models().is_ready:
            raise ApiError(
                "not_ready", "got a file while the model is loaded", retry_after_s=_POLL_S
            )

    async def _record(self, call: Call) -> JobRecord:
        record = await self._jobs.get(call.part("job_id"))
        if record is None:
            raise unknown_job()
        return record

    def _fields(self, record: JobRecord) -> dict[str, Any]:
        error = error_of(record)
        summary = record.summary
        return {
            "job_id": record.job_id,
            "name": record.name,
            "granularity": record.options.get("granularity", "utterance"),
            "options": msgspec.convert(record.options, type=Options),
            "state": record.state,
            "progress": round(record.progress, 3),
            "before": self._jobs.before(record.job_id),
            "size_bytes": record.size_bytes,
            "created_at": record.created_at,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
            "duration_s": record.duration_s,
            "error": None if error is None else error.body,
            "summary": None if summary is None else msgspec.convert(summary, type=JobSummary),
        }


def error_of(record: JobRecord) -> ApiError | None:
    """Return why a job failed; None: it has not."""
    if record.state != "failed":
        return None
    code = record.error_code if record.error_code in API_ERRORS else "failed"
    return ApiError(code or "failed", record.error or "the analysis broke off")


def unknown_job() -> ApiError:
    """Return what is answered where there is no such job."""
    return ApiError("not_found", "got a job that is not known, expected one that is")


def _accepted(jobs: list[JobRecord]) -> web.Response:
    refs = [JobRef(job_id=job.job_id, name=job.name) for job in jobs]
    return reply(Accepted(job_id=jobs[0].job_id, jobs=refs), status=202)
