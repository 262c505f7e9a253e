"""The errors of the JSON interface, in the form of all errors of the server."""

from __future__ import annotations

import math

import msgspec
from aiohttp import hdrs, web

from stream_server.wire.messages import Error

# HTTP status and remedy of each code. 422 (RFC 9110, 15.5.21): the request is right, the recording
# in it is not. 410 (15.5.11): it was here, and will not come back. 503 (15.6.4): later it may work.
API_ERRORS: dict[str, tuple[int, str]] = {
    "bad_request": (400, "Correct the request; docs/reference/api.md has every parameter."),
    "bad_audio": (422, "Give a WAV, FLAC, Ogg (Vorbis, Opus) or MP3 file with speech in it."),
    "forbidden": (403, "Ask an admin for a role or a token that may do this."),
    "not_found": (404, "Check the id; it may have expired or been deleted."),
    "method_not_allowed": (405, "Use a method docs/reference/api.md has for this path."),
    "stream_has_ended": (409, "Nothing more comes of it; delete it if it has to go."),
    "stream_is_live": (409, "Stop the stream first."),
    "not_finished": (409, "Try again when the job's state is 'done'."),
    "was_cancelled": (409, "Send the file again."),
    "file_lost": (410, "Send the file again."),
    "no_store": (409, "Set stream_server.store.url to keep timelines."),
    "file_too_big": (413, "Give a smaller file, or raise dashboard.analyse.max_file_mb."),
    "too_many_jobs": (
        503,
        "Try again when a file is done; see max_waiting and max_waiting_mb in dashboard.analyse.",
    ),
    "too_many_attempts": (
        422,
        "Convert the file, e.g. with ffmpeg -i FILE out.wav, and send that.",
    ),
    "no_room": (503, "Free space on the server's disk, or lower dashboard.analyse.max_kept_mb."),
    "not_installed": (501, "Install what the message names on the server."),
    "too_many_viewers": (503, "Close a page, or raise the setting dashboard.max_viewers."),
    "too_many_sample_calls": (503, "Wait until a sample call has ended."),
    "store_away": (503, "Try again in a moment; /readyz says when the store answers."),
    "not_ready": (503, "Try again when /readyz says so; the model is being loaded."),
    "failed": (500, "Try again; the server's log says what went wrong."),
}


class ApiError(Exception):
    """An error that is answered to the client.

    Args:
        code: one of :data:`API_ERRORS`, which has its status and remedy.
        message: what was got, and what is allowed.
        retry_after_s: when to try again, if known.
    """

    def __init__(self, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status, self.remedy = API_ERRORS[code]
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> Error:
        """The JSON of it."""
        return Error(
            code=self.code,
            message=str(self),
            remedy=self.remedy,
            retry_after_s=self.retry_after_s,
        )

    def response(self) -> web.Response:
        """Return it as an HTTP response."""
        headers = {}
        if self.retry_after_s is not None:
            # RFC 9110, 10.2.3: whole seconds. Rounded up: who comes too early is refused again.
            headers[hdrs.RETRY_AFTER] = str(math.ceil(self.retry_after_s))
        return web.Response(
            body=msgspec.json.encode(self.body),
            status=self.status,
            content_type="application/json",
            headers=headers,
        )
