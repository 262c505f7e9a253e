"""The way in of Genesys AudioHook: ``/audiohook``."""

from __future__ import annotations

import time

import structlog

from stream_server.access import SIGNED, Access, Who
from stream_server.logs import SparseLog
from stream_server.platforms.audiohook.dialect import AudioHookDialect
from stream_server.platforms.audiohook.messages import is_uuid
from stream_server.platforms.audiohook.signature import SignatureVerifier
from stream_server.platforms.route import Admission, Handshake, Refusal, json_refusal
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)


class AudioHookRoute:
    """See :class:`~stream_server.platforms.route.Route`.

    An unauthorized client is let into the WebSocket and refused when it opens the session: Genesys
    shows its operators that answer, but not one to the handshake.

    Args:
        verifier: of signatures; None: an access token, or none on loopback.
        event_interval_ms: audio between two events for Genesys; None: it is sent none.
    """

    subprotocols: tuple[str, ...] = ()

    def __init__(
        self,
        roles: tuple[str, str],
        access: Access,
        verifier: SignatureVerifier | None,
        event_interval_ms: int | None,
    ) -> None:
        self._roles = roles
        self._access = access
        self._refusals = SparseLog()
        self._verifier = verifier
        self._event_interval_ms = event_interval_ms

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in; what it may not do, the dialect refuses."""
        headers = handshake.headers
        who: Who | None = None
        try:
            who = self._authorize(handshake)
        except ProtocolError as error:
            # Anyone can cause refusals, so each reason is logged once in ten seconds.
            left_out = self._refusals.take(str(error))
            if left_out is not None:
                _log.warning("audiohook_unauthorized", reason=str(error), left_out=left_out)
        session_id = headers.get("audiohook-session-id", "")
        dialect = AudioHookDialect(
            roles=self._roles,
            # A header that is not a UUID would make every message of the session a mismatch.
            session_id=session_id if is_uuid(session_id) else "",
            organization_id=headers.get("audiohook-organization-id", ""),
            ids={
                "session_id": session_id,
                "correlation_id": headers.get("audiohook-correlation-id", ""),
            },
            is_authorized=who is not None,
            event_interval_ms=self._event_interval_ms,
        )
        return Admission(dialect, lambda _: _known(who), is_known=who is not None)

    def refuse(self, error: ProtocolError) -> Refusal:
        return json_refusal(error)

    def _authorize(self, handshake: Handshake) -> Who:
        headers = handshake.headers
        if self._verifier is not None:
            with self._access.signature(handshake.arrival(self._access)):
                self._verifier.check(headers, handshake.target, time.time())
            return SIGNED
        # The platform sends an API key with or without a client secret.
        token = handshake.header_token or handshake.path_token or headers.get("x-api-key")
        return handshake.admit(self._access, token)


def _known(who: Who | None) -> Who:
    if who is None:
        raise ProtocolError(ErrorCode.UNAUTHORIZED, "not authorized")
    return who
