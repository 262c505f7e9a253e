"""AudioCodes VoiceAI Connect, the streaming mode of its bot API, for agent assist.

https://techdocs.audiocodes.com/voice-ai-connect/Content/Bot-API/ac-bot-api-streaming.htm

Text messages with a ``type``. VoiceAI Connect takes the server for a bot, which has to answer what
begins and ends a session and its streams, and otherwise only listens: nothing is ever played. Where
it assists an agent, each participant has a stream of its own, named in every message of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stream_server.platforms.media_stream import (
    BOTH_TRACKS,
    INBOUND,
    OUTBOUND,
    TracksDialect,
    call_spec,
    key_mark,
    payload_of,
    queried_tracks,
    roles_of,
)
from stream_server.platforms.platform import (
    Platform,
    PlatformRoute,
    RouteContext,
    TelephonySettings,
)
from stream_server.platforms.route import Handshake, Route
from stream_server.tracks import TrackAligner
from stream_server.wire.audio_format import AudioFormat, Encoding, Linear16
from stream_server.wire.dialect import (
    Inbound,
    Say,
    json_field,
    parse_json_object,
    unexpected_message,
)
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Ready, ServerMessage, Stop
from stream_server.wire.start import StreamSpec

FORMATS: dict[str, tuple[Encoding, int]] = {
    "raw/lpcm16": ("pcm_s16le", 16_000),
    "raw/lpcm16_24": ("pcm_s16le", 24_000),
    "raw/lpcm16_8": ("pcm_s16le", 8_000),
    "raw/mulaw": ("mulaw", 8_000),
}
"""Those of AudioCodes that can be analysed, the best first: encoding and rate. ``wav/…`` have a
header in every chunk."""

CALLER = "caller"
"""The participant that is the customer; others, and one without a name, see :meth:`_track`."""


class AudioCodesDialect(TracksDialect):
    """One connection.

    Args:
        tracks: who is expected: ``inbound`` is the caller.
    """

    begins_with = "'session.initiate'"

    def __init__(
        self,
        *,
        roles: Sequence[str],
        tracks: Sequence[str] = BOTH_TRACKS,
        max_jitter_ms: int = 200,
    ) -> None:
        super().__init__(max_jitter_ms)
        self._roles = dict(zip(BOTH_TRACKS, roles, strict=True))
        self._tracks = tuple(tracks)
        self._media_format = ""
        self._linear16: dict[str, Linear16] = {}

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the answer to what began the session; results are not sent: there is no place."""
        if isinstance(message, Ready):
            return [_said("session.accepted", mediaFormat=self._media_format)]
        return []

    def _text(self, text: str | bytes) -> list[Inbound]:
        message = parse_json_object(text)
        kind = json_field(message, "type", str)
        match kind:
            case "connection.validate":
                return [Say((_said("connection.validated", success=True),))]
            case "session.initiate" | "session.resume":
                return [self._start(message)]
            case "session.end":
                return [*self.release(), Stop()]
            case "activities" | "userStream.start" | "userStream.chunk" | "userStream.stop":
                if self.start is None:
                    raise unexpected_message(f"got '{kind}' before 'session.initiate'")
        match kind:
            case "userStream.start":
                return [Say((_said("userStream.started", **_participant(message)),))]
            case "userStream.stop":
                return [Say((_said("userStream.stopped", **_participant(message)),))]
            case "userStream.chunk":
                return self._chunk(message)
            case "activities":
                return [
                    key_mark({"digit": each.get("value")})
                    for each in json_field(message, "activities", list)
                    if isinstance(each, dict) and str(each.get("name")).lower() == "dtmf"
                ]
        return []

    def _start(self, message: dict[str, Any]) -> StreamSpec:
        if self.start is not None:
            raise unexpected_message("stream already started: got a second session")
        # 'session.resume', after a lost connection, offers none.
        offered = message.get("supportedMediaFormats")
        offered = [*FORMATS][:1] if offered is None else offered
        if not isinstance(offered, list):
            offered = []
        named = next((name for name in FORMATS if name in offered), None)
        if named is None:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                "got none of the media formats that can be analysed, expected one of"
                f" {', '.join(FORMATS)}",
            )
        encoding, rate_hz = FORMATS[named]
        audio_format = AudioFormat(encoding, rate_hz, len(self._tracks))
        conversation = message.get("conversationId")
        call_id = conversation if isinstance(conversation, str) else ""
        spec = call_spec(
            audio_format,
            [self._roles[track] for track in self._tracks],
            call_id=call_id,
            # Neither the caller's number nor that which was called.
            details={
                "platform": "audiocodes",
                "conversationId": call_id,
                "botName": message.get("botName"),
            },
        )
        if encoding == "pcm_s16le":
            # Its byte order is not documented, so the first samples decide.
            self._linear16 = {track: Linear16("little") for track in self._tracks}
        self._media_format = named
        self._aligner = TrackAligner(audio_format, max_jitter_ms=self._max_jitter_ms)
        self.start = spec
        return spec

    def _chunk(self, message: dict[str, Any]) -> list[Inbound]:
        assert self.start is not None and self._aligner is not None
        track = self._track(message.get("participant"))
        payload = payload_of(message, "audioChunk", self.start.format.bytes_per_sample)
        if track not in self._tracks or not payload:
            return []
        if track in self._linear16:
            payload = self._linear16[track].decode(payload)
        return [*self._aligner.put(self._tracks.index(track), payload)]

    def _track(self, participant: object) -> str:
        # Without a name it is the only one: a bot's user.
        return INBOUND if participant in (None, "", CALLER) else OUTBOUND


def _participant(message: dict[str, Any]) -> dict[str, str]:
    participant = message.get("participant")
    return {"participant": participant} if isinstance(participant, str) else {}


def _said(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields})


def _route(settings: TelephonySettings, context: RouteContext) -> Route:
    def make_dialect(handshake: Handshake) -> AudioCodesDialect:
        return AudioCodesDialect(
            roles=roles_of(dict(handshake.query_pairs), settings.roles),
            tracks=queried_tracks(handshake) or BOTH_TRACKS,
            max_jitter_ms=settings.max_jitter_ms,
        )

    return PlatformRoute(context, make_dialect)


PLATFORM = Platform({"/audiocodes": _route}, TelephonySettings)
