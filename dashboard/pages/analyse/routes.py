"""Files: sent, queued, listed, cancelled, deleted. Their results are ``results.py``."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import msgspec
from aiohttp import web

from dashboard.api.routes import PAGE, Call, Param, Routes, reply
from dashboard.errors import ApiError
from dashboard.jobs.options import FORM_FIELDS, Options, options_of
from dashboard.pages.analyse import results
from dashboard.pages.analyse.results import error_of, old_result, unknown_job, visible_job
from dashboard.results import read_view
from dashboard.uploads import read_form
from ser_engine.schema import FileResult, Granularity
from stream_server.access.policy import Scope
from stream_server.store import JobRecord, JobState
from stream_server.wire.messages import Error
from stream_server.wire.start import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH

_STATES: tuple[JobState, ...] = get_args(JobState)
_SAMPLE_NAME = "Sample call.wav"
_META = "meta."
_POLL_S = 1.0


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
    """How to analyse the sample call; what is left out is as for files."""

    granularity: Granularity | None = None
    frame_hop_ms: int | None = None
    embeddings: bool | None = None
    speakers: bool | None = None
    roles: str = ""
    preset: str = ""
    team: str = ""


class SummaryChannel(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a channel.

    Attributes:
        label: the strongest class of all of it; None: unclear.
        best: the strongest class; "" in summaries of before.
        confidence: its posterior, 0 to 1.
        share: parts of its speech by label, ``unclear`` among them, 0 to 1; {}: it has one result.
    """

    label: str | None
    best: str = ""
    confidence: float
    share: dict[str, float] = {}


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A result in a list.

    Attributes:
        channels: in their order; None: nothing of it could be scored.
        warnings: codes of what is wrong with the audio.
        analysed: indices of the channels in the file.
    """

    channels: list[SummaryChannel | None] = []
    warnings: list[str] = []
    analysed: list[int] = []


class JobItem(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file is.

    Attributes:
        progress: 0 to 1.
        before: how many files come before it.
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
    """A file and, once it is done, its result; frames beyond 6000 a channel are averaged.

    Attributes:
        audio: whether its audio is kept.
        speakers: what people call its speakers: by channel, by the speaker's name in the result.
    """

    result: FileResult | None
    audio: bool = False
    speakers: dict[str, dict[str, str]] = {}


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a page, newest first; ``waiting`` and ``running`` count those of all pages."""

    jobs: list[JobItem]
    waiting: int
    running: int


_ONE = "/analyse/{job_id}"
_REFUSED = ("too_many_jobs", "no_room", "not_ready", "store_away")
_FILE = {
    "type": "string",
    "format": "binary",
    "description": "a recording; may occur several times",
}
_TEAM = {
    "type": "string",
    "description": "whose files they are; default: the sender's team, if it has one",
}
ROUTES = Routes()


@ROUTES.on(
    "POST",
    "/analyse",
    response=Accepted,
    status=202,
    errors=("file_too_big", *_REFUSED),
    needs=Scope.INGEST,
    form={
        "type": "object",
        "required": ["file"],
        "properties": {"file": _FILE, **FORM_FIELDS, "team": _TEAM},
        "patternProperties": {"^meta[.].+$": {"type": "string"}},
    },
    audit="file_sent",
)
async def send(call: Call) -> web.Response:
    """Analyse files, one job each; live streams go first."""
    _check_ready(call)
    jobs, backend = call.services.jobs, call.services.backend
    max_file_bytes = call.services.config.analyse.max_file_mb << 20
    async with read_form(call.request, jobs, max_file_bytes) as form:
        team = call.team_of_new(form.fields.pop("team", ""))
        metadata = _metadata(call, form.fields)
        options = options_of(form.fields, backend.presets)
        records = await jobs.add(
            [(file.place, file.name, options) for file in form.files], team=team, metadata=metadata
        )
    return _accepted(records)


@ROUTES.on(
    "POST",
    "/analyse/sample",
    body=SampleRequest,
    response=Accepted,
    status=202,
    errors=_REFUSED,
    needs=Scope.INGEST,
    audit="sample_call",
)
async def send_sample(call: Call) -> web.Response:
    """Analyse the sample call."""
    _check_ready(call)
    jobs, backend = call.services.jobs, call.services.backend
    given = msgspec.structs.asdict(call.body)
    team = call.team_of_new(given.pop("team"))
    if not given["preset"] and given["granularity"] is None:
        given["granularity"] = "stream"
    options = options_of(given, backend.presets)
    with jobs.place() as place:
        audio = await backend.sample_audio()
        place.grow(len(audio))
        await asyncio.to_thread(place.path.write_bytes, audio)
        records = await jobs.add([(place, _SAMPLE_NAME, options)], team=team)
    return _accepted(records)


