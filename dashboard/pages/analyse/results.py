"""Results of files, sent from disk piece by piece."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
from aiohttp import hdrs, web
from multidict import istr

from dashboard.api.labels import (
    GivenLabels,
    Labels,
    NamedSpeaker,
    checked_name,
    checked_spans,
    labels_view,
)
from dashboard.api.routes import (
    ANNOTATION_FORMAT,
    REPORT_LANGUAGE,
    Call,
    Param,
    Routes,
    reply,
    send_audio,
)
from dashboard.errors import API_ERRORS, ApiError
from dashboard.report import report_of_file
from dashboard.report.page import report_page
from dashboard.results import demo_chunks, read_view, write_parquet, zip_chunks
from ser_engine.files.annotations import (
    SUFFIXES,
    AnnotationFormat,
    Interval,
    SpeakerNames,
    Tier,
    annotation_text,
    tiers_of_result,
)
from ser_engine.files.tables import as_cell, frames_between
from ser_engine.schema import ChannelResult, FileResult, Frames
from stream_server.access.policy import Scope
from stream_server.at_rest import open_file
from stream_server.store import JobRecord

_POLL_S = 1.0
_ONE = "/analyse/{job_id}"
_COPY_BYTES = 1 << 18
AUDIO = "audio.flac"
MAX_FRAMES = 3000
"""Frames of one answer: more than any screen has columns."""
_CHANNEL = Param("channel", "integer", "only this one, from 0", None, 0, 31)


def error_of(record: JobRecord) -> ApiError | None:
    """Return why a job failed, None if it has not."""
    if record.state != "failed":
        return None
    # The row may have been written by a later version with codes of its own.
    code = record.error_code if record.error_code in API_ERRORS else "failed"
    return ApiError(code or "failed", record.error or "the analysis broke off")


def unknown_job() -> ApiError:
    """Return the answer for a job that does not exist."""
    return ApiError("not_found", "job not found")


async def visible_job(call: Call) -> JobRecord:
    """Return the job that the path names.

    Raises:
        ApiError: it is unknown or another team's; both get the same answer.
    """
    record = await call.services.jobs.get(call.part("job_id"))
    if record is None or not call.who.sees(record.team):
        raise unknown_job()
    return record


def old_result() -> ApiError:
    """Return the answer for a result that an earlier version of the server wrote."""
    return ApiError(
        "not_found",
        "this result was written by an earlier version, in another form; analyse the file again",
    )


_ERRORS = (
    *("not_found", "not_finished", "was_cancelled", "bad_audio", "file_lost"),
    *("too_many_attempts", "no_room", "failed", "store_away"),
)
ROUTES = Routes()


@ROUTES.on(
    "GET",
    _ONE + "/result.json",
    params=(
        Param(
            "form",
            "string",
            "full; demo: an utterance or frames as the emotion2vec+ web demo has them",
            "full",
            choices=("full", "demo"),
        ),
        Param("scores", "boolean", "demo with the posteriors of all classes", False),
        Param("channel", "integer", "demo of this one only, from 0", None, 0, 31),
    ),
    response=FileResult,
    errors=_ERRORS,
    audit="file_exported",
)
async def send_json(call: Call) -> web.StreamResponse:
    """The whole result, every frame of it; or in the form of the emotion2vec+ web demo."""
    record, folder = await _done(call)
    query = call.query
    if query["form"] == "full":
        chunks = _file_chunks(folder / "result.json")
    else:
        if record.options.get("granularity") == "stream":
            raise ApiError(
                "not_found", "got form 'demo' of a stream, expected an utterance or frames"
            )
        analysed = _analysed(record)
        channel = _checked(query["channel"], analysed)
        chunks = demo_chunks(
            folder / "result.csv",
            len(analysed),
            channel,
            is_frame=record.options.get("granularity") == "frame",
            scores=query["scores"],
        )
    return await _download(call, chunks, "application/json", _attachment(record, ".json"))


@ROUTES.on("GET", _ONE + "/result.csv", content="text/csv", errors=_ERRORS, audit="file_exported")
async def send_csv(call: Call) -> web.StreamResponse:
    """The result as a table, a column a class."""
    record, folder = await _done(call)
    chunks = _table_chunks(folder, record.speakers)
    return await _download(call, chunks, "text/csv; charset=utf-8", _attachment(record, ".csv"))


@ROUTES.on(
    "GET",
    _ONE + "/result.parquet",
    content="application/vnd.apache.parquet",
    errors=(*_ERRORS, "not_installed"),
    audit="file_exported",
)
async def send_parquet(call: Call) -> web.StreamResponse:
    """The same table as Parquet."""
    record, folder = await _done(call)
    out, table = folder / f".{id(call)}.parquet", folder / f".{id(call)}.csv"
    try:
        await asyncio.to_thread(_write_parquet, folder, record.speakers, table, out)
        kind, named = "application/vnd.apache.parquet", _attachment(record, ".parquet")
        return await _download(call, _file_chunks(out), kind, named)
    except FileNotFoundError:
        raise unknown_job() from None
    finally:
        out.unlink(missing_ok=True)
        table.unlink(missing_ok=True)


@ROUTES.on(
    "GET",
    _ONE + "/annotations",
    params=(ANNOTATION_FORMAT,),
    content="text/plain",
    errors=_ERRORS,
    audit="file_exported",
)
async def send_annotations(call: Call) -> web.Response:
    """Segments or an utterance's pieces for Praat, ELAN or Audacity, a tier a channel."""
    record, folder = await _done(call)
    kind: AnnotationFormat = call.query["format"]
    people, called = _tiers_of_people(record), record.speakers or {}
    text = await asyncio.to_thread(_annotations, folder, kind, people, called)
    return web.Response(text=text, headers=_attachment(record, SUFFIXES[kind]))


