"""Consent, objection, oversight, and one person's data: docs/how-to/privacy.md."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated

import msgspec
from aiohttp import hdrs, web

from dashboard.api.routes import PAGE, STORED, Call, Param, Routes, csv_file, reply
from dashboard.backend import RightsBackend
from dashboard.errors import ApiError
from dashboard.live.tiles import StreamItem
from dashboard.results import FOLDER_FILES
from stream_server.access.policy import Scope
from stream_server.at_rest import Keys, open_file
from stream_server.rights import Halt
from stream_server.store import Decision, LedgerEntry
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import ConsentTold
from stream_server.wire.start import check_told

_LATEST_S = 1e11
_MAX_EXPORTED = 100_000
_MAX_AT_ONCE = 1000
_COPY_BYTES = 1 << 20

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class Oversight(msgspec.Struct, frozen=True, kw_only=True):
    """How the system is overseen.

    Attributes:
        halt: the last word of an overseer.
        overseers: their names.
        may_halt: whether who asks is one of them.
        require_consent, require_notice, notice_version, objection_key: the settings.
    """

    halt: Halt
    overseers: tuple[str, ...]
    may_halt: bool
    require_consent: bool
    require_notice: str
    notice_version: str
    objection_key: str


class HaltRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Halt all analysis, or let it go on."""

    halted: bool
    reason: Reason


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Why an alert is not to be acted on."""

    reason: Reason


class ConsentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the people in a live stream have said, or were told; None: nothing of that."""

    consent: str | None = None
    source: str | None = None
    notice_version: str | None = None
    notice_language: str | None = None
    notice_how: str | None = None


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Entries, newest first; ``more``: there are more beyond ``limit``."""

    entries: list[LedgerEntry]
    more: bool


class Decisions(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions, newest first; ``more``: there are more beyond ``limit``."""

    decisions: list[Decision]
    more: bool


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Streams to delete."""

    stream_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=_MAX_AT_ONCE)]


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted.

    Attributes:
        deleted: how many streams.
        live: those that were not, because they are live.
        unknown: those that there are not, or that belong to other teams.
    """

    deleted: int
    live: list[str]
    unknown: list[str]


class PersonRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who is looked for.

    Attributes:
        value: of some metadata, as the person or their telephone tells it.
        name: of the metadata; "": any.
    """

    value: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    name: Annotated[str, msgspec.Meta(max_length=256)] = ""


class PersonFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was analysed."""

    job_id: str
    name: str
    created_at: float


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a person."""

    streams: list[StreamItem]
    files: list[PersonFile]


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased.

    Attributes:
        streams, files: how many.
        is_complete: False: it is still in the database's files, until ``emotion-monitor person
            purge`` has run. With SQLite that is so if others read it all the time, so that its log
            could not be emptied; with PostgreSQL always.
    """

    streams: int
    files: int
    is_complete: bool


def _rights(call: Call) -> RightsBackend:
    rights = call.services.backend.rights
    if rights is None:
        raise ApiError("not_found", "this server has no streams of its own")
    return rights


def _is_overseer(call: Call) -> bool:
    who = call.who
    is_named = who.kind == "user" and who.name in _rights(call).config.overseers
    return is_named or who.may(Scope.ADMIN)


def _check_overseer(call: Call) -> None:
    if not _is_overseer(call):
        raise ApiError(
            "forbidden",
            "only an admin and the people in the setting rights.overseers may do this",
        )


_TIMES = (
    Param("since", "number", "made at or after, s since 1970, UTC", None, 0, _LATEST_S),
    Param("until", "number", "made before, s since 1970, UTC", None, 0, _LATEST_S),
)
ROUTES = Routes()


@ROUTES.on("GET", "/oversight", response=Oversight)
async def show(call: Call) -> web.Response:
    """Whether all analysis is halted, and the policy of consent and notice."""
    rights = _rights(call)
    config = rights.config
    return reply(
        Oversight(
            halt=rights.halt(),
            overseers=config.overseers,
            may_halt=_is_overseer(call),
            require_consent=config.require_consent,
            require_notice=config.require_notice,
            notice_version=config.notice_version,
            objection_key=config.objection_key,
        )
    )


@ROUTES.on(
    "POST",
    "/oversight",
    body=HaltRequest,
    response=Oversight,
    errors=("forbidden", "store_away"),
    needs=Scope.OPERATE,
)
async def halt(call: Call) -> web.Response:
    """Halt all analysis, or let it go on; for overseers and admins."""
    _check_overseer(call)
    asked: HaltRequest = call.body
    word = Halt(halted=asked.halted, at=time.time(), by=call.asker, reason=asked.reason)
    # Before it is kept, and so also while the database is away: it holds.
    await _rights(call).set_halt(word)
    call.note("analysis_halted" if asked.halted else "analysis_resumed", detail=asked.reason)
    return await show(call)


