"""Deepgram's live transcription protocol, ``/v1/listen``, with emotions instead of words.

https://developers.deepgram.com/reference/speech-to-text/listen-streaming
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from stream_server.platforms.deepgram.dialect import DeepgramDialect
from stream_server.platforms.deepgram.messages import close_frame, http_error_code, remedy_of
from stream_server.platforms.deepgram.query import ListenQuery
from stream_server.platforms.platform import Platform, RouteContext, TelephonySettings
from stream_server.platforms.route import Admission, Handshake, Refusal, retry_after
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

_PATH = "/v1/listen"
_TOKEN_PROTOCOLS = ("token", "bearer")
"""Browsers can set no header, so they ask for these subprotocols and the key as another."""


@dataclass(frozen=True)
class DeepgramSettings(TelephonySettings):
    """Settings of clients of Deepgram."""

    deepgram_transcript: Literal["none", "label"] = "none"
    """``label``: put the emotion's label into the transcript, for clients of Deepgram that show
    nothing else."""


class DeepgramRoute:
    """See :class:`~stream_server.platforms.route.Route`."""

    subprotocols: tuple[str, ...] = _TOKEN_PROTOCOLS

    def __init__(
        self,
        settings: DeepgramSettings,
        context: RouteContext,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._access = context.access
        self._check_capacity = context.check_capacity
        self._settings = settings
        self._now = now

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in whose key is in a header, a subprotocol or the query."""
        # Some clients end a base URL with a slash, or begin the path with a second one.
        if "/" + handshake.path.strip("/") != _PATH:
            raise ProtocolError(
                ErrorCode.UNKNOWN_PATH,
                f"got the path {shown(handshake.path)}, expected '{_PATH}'",
            )
        given = handshake.header_token or _subprotocol_token(handshake)
        query: ListenQuery | ProtocolError
        try:
            query = ListenQuery.of(
                handshake.query_pairs, default_transcript=self._settings.deepgram_transcript
            )
        except ProtocolError as error:
            query = error
        if not given:
            given = dict(handshake.query_pairs).get("token")
        # The query is judged after the key: strangers must not learn what it may hold.
        who = handshake.admit(self._access, given, handshake.session)
        if isinstance(query, ProtocolError):
            raise query
        request_id = str(uuid.uuid4())
        dialect = DeepgramDialect(query, self._settings.roles, request_id, self._now())
        self._check_capacity(who.name)
        return Admission(
            dialect,
            lambda _: who,
            headers={"dg-request-id": request_id},
            close_frame=close_frame,
            is_known=True,
        )

    def refuse(self, error: ProtocolError) -> Refusal:
        text = f"{error}. {remedy_of(error.code, error.kind.remedy)}"
        request_id = str(uuid.uuid4())
        status = error.kind.http_status
        body = {"err_code": http_error_code(status), "err_msg": text, "request_id": request_id}
        headers = {
            "Content-Type": "application/json",
            # A header takes one line of ASCII.
            "dg-error": text.encode("ascii", "backslashreplace").decode(),
            "dg-request-id": request_id,
            **retry_after(error),
        }
        if error.code is ErrorCode.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Token"
        return Refusal(status, msgspec.json.encode(body).decode() + "\n", headers)


def _subprotocol_token(handshake: Handshake) -> str | None:
    """Return the key of ``Sec-WebSocket-Protocol: token, KEY``."""
    offered = handshake.headers.get("sec-websocket-protocol", "").split(",")
    names = [name.strip() for name in offered]
    if len(names) < 2 or names[0].lower() not in _TOKEN_PROTOCOLS:
        return None
    return names[1] or None


PLATFORM = Platform({"/v1": DeepgramRoute}, DeepgramSettings)