@ROUTES.on("GET", _ONE + "/labels", response=Labels, errors=_ERRORS, audit="file")
async def labels(call: Call) -> web.Response:
    """What people hear in a file, and how far they agree with the model."""
    record, folder = await _done(call)
    result = await asyncio.to_thread(_read, folder)
    return reply(labels_view(_tiers_of_people(record), _tiers_of_model(result)))


@ROUTES.on(
    "PUT",
    _ONE + "/labels/{channel}",
    body=GivenLabels,
    status=204,
    errors=_ERRORS,
    needs=Scope.OPERATE,
    audit="file_labelled",
)
async def put_labels(call: Call) -> web.Response:
    """Say what one hears in a channel; replaces what the same person said before."""
    record, folder = await _done(call)
    result = await asyncio.to_thread(_read, folder)
    channel = _channel(result, call).channel
    spans = checked_spans(call.body.labels, [label.name for label in result.labels])
    said = [(each.start_s, each.end_s, each.label) for each in spans]
    if not await call.services.jobs.label(record.job_id, call.asker, channel, said):
        raise unknown_job()
    return web.Response(status=204)


@ROUTES.on(
    "PUT",
    _ONE + "/speakers/{channel}",
    body=NamedSpeaker,
    status=204,
    errors=_ERRORS,
    needs=Scope.OPERATE,
    audit="speaker_called",
)
async def name_speaker(call: Call) -> web.Response:
    """Say what a speaker of a channel is called, on pages, in tables and annotations."""
    record, folder = await _done(call)
    channel = _channel(await asyncio.to_thread(_read, folder), call)
    named = checked_name(call.body)
    if named.speaker not in {speaker.name for speaker in channel.speakers}:
        raise ApiError("not_found", "the channel has no such speaker")
    jobs = call.services.jobs
    if not await jobs.name_speaker(record.job_id, channel.channel, named.speaker, named.name):
        raise unknown_job()
    return web.Response(status=204)


def _channel(result: FileResult, call: Call) -> ChannelResult:
    for channel in result.channels:
        if str(channel.channel) == call.part("channel"):
            return channel
    raise ApiError("not_found", "the result has no such channel")


@ROUTES.on(
    "GET",
    _ONE + "/report.html",
    params=(REPORT_LANGUAGE,),
    content="text/html",
    errors=_ERRORS,
    audit="file_exported",
)
async def send_report(call: Call) -> web.Response:
    """The result on one page, self-contained: timeline, wholes, measures, limits."""
    record, folder = await _done(call)
    text = await asyncio.to_thread(_report, folder, call.query["lang"], record.speakers or {})
    named = _attachment(record, ".html")
    return web.Response(text=text, content_type="text/html", headers=named)