@ROUTES.on(
    "POST",
    "/alerts/{alert_id}/override",
    body=Override,
    status=204,
    errors=("not_found", "forbidden", *STORED),
    audit="alert_overridden",
)
async def override(call: Call) -> web.Response:
    """Say that an alert is not to be acted on, and why; for overseers and admins."""
    alert_id, store = call.part("alert_id"), call.services.store
    await store.flush()
    place = await store.alert_place(alert_id)
    if place is None or not call.who.sees(place[1]):
        raise ApiError("not_found", "alert not found")
    _check_overseer(call)
    await store.acknowledge(alert_id, call.body.reason, who=call.asker, overridden=True)
    call.services.acknowledged(alert_id)
    return web.Response(status=204)


@ROUTES.on(
    "GET",
    "/ledger",
    params=(
        Param("stream", "string", "only of this stream"),
        Param("since", "number", "told at or after, s since 1970, UTC", None, 0, _LATEST_S),
        *PAGE,
    ),
    response=Ledger,
    errors=STORED,
    audit="ledger_read",
)
async def list_ledger(call: Call) -> web.Response:
    """When, how and in which version notice was given, and what was said of consent."""
    limit = call.query["limit"]
    entries = await call.services.store.ledger(
        stream_id=call.query["stream"] or "",
        since=call.query["since"],
        teams=call.who.visible_teams,
        limit=limit + 1,
        offset=call.query["offset"],
    )
    return reply(Ledger(entries=entries[:limit], more=len(entries) > limit))


@ROUTES.on(
    "GET",
    "/decisions",
    params=(*_TIMES, *PAGE),
    response=Decisions,
    errors=STORED,
    audit="decisions_read",
)
async def list_decisions(call: Call) -> web.Response:
    """What rules and people decided: alerts, acknowledgements, overrides."""
    limit = call.query["limit"]
    found = await call.services.store.decisions(
        **{**call.query, "limit": limit + 1}, teams=call.who.visible_teams
    )
    return reply(Decisions(decisions=found[:limit], more=len(found) > limit))


@ROUTES.on(
    "GET",
    "/decisions.csv",
    params=_TIMES,
    content="text/csv",
    errors=STORED,
    audit="decisions_exported",
)
async def export_decisions(call: Call) -> web.Response:
    """The same as a table, 100 000 at most."""
    found = await call.services.store.decisions(
        **call.query, teams=call.who.visible_teams, limit=_MAX_EXPORTED
    )
    rows = (
        [" ".join(v) if isinstance(v, tuple) else v for v in msgspec.structs.astuple(one)]
        for one in found
    )
    return csv_file("decisions.csv", [Decision.__struct_fields__, *rows])


@ROUTES.on(
    "POST",
    "/streams/{stream_id}/consent",
    body=ConsentRequest,
    status=204,
    errors=("not_found", "stream_has_ended", "store_away"),
    audit="consent_told",
)
async def consent(call: Call) -> web.Response:
    """Say what the people in a live stream agreed to or were told."""
    stream_id = call.part("stream_id")
    await call.stream(stream_id)
    told = ConsentTold(**msgspec.structs.asdict(call.body))
    if told.source is None and told.consent is not None:
        told = msgspec.structs.replace(told, source=f"api:{call.asker}"[:256])
    try:
        check_told(told)
    except ProtocolError as error:
        raise ApiError("bad_request", str(error)) from None
    if not _rights(call).tell(stream_id, told):
        raise ApiError("stream_has_ended", "the stream has ended")
    return web.Response(status=204)


@ROUTES.on(
    "POST",
    "/streams/{stream_id}/objection",
    status=204,
    errors=("not_found", "store_away"),
    audit="objection",
)
async def objection(call: Call) -> web.Response:
    """End a stream because somebody in it objects, and erase what was kept of it."""
    stream_id, rights = call.part("stream_id"), _rights(call)
    await call.stream(stream_id)
    await rights.object(stream_id)
    return web.Response(status=204)


@ROUTES.on("POST", "/streams/delete", body=DeleteRequest, response=Deleted, errors=STORED)
async def delete_streams(call: Call) -> web.Response:
    """Delete streams that have ended, with their results and audio."""
    num_deleted, live, unknown = 0, [], []
    rights, listing = _rights(call), call.services.listing
    for stream_id in call.body.stream_ids:
        item = await listing.one(stream_id, call.who)
        if item is None:
            unknown.append(stream_id)
        elif item.live:
            live.append(stream_id)
        else:
            await rights.erase_stream(stream_id)
            call.note("stream_deleted", target=stream_id)
            num_deleted += 1
    await rights.purge()
    return reply(Deleted(deleted=num_deleted, live=live, unknown=unknown))