@ROUTES.on(
    "GET",
    "/analyse",
    params=(
        Param("state", "list", "only those; default: all", choices=_STATES),
        *PAGE,
    ),
    response=JobList,
    errors=("store_away",),
)
async def list_jobs(call: Call) -> web.Response:
    """Files, newest first."""
    query, jobs = call.query, call.services.jobs
    records = await jobs.page(
        states=query["state"] or None,
        limit=query["limit"],
        offset=query["offset"],
        teams=call.who.visible_teams,
    )
    waiting, running = jobs.counts
    items = [JobItem(**_fields(call, record)) for record in records]
    return reply(JobList(jobs=items, waiting=waiting, running=running))


@ROUTES.on("GET", _ONE, response=JobView, errors=("not_found", "store_away"), audit="file")
async def show(call: Call) -> web.Response:
    """How far a file is, and its result."""
    jobs = call.services.jobs
    record = await visible_job(call)
    result: Any = None
    has_audio = False
    folder = jobs.folder(record)
    if record.state == "done" and folder is not None:
        try:
            # Written as JSON when the job was done: up to a megabyte that need not be parsed.
            view = await asyncio.to_thread(read_view, folder)
        except OSError:
            raise unknown_job() from None  # deleted since the row was read
        if view is None:
            raise old_result()
        result = msgspec.Raw(view)
        has_audio = await asyncio.to_thread((folder / results.AUDIO).is_file)
    named = {"audio": has_audio, "speakers": record.speakers or {}}
    return reply({**_fields(call, record), "result": result, **named})


@ROUTES.on(
    "POST",
    _ONE + "/cancel",
    response=JobItem,
    errors=("not_found", "store_away"),
    audit="file_cancelled",
)
async def cancel(call: Call) -> web.Response:
    """Stop an analysis; one that has ended stays as it is."""
    found = await visible_job(call)
    record = await call.services.jobs.cancel(found.job_id)
    if record is None:
        raise unknown_job()
    return reply(JobItem(**_fields(call, record)))


@ROUTES.on("DELETE", _ONE, status=204, errors=("not_found", "store_away"), audit="file_deleted")
async def delete(call: Call) -> web.Response:
    """Stop an analysis, and delete it with its result."""
    record = await visible_job(call)
    if not await call.services.jobs.delete(record.job_id):
        raise unknown_job()
    return web.Response(status=204)


def _metadata(call: Call, fields: dict[str, str]) -> dict[str, str]:
    """Take the fields ``meta.NAME`` out of a form; what is not to be kept as it is, hashed."""
    names = [name for name in fields if name.startswith(_META)]
    metadata = {name.removeprefix(_META): fields.pop(name) for name in names}
    if len(metadata) > MAX_METADATA_ENTRIES or not all(
        name and len(name) <= MAX_TEXT_LENGTH >= len(value) for name, value in metadata.items()
    ):
        raise ApiError(
            "bad_request",
            f"got metadata beyond the limits, expected {MAX_METADATA_ENTRIES} entries of 1 to"
            f" {MAX_TEXT_LENGTH} characters at most",
        )
    rights = call.services.backend.rights
    hidden = () if rights is None else rights.config.pseudonymised_metadata
    return {
        name: rights.hashed(value) if rights is not None and name in hidden else value
        for name, value in metadata.items()
    }


def _check_ready(call: Call) -> None:
    if not call.services.backend.models().is_ready:
        raise ApiError("not_ready", "the model is still being loaded", retry_after_s=_POLL_S)


_AS_KEPT = (
    *("job_id", "name", "state", "size_bytes"),
    *("created_at", "started_at", "finished_at", "duration_s"),
)


def _fields(call: Call, record: JobRecord) -> dict[str, Any]:
    error = error_of(record)
    summary = record.summary
    return {
        **{name: getattr(record, name) for name in _AS_KEPT},
        "granularity": record.options.get("granularity", "utterance"),
        "options": msgspec.convert(record.options, type=Options),
        "progress": round(record.progress, 3),
        "before": call.services.jobs.before(record.job_id),
        "error": None if error is None else error.body,
        "summary": None if summary is None else _summary(summary),
    }


def _summary(kept: dict[str, Any]) -> JobSummary:
    """Return the summary of a result; of one that an earlier version kept, what is still valid."""
    try:
        return msgspec.convert(kept, type=JobSummary)
    except msgspec.ValidationError:
        return JobSummary(warnings=[str(code) for code in kept.get("warnings", ())])


def _accepted(records: list[JobRecord]) -> web.Response:
    refs = [JobRef(job_id=record.job_id, name=record.name) for record in records]
    return reply(Accepted(job_id=refs[0].job_id, jobs=refs), status=202)


ROUTES += results.ROUTES