@ROUTES.on(
    "GET",
    _ONE + "/embedding.npy",
    params=(_CHANNEL,),
    content="application/octet-stream",
    errors=_ERRORS,
    audit="file_exported",
)
async def send_embedding(call: Call) -> web.StreamResponse:
    """What the network heard, float32.

    (dim,) of an utterance or stream, (frames, dim) of frames; of several channels one more axis
    in front, unless one is named.
    """
    record, folder = await _done(call)
    path = folder / "embedding.npy"
    if not await asyncio.to_thread(path.is_file):
        raise ApiError(
            "not_found",
            "got a result without embeddings, expected an utterance, or frames that were"
            " analysed with embeddings=true",
        )
    analysed = _analysed(record)
    channel = _checked(call.query["channel"], analysed)
    if channel is None or len(analysed) == 1:
        chunks = _file_chunks(path)
    else:
        chunks = _npy_chunks(path, analysed.index(channel))
    named = _attachment(record, ".npy")
    return await _download(call, chunks, "application/octet-stream", named)


@ROUTES.on("GET", _ONE + "/log.txt", content="text/plain", errors=_ERRORS, audit="file_exported")
async def send_log(call: Call) -> web.StreamResponse:
    """What was done, step by step."""
    record, folder = await _done(call)
    chunks, named = _file_chunks(folder / "log.txt"), _attachment(record, ".log.txt")
    return await _download(call, chunks, "text/plain; charset=utf-8", named)


@ROUTES.on(
    "GET",
    _ONE + "/frames",
    params=(
        Param("channel", "integer", "from 0; default: the first one", None, 0, 31),
        Param("from_s", "number", "leave out what ends before, s", 0.0, 0, 1e9),
        Param("to_s", "number", "leave out what begins after, s", None, 0, 1e9),
    ),
    response=Frames,
    errors=_ERRORS,
    audit="file",
)
async def send_frames(call: Call) -> web.Response:
    """Every frame of a part of a channel, 3000 at most."""
    record, folder = await _done(call)
    if record.options.get("granularity") != "frame":
        raise ApiError("not_found", "got no frames, expected a file analysed frame by frame")
    query, analysed = call.query, _analysed(record)
    channel = _checked(query["channel"], analysed)
    frames = await asyncio.to_thread(
        frames_between,
        folder / "result.csv",
        analysed[0] if channel is None else channel,
        query["from_s"],
        query["to_s"],
        MAX_FRAMES,
    )
    return reply(frames)


@ROUTES.on(
    "GET", _ONE + "/audio.flac", content="audio/flac", errors=_ERRORS, audit="recording_heard"
)
async def send_audio_file(call: Call) -> web.StreamResponse:
    """The audio, 16 kHz, if it is kept; takes Range."""
    _, folder = await _done(call)
    path = folder / AUDIO
    try:
        file = await asyncio.to_thread(open_file, path, call.services.backend.keys)
    except FileNotFoundError:
        raise ApiError(
            "not_found", "the audio is not kept; dashboard.analyse.keep_audio keeps it"
        ) from None
    return await send_audio(call.request, path, file)


@ROUTES.on(
    "GET", _ONE + "/result.zip", content="application/zip", errors=_ERRORS, audit="file_exported"
)
async def send_zip(call: Call) -> web.StreamResponse:
    """All files of the result."""
    record, folder = await _done(call)
    chunks = zip_chunks(folder, call.services.backend.keys)
    return await _download(call, chunks, "application/zip", _attachment(record, ".zip"))


async def _done(call: Call) -> tuple[JobRecord, Path]:
    record = await visible_job(call)
    error = error_of(record)
    if error is not None:
        raise error
    if record.state == "cancelled":
        raise ApiError("was_cancelled", "got a job that was cancelled, expected one that is done")
    folder = call.services.jobs.folder(record)
    if folder is not None and await asyncio.to_thread(read_view, folder) is None:
        raise old_result()
    if folder is None:
        raise ApiError(
            "not_finished",
            f"got a job that is {record.state}, expected one that is done",
            retry_after_s=_POLL_S,
        )
    return record, folder