async def _find(call: Call) -> tuple[list[str], list[str]]:
    asked: PersonRequest = call.body
    values = (asked.value.strip(), _rights(call).hashed(asked.value))
    return await call.services.store.find_person(values, asked.name)


@ROUTES.on(
    "POST", "/person/find", body=PersonRequest, response=Person, errors=STORED, needs=Scope.ADMIN
)
async def find_person(call: Call) -> web.Response:
    """What is kept of one person, found by metadata."""
    stream_ids, job_ids = await _find(call)
    items = [await call.services.listing.one(each, call.who) for each in stream_ids]
    records = [await call.services.jobs.get(each) for each in job_ids]
    files = [
        PersonFile(job_id=one.job_id, name=one.name, created_at=one.created_at)
        for one in records
        if one is not None
    ]
    call.note("person_found", detail=f"{len(stream_ids)} streams, {len(files)} files")
    return reply(Person(streams=[one for one in items if one is not None], files=files))


@ROUTES.on(
    "POST", "/person/erase", body=PersonRequest, response=Erased, errors=STORED, needs=Scope.ADMIN
)
async def erase_person(call: Call) -> web.Response:
    """Erase it; live streams end. What is erased is gone from the database's files, too."""
    rights, jobs = _rights(call), call.services.jobs
    stream_ids, job_ids = await _find(call)
    for stream_id in stream_ids:
        if not await rights.object(stream_id):
            await rights.erase_stream(stream_id)
    num_files = 0
    for job_id in job_ids:
        num_files += await jobs.delete(job_id)
    is_complete = await rights.purge()
    # Never who it was: that would be kept for a year.
    call.note("person_erased", detail=f"{len(stream_ids)} streams, {num_files} files")
    return reply(Erased(streams=len(stream_ids), files=num_files, is_complete=is_complete))


@ROUTES.on(
    "POST",
    "/person/export",
    body=PersonRequest,
    content="application/zip",
    errors=STORED,
    needs=Scope.ADMIN,
)
async def export_person(call: Call) -> web.StreamResponse:
    """The same as a ZIP file: results, recordings, the ledger."""
    stream_ids, job_ids = await _find(call)
    named = {hdrs.CONTENT_DISPOSITION: 'attachment; filename="person.zip"'}
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for stream_id in stream_ids:
                await _export_stream(call, archive, stream_id)
            for job_id in job_ids:
                await _export_job(call, archive, job_id)
        call.note("person_exported", detail=f"{len(stream_ids)} streams, {len(job_ids)} files")
        size = file.tell()
        file.seek(0)
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/zip", **named})
        response.content_length = size
        await response.prepare(call.request)
        async for chunk in _chunks(file):
            await response.write(chunk)
    await response.write_eof()
    return response


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while data := await asyncio.to_thread(file.read, _COPY_BYTES):
        yield data


async def _export_stream(call: Call, archive: zipfile.ZipFile, stream_id: str) -> None:
    store, recordings = call.services.store, call.services.backend.recordings
    results = [one async for page in store.pages(stream_id) for one in page]
    ledger = await store.ledger(stream_id=stream_id, limit=1000)
    document = {
        "stream_id": stream_id,
        "results": results,
        "labels": await store.annotations(stream_id),
        "ledger": ledger,
    }
    archive.writestr(f"streams/{stream_id}/results.json", msgspec.json.encode(document))
    if recordings is not None:
        for path in await asyncio.to_thread(recordings.files, stream_id):
            data = await asyncio.to_thread(recordings.read, path)
            archive.writestr(f"streams/{stream_id}/{path.name}", data)


def _clear(path: Path, keys: Keys | None) -> bytes:
    with contextlib.closing(open_file(path, keys)) as file:
        return file.pread(file.size, 0)


async def _export_job(call: Call, archive: zipfile.ZipFile, job_id: str) -> None:
    record = await call.services.jobs.get(job_id)
    folder = None if record is None else call.services.jobs.folder(record)
    if record is None or folder is None:
        return
    archive.writestr(f"files/{job_id}/about.json", msgspec.json.encode(record))
    for name in FOLDER_FILES:
        path: Path = folder / name
        if await asyncio.to_thread(path.is_file):
            data = await asyncio.to_thread(_clear, path, call.services.backend.keys)
            archive.writestr(f"files/{job_id}/{name}", data)
