"""Files: sent, analysed one after another, asked about, fetched."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from typing import Any, get_args
from urllib.parse import quote

import numpy as np
from aiohttp import hdrs, web

from dashboard.api.job_types import Accepted, JobRef, JobView, SampleRequest
from dashboard.api.params import Param
from dashboard.api.result_types import AnalysisResult
from dashboard.api.results import csv_chunks, json_chunks, result_of
from dashboard.api.routes import Call, Route, reply
from dashboard.backend import Backend
from dashboard.config import AnalyseConfig
from dashboard.errors import ApiError
from dashboard.jobs import Job, Jobs
from dashboard.uploads import read_form
from ser_engine.offline import FileAnalysis, FrameResult, Granularity, UtteranceResult

__all__ = ["AnalyseRoutes"]

_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_SAMPLE_NAME = "Sample call.wav"
_POLL_S = 1.0


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
        one = "/analyse/{job_id}"
        errors = ("not_found", "not_finished", "bad_audio", "failed")
        return [
            Route(
                "POST",
                "/analyse",
                "Analyse files, one job each; live streams go first.",
                self.send,
                response=Accepted,
                status=202,
                errors=("file_too_big", "too_many_jobs", "not_ready"),
                form={
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "WAV, FLAC, Ogg or MP3; may occur several times",
                        },
                        "granularity": {
                            "type": "string",
                            "enum": list(_GRANULARITIES),
                            "default": "utterance",
                        },
                    },
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
                errors=("too_many_jobs", "not_ready"),
            ),
            Route(
                "GET",
                one,
                "How far a file is, and its result.",
                self.view,
                response=JobView,
                errors=("not_found",),
            ),
            Route(
                "DELETE",
                one,
                "Stop an analysis, or forget its result.",
                self.delete,
                status=204,
                errors=("not_found",),
            ),
            Route(
                "GET",
                one + "/result.json",
                "The whole result, every frame of it.",
                self.json,
                response=AnalysisResult,
                errors=errors,
            ),
            Route(
                "GET",
                one + "/result.csv",
                "The result as a table, a column a class.",
                self.csv,
                content="text/csv",
                errors=errors,
            ),
            Route(
                "GET",
                one + "/embedding.npy",
                "What the network heard, float32: (dim,) for an utterance, (frames, dim) for"
                " frames; of several channels one more axis in front, unless one is named.",
                self.embedding,
                params=(Param("channel", "integer", "only this one, from 0", None, 0, 31),),
                content="application/octet-stream",
                errors=errors,
            ),
        ]

    async def send(self, call: Call) -> web.StreamResponse:
        """Answer ``POST /analyse``."""
        self._check_ready()
        async with read_form(call.request, self._jobs, self._max_file_bytes) as form:
            granularity = form.fields.get("granularity", "utterance")
            if granularity not in _GRANULARITIES:
                expected = ", ".join(_GRANULARITIES)
                raise ApiError(
                    "bad_request", f"got granularity '{granularity}', expected one of {expected}"
                )
            jobs = [self._jobs.add(file.path, file.name, granularity) for file in form.files]
        return _accepted(jobs)

    async def sample(self, call: Call) -> web.StreamResponse:
        """Answer ``POST /analyse/sample``."""
        self._check_ready()
        with self._jobs.place() as path:
            audio = await self._backend.sample_audio()
            await asyncio.to_thread(path.write_bytes, audio)
            job = self._jobs.add(path, _SAMPLE_NAME, call.body.granularity)
        return _accepted([job])

    async def view(self, call: Call) -> web.StreamResponse:
        """Answer ``GET /analyse/{job}``."""
        job = self._job(call)
        result = None
        if job.result is not None:
            result = await asyncio.to_thread(result_of, job.result, job.name, job.granularity)
        return reply(
            JobView(
                job_id=job.job_id,
                name=job.name,
                granularity=job.granularity,
                state=job.state,
                progress=round(job.progress, 3),
                before=self._jobs.position(job),
                error=None if job.error is None else job.error.body,
                result=result,
            )
        )

    async def delete(self, call: Call) -> web.StreamResponse:
        """Answer ``DELETE /analyse/{job}``."""
        if not self._jobs.remove(call.part("job_id")):
            raise _unknown()
        return web.Response(status=204)

    async def json(self, call: Call) -> web.StreamResponse:
        """Answer ``/analyse/{job}/result.json``."""
        job, analysis = self._done(call)
        chunks = json_chunks(analysis, job.name, job.granularity)
        return await _download(call.request, chunks, "application/json", _attachment(job, ".json"))

    async def csv(self, call: Call) -> web.StreamResponse:
        """Answer ``/analyse/{job}/result.csv``."""
        job, analysis = self._done(call)
        chunks = csv_chunks(analysis)
        named = _attachment(job, ".csv")
        return await _download(call.request, chunks, "text/csv; charset=utf-8", named)

    async def embedding(self, call: Call) -> web.StreamResponse:
        """Answer ``/analyse/{job}/embedding.npy``."""
        job, analysis = self._done(call)
        data = await asyncio.to_thread(_npy, analysis, call.query["channel"])
        return web.Response(
            body=data,
            content_type="application/octet-stream",
            headers={hdrs.CONTENT_DISPOSITION: _attachment(job, ".npy")},
        )

    def _check_ready(self) -> None:
        if not self._backend.models().is_ready:
            raise ApiError(
                "not_ready", "got a file while the model is loaded", retry_after_s=_POLL_S
            )

    def _job(self, call: Call) -> Job:
        job = self._jobs.get(call.part("job_id"))
        if job is None:
            raise _unknown()
        return job

    def _done(self, call: Call) -> tuple[Job, FileAnalysis]:
        job = self._job(call)
        if job.error is not None:
            raise job.error
        if job.result is None:
            raise ApiError(
                "not_finished",
                f"got a job that is {job.state}, expected one that is done",
                retry_after_s=_POLL_S,
            )
        return job, job.result


def _accepted(jobs: list[Job]) -> web.Response:
    refs = [JobRef(job_id=job.job_id, name=job.name) for job in jobs]
    return reply(Accepted(job_id=jobs[0].job_id, jobs=refs), status=202)


async def _download(
    request: web.Request, chunks: Iterator[bytes], content_type: str, disposition: str
) -> web.StreamResponse:
    """Send what is made piece by piece; large results never are in memory as a whole."""
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CONTENT_DISPOSITION: disposition,
        }
    )
    await response.prepare(request)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        await response.write(chunk)
    await response.write_eof()
    return response


def _attachment(job: Job, suffix: str) -> str:
    """Return the header that saves a result under the recording's name, whatever is in that."""
    stem = job.name.rpartition(".")[0] or job.name
    return f"attachment; filename*=UTF-8''{quote(stem + suffix, safe='')}"


def _npy(analysis: FileAnalysis, channel: int | None) -> bytes:
    arrays: list[Any] = []
    for one in analysis.channels:
        match one.result:
            case UtteranceResult(embedding=array):
                arrays.append(array)
            case FrameResult(embeddings=array) if array is not None:
                arrays.append(array)
            case _:
                raise ApiError(
                    "not_found",
                    "got a result without embeddings, expected an utterance, or frames of some"
                    " minutes",
                )
    if channel is not None:
        if channel >= len(arrays):
            raise ApiError("not_found", f"got channel {channel}, expected 0 to {len(arrays) - 1}")
        arrays = [arrays[channel]]
    file = io.BytesIO()
    np.save(file, arrays[0] if len(arrays) == 1 else np.stack(arrays))
    return file.getvalue()


def _unknown() -> ApiError:
    return ApiError("not_found", "got a job that is not known, expected one that is")