def _annotations(
    folder: Path,
    kind: AnnotationFormat,
    people: Mapping[tuple[str, int], Tier],
    called: SpeakerNames,
) -> str:
    result = _read(folder)
    tiers = [
        *tiers_of_result(result, called),
        *(replace(tier, name=f"{who} {channel}") for (who, channel), tier in people.items()),
    ]
    return annotation_text(kind, tiers, result.duration_s)


def _report(folder: Path, language: str, called: SpeakerNames) -> str:
    return report_page(report_of_file(_read(folder), called), language)


def _read(folder: Path) -> FileResult:
    """Return a result, of whose frames it has a part only; segments and pieces are whole."""
    view = read_view(folder)
    assert view is not None, "_done has read it"
    return msgspec.json.decode(view, type=FileResult)


def _tiers_of_people(record: JobRecord) -> dict[tuple[str, int], Tier]:
    """Return what people hear, by who and channel."""
    return {
        (who, int(channel)): Tier(who, tuple(Interval(*span) for span in spans))
        for who, channels in (record.labels or {}).items()
        for channel, spans in channels.items()
    }


def _tiers_of_model(result: FileResult) -> dict[int, Tier]:
    """Return what the model says, by channel."""
    named = {tier.name: tier for tier in tiers_of_result(result)}
    return {one.channel: named[f"emotion {one.channel}"] for one in result.channels}


def _analysed(record: JobRecord) -> list[int]:
    """Return the indices of the channels that have results."""
    summary = record.summary or {}
    # Summaries of before do not say: all were analysed.
    numbers = summary.get("analysed") or range(len(summary.get("channels", ())))
    return [int(number) for number in numbers]


def _checked(channel: int | None, analysed: Sequence[int]) -> int | None:
    if channel is not None and channel not in analysed:
        allowed = ", ".join(map(str, analysed))
        raise ApiError("not_found", f"got channel {channel}, expected one of {allowed}")
    return channel


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_COPY_BYTES):
            yield data


def _table_chunks(folder: Path, called: SpeakerNames | None) -> Iterator[bytes]:
    """Yield the table of a result, with the names that people gave its speakers."""
    path = folder / "result.csv"
    if not called:
        yield from _file_chunks(path)
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        names, out = rows.fieldnames or (), io.StringIO(newline="")
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        for row in rows:
            if speaker := row.get("speaker"):
                row["speaker"] = as_cell(called.get(row["channel"], {}).get(speaker, speaker))
            writer.writerow(row)
            if out.tell() > _COPY_BYTES:
                yield out.getvalue().encode()
                out.seek(0)
                out.truncate()
        yield out.getvalue().encode()


def _write_parquet(folder: Path, called: SpeakerNames | None, table: Path, out: Path) -> None:
    if not called:
        write_parquet(folder / "result.csv", out)
        return
    with table.open("wb") as file:
        file.writelines(_table_chunks(folder, called))
    write_parquet(table, out)


def _npy_chunks(path: Path, channel: int) -> Iterator[bytes]:
    """Yield one channel of an array of several, as a file of its own."""
    array = np.load(path, mmap_mode="r")[channel]
    header = np.lib.format.header_data_from_array_1_0(array)
    yield _npy_header(header)
    flat = array.reshape(-1)
    for start in range(0, flat.size, _COPY_BYTES // 4):
        yield flat[start : start + _COPY_BYTES // 4].tobytes()


def _npy_header(header: dict[str, object]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


async def _download(
    call: Call, chunks: Iterator[bytes], content_type: str, named: Mapping[istr, str]
) -> web.StreamResponse:
    """Send what is read or made piece by piece; large results never are in memory as a whole."""
    try:
        chunk = await asyncio.to_thread(next, chunks, None)
    except FileNotFoundError:
        raise unknown_job() from None
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: content_type, **named})
    await response.prepare(call.request)
    while chunk is not None:
        if chunk:
            await response.write(chunk)
        chunk = await asyncio.to_thread(next, chunks, None)
    await response.write_eof()
    return response


def _attachment(record: JobRecord, suffix: str) -> dict[istr, str]:
    """Return the header that saves a result under the recording's name, whatever is in that."""
    stem = record.name.rpartition(".")[0] or record.name
    named = f"attachment; filename*=UTF-8''{quote(stem + suffix, safe='')}"
    return {hdrs.CONTENT_DISPOSITION: named}
