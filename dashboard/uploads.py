"""Reading files out of a form, straight onto the disk, up to a limit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from aiohttp import BodyPartReader, MultipartReader, hdrs, web

from dashboard.errors import ApiError
from dashboard.jobs import Jobs, Place

__all__ = ["Form", "Upload", "clean_name", "read_form"]

_CHUNK_BYTES = 1 << 18
_WRITE_BYTES = 1 << 20
_STALLED_S = 30.0
"""Longest wait for more of a file: an upload that stalls holds a place others wait for."""
_MAX_FIELDS = 32
_MAX_FILES = 100
_MAX_FIELD_BYTES = 64
_MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent.

    Attributes:
        place: where it is, under a name of this server's own.
        name: what its owner calls it, for showing only.
    """

    place: Place
    name: str


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent.

    Attributes:
        files: in their order; at least one.
        fields: the other fields.
    """

    files: tuple[Upload, ...]
    fields: dict[str, str]


@contextlib.asynccontextmanager
async def read_form(request: web.Request, jobs: Jobs, max_file_bytes: int) -> AsyncIterator[Form]:
    """Read a multipart form; files that no job took by the end are deleted.

    Args:
        request: whose body it is.
        jobs: gives each file its place.
        max_file_bytes: of one file.

    Raises:
        ApiError: it is no such form, a file is empty or too big, or there is no place for it.
    """
    if not request.content_type.startswith("multipart/form-data"):
        raise ApiError(
            "bad_request",
            f"got a body of type {request.content_type[:60]}, expected multipart/form-data",
        )
    files: list[Upload] = []
    fields: dict[str, str] = {}
    with contextlib.ExitStack() as places:
        try:
            reader = MultipartReader(request.headers, request.content)
            async for part in reader:
                if not isinstance(part, BodyPartReader):
                    raise ApiError("bad_request", "got a form within a form, expected files")
                if part.filename is None:
                    if len(fields) == _MAX_FIELDS:
                        raise ApiError("bad_request", f"got more than {_MAX_FIELDS} fields")
                    fields[str(part.name)[:_MAX_FIELD_BYTES]] = await _field(part)
                    continue
                if len(files) == _MAX_FILES:
                    raise ApiError(
                        "bad_request", f"got more than {_MAX_FILES} files, expected several forms"
                    )
                place = places.enter_context(jobs.place())
                await _save(part, place, max_file_bytes)
                files.append(Upload(place, clean_name(part.filename)))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ApiError(
                "no_room", "got a file that the server's disk has no room for", retry_after_s=60.0
            ) from error
        except (ValueError, LookupError, RuntimeError) as error:
            raise ApiError("bad_request", "got a form that is damaged") from error
        if not files:
            raise ApiError("bad_request", "got a form without a file, expected one or more")
        yield Form(tuple(files), fields)


async def _field(part: BodyPartReader) -> str:
    data = b""
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        data += chunk
        if len(data) > _MAX_FIELD_BYTES:
            raise ApiError("bad_request", "got a long field, expected a word")
    return data.decode("utf-8", errors="replace")


async def _save(part: BodyPartReader, place: Place, max_bytes: int) -> None:
    if part.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise ApiError("bad_request", "got a compressed part of a form, expected the file itself")
    waiting = bytearray()
    with place.path.open("xb") as file:
        while chunk := await _more(part):
            if place.num_bytes + len(chunk) > max_bytes:
                raise ApiError(
                    "file_too_big",
                    f"got a file of more than {max_bytes >> 20} MiB, expected a smaller one",
                )
            place.grow(len(chunk))
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))
    if not place.num_bytes:
        raise ApiError("bad_request", "got an empty file, expected audio")


async def _more(part: BodyPartReader) -> bytes:
    try:
        async with asyncio.timeout(_STALLED_S):
            return await part.read_chunk(_CHUNK_BYTES)
    except TimeoutError:
        raise ApiError(
            "bad_request", f"got no more of the file for {_STALLED_S:.0f} s, expected it to go on"
        ) from None


def clean_name(name: str) -> str:
    """Return the last part of a file's name, as it can be shown: no paths, nothing invisible."""
    last = PureWindowsPath(PurePosixPath(name).name).name
    shown = "".join(
        character for character in last if unicodedata.category(character)[0] != "C"
    ).strip()
    return shown[:_MAX_NAME] if shown.strip(".") else "recording"
