"""Files: sent, listed, asked about, cancelled, deleted. Their results: ``analyse_results``.

Files that are analysed, as JSON has them.

What a file is to be analysed for, as fields of a form or as JSON spell it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from aiohttp import web

from dashboard.api.routes import Call, Param, Route, reply
from dashboard.backend import Backend
from dashboard.config import AnalyseConfig
from dashboard.errors import API_ERRORS, ApiError
from dashboard.jobs import Jobs
from dashboard.results.types import AnalysisResult
from dashboard.uploads import read_form
from ser_engine.files import Granularity
from stream_server.store import JobRecord, JobState
from stream_server.wire.messages import Error


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


_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_HOPS_MS = (10, 20)
_FIELDS = ("granularity", "frame_hop_ms", "embeddings", "speakers")

FORM_FIELDS: dict[str, Any] = {
    "granularity": {"type": "string", "enum": list(_GRANULARITIES), "default": "utterance"},
    "frame_hop_ms": {
        "type": "integer",
        "enum": list(_HOPS_MS),
        "default": 20,
        "description": "from frame to frame; 10 takes a second pass",
    },
    "embeddings": {
        "type": "boolean",
        "default": False,
        "description": "keep those of every frame; an utterance always has its own",
    },
    "speakers": {
        "type": "boolean",
        "default": False,
        "description": "tell the speakers of each channel apart",
    },
    "preset": {
        "type": "string",
        "description": "name of one of the settings' presets; the other fields come before it",
    },
}
"""As a schema."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        granularity: ``utterance``, ``frame`` or ``stream``.
        frame_hop_ms: 20, or 10.
        embeddings: keep those of every frame.
        speakers: tell the speakers of each channel apart.
        preset: where the others come from, or "".
    """

    granularity: Granularity = "utterance"
    frame_hop_ms: int = 20
    embeddings: bool = False
    speakers: bool = False
    preset: str = ""


def options_of(
    given: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return options: as they are given, else as the preset has them, else the defaults.

    Args:
        given: by name; text, as in a form, or values, as in JSON.
        presets: what there is, by name.

    Raises:
        ApiError: an option or the preset is not known, or a value is none.
    """
    unknown = next((name for name in given if name not in (*_FIELDS, "preset")), None)
    if unknown is not None:
        expected = ", ".join((*_FIELDS, "preset"))
        raise ApiError(
            "bad_request", f"got the field '{unknown[:60]}', expected some of {expected}"
        )
    preset = given.get("preset", "")
    if preset and preset not in presets:
        expected = ", ".join(sorted(presets)) or "none: there are none"
        raise ApiError(
            "bad_request", f"got preset '{str(preset)[:60]}', expected one of {expected}"
        )
    values = {name: given[name] for name in _FIELDS if given.get(name) is not None}
    named = {key: value for key, value in presets.get(preset, {}).items() if key in _FIELDS}
    try:
        options = msgspec.convert({**named, **values, "preset": preset}, type=Options, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError("bad_request", f"got options that are wrong: {str(error)[:200]}") from None
    if options.frame_hop_ms not in _HOPS_MS:
        raise ApiError("bad_request", f"got frame_hop_ms {options.frame_hop_ms}, expected 10 or 20")
    return msgspec.structs.asdict(options)


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
