"""Files of a multipart form, written to the disk as they arrive, up to a limit."""

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
from stream_server.at_rest import Keys, Sealer

_CHUNK_BYTES = 1 << 18
_WRITE_BYTES = 1 << 20
# Longest wait for more of a file: a stalled upload takes a place from others.
_STALLED_S = 30.0
_MAX_FIELDS = 32
_MAX_FILES = 100
_MAX_FIELD_NAME = 64
_MAX_FIELD_BYTES = 1024
_MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent; ``name`` is the client's, for display only."""

    place: Place
    name: str


@dataclass(frozen=True, slots=True)
class Form:
    """A form: its files, at least one, in their order, and its other fields."""

    files: tuple[Upload, ...]
    fields: dict[str, str]


@contextlib.asynccontextmanager
async def read_form(request: web.Request, jobs: Jobs, max_file_bytes: int) -> AsyncIterator[Form]:
    """Read a multipart form; on exit, files that no job took are deleted.

    Raises:
        ApiError: it is no such form, a file is empty or too big, or a limit is reached.
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
                    raise ApiError("bad_request", "the form contains another form, expected files")
                # RFC 7578, 4.2: a file's part has a filename, a field's has none.
                if part.filename is None:
                    if len(fields) == _MAX_FIELDS:
                        raise ApiError(
                            "bad_request", f"the form has more than {_MAX_FIELDS} fields"
                        )
                    fields[str(part.name)[:_MAX_FIELD_NAME]] = await _field(part)
                    continue
                if len(files) == _MAX_FILES:
                    raise ApiError(
                        "bad_request",
                        f"the form has more than {_MAX_FILES} files, expected several forms",
                    )
                place = places.enter_context(jobs.place())
                await _save(part, place, max_file_bytes, jobs.keys)
                files.append(Upload(place, clean_name(part.filename)))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ApiError("no_room", "the server's disk is full", retry_after_s=60.0) from error
        # What aiohttp's parser raises at bad boundaries, charsets and transfer encodings.
        except (ValueError, LookupError, RuntimeError) as error:
            raise ApiError("bad_request", "the form is damaged") from error
        if not files:
            raise ApiError("bad_request", "the form has no file, expected one or more")
        yield Form(tuple(files), fields)


async def _field(part: BodyPartReader) -> str:
    data = b""
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        data += chunk
        if len(data) > _MAX_FIELD_BYTES:
            raise ApiError("bad_request", "a field is too long, expected a word")
    return data.decode("utf-8", errors="replace")


async def _save(part: BodyPartReader, place: Place, max_bytes: int, keys: Keys | None) -> None:
    # read_chunk does not decompress: it would be saved as it was sent.
    if part.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise ApiError("bad_request", "a part of the form is compressed, expected the file itself")
    waiting = bytearray()
    # "x": a name that exists belongs to another job.
    with place.path.open("x+b") as file, contextlib.closing(Sealer(file, keys)) as sealed:
        while chunk := await _more(part):
            if place.num_bytes + len(chunk) > max_bytes:
                raise ApiError(
                    "file_too_big",
                    f"the file is larger than {max_bytes >> 20} MiB, expected at most that",
                )
            place.grow(len(chunk))
            waiting += chunk
            # A trip to a thread for each piece would cost more than the write.
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(sealed.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(sealed.write, bytes(waiting))
    if not place.num_bytes:
        raise ApiError("bad_request", "the file is empty, expected audio")


async def _more(part: BodyPartReader) -> bytes:
    try:
        async with asyncio.timeout(_STALLED_S):
            return await part.read_chunk(_CHUNK_BYTES)
    except TimeoutError:
        raise ApiError("bad_request", f"the upload stalled for {_STALLED_S:.0f} s") from None


def clean_name(name: str) -> str:
    """Return the last part of a file's name, without invisible characters."""
    # A browser on Windows may send a path with backslashes.
    last = PureWindowsPath(PurePosixPath(name).name).name
    shown = "".join(
        character for character in last if unicodedata.category(character)[0] != "C"
    ).strip()
    return shown[:_MAX_NAME] if shown.strip(".") else "recording"
