"""The way in of Deepgram's clients: ``/v1/listen``."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from functools import partial

import msgspec

from stream_server.access import Access
from stream_server.platforms.deepgram.dialect import DeepgramDialect
from stream_server.platforms.deepgram.messages import close_frame, http_error_code, remedy_of
from stream_server.platforms.deepgram.query import ListenQuery
from stream_server.platforms.route import Admission, Handshake, Refusal
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

_PATH = "/v1/listen"
_TOKEN_PROTOCOLS = ("token", "bearer")
"""Browsers can set no header, so they ask for these subprotocols and the key as another."""


class DeepgramEntrance:
    """See :class:`~stream_server.platforms.route.Entrance`.

    Args:
        access: who may connect.
        check_capacity: takes a token's name; raises ProtocolError where there is no room for a
            stream of it.
        roles: of a call's two sides, for clients that name none.
        now: seconds since 1970.
    """

    subprotocols: tuple[str, ...] = _TOKEN_PROTOCOLS

    def __init__(
        self,
        access: Access,
        check_capacity: Callable[[str], None],
        roles: tuple[str, str],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._check_capacity = check_capacity
        self._roles = roles
        self._now = now

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in that proves who it is: by header, subprotocol or query."""
        if handshake.path != _PATH:
            raise ProtocolError(
                ErrorCode.UNKNOWN_PATH,
                f"got the path {shown(handshake.path)}, expected '{_PATH}'",
            )
        given = handshake.header_token or _subprotocol_token(handshake)
        query: ListenQuery | ProtocolError
        try:
            query = ListenQuery.of(handshake.query_pairs)
        except ProtocolError as error:
            query = error
        if not given:
            given = dict(handshake.query_pairs).get("token")
        # Whether a query is right is nobody's business who may not connect.
        token = given or handshake.cookie_token
        name = self._access.authorize_client(token, handshake.peer, handshake.host) or ""
        if isinstance(query, ProtocolError):
            raise query
        request_id = str(uuid.uuid4())
        dialect = DeepgramDialect(query, self._roles, request_id, self._now())
        self._check_capacity(name)
        return Admission(
            dialect,
            partial(_already_known, name),
            headers={"dg-request-id": request_id},
            close_frame=close_frame,
            is_known=True,
        )

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the error in Deepgram's form."""
        told = f"{error}. {remedy_of(error.code, error.kind.remedy)}"
        request_id = str(uuid.uuid4())
        status = error.kind.http_status
        body = {"err_code": http_error_code(status), "err_msg": told, "request_id": request_id}
        headers = {
            "Content-Type": "application/json",
            # A header takes one line of ASCII.
            "dg-error": told.encode("ascii", "backslashreplace").decode(),
            "dg-request-id": request_id,
        }
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after_s))
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


def _already_known(name: str, first: str) -> str:
    return name
