"""Audio streaming of Azure Communication Services, through which Teams calls come, too.

https://learn.microsoft.com/azure/communication-services/how-tos/call-automation/audio-streaming-quickstart

Text messages with a ``kind``: ``AudioMetadata`` once, then ``AudioData`` of 20 ms each, 16-bit
little-endian samples in Base64; ``DtmfData`` for keys. A close ends the call. Streamed *mixed*, all
participants are in one signal. Streamed *unmixed*, each message names one. The metadata does not
say which of both it is, so the URL does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from stream_server.access import Access, Who
from stream_server.platforms.authenticators import TokenAuthenticator
from stream_server.platforms.media_stream import (
    TracksDialect,
    call_spec,
    key_mark,
    payload_of,
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
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import (
    Inbound,
    bad_message,
    json_field,
    json_number,
    parse_json_object,
    unexpected_message,
)
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.start import StreamSpec

MIXED_ROLE = "mixed"
"""Of several people in one channel; see docs/how-to/privacy.md."""

_PHONE = "4:"
"""Beginning of the raw id of a telephone number. Others: ``8:`` people of Teams and Azure, ``28:``
programs."""
_DEFAULT_RATE_HZ = 16_000
_PACKET_MS = 20
_AWAY_MS = 1000
"""After so much silence of a participant another one may take the place on that side."""
_LONGEST_MS = 7 * 86_400_000


class AzureDialect(TracksDialect):
    """One connection. Nothing is sent: it would be played to the call.

    Args:
        customer: raw id of the participant who is the customer; "": whoever has a telephone number.
    """

    begins_with = "'AudioMetadata'"

    def __init__(
        self,
        *,
        roles: Sequence[str],
        audio: Literal["mixed", "unmixed"] = "mixed",
        customer: str = "",
        mixed_role: str = MIXED_ROLE,
        max_jitter_ms: int = 200,
    ) -> None:
        super().__init__(max_jitter_ms)
        self._roles = tuple(roles) if audio == "unmixed" else (mixed_role,)
        self._customer = customer
        self._packet_bytes = 0
        self._first_ms: float | None = None
        # Who is heard on each side, and when that one was heard last.
        self._speakers: dict[int, tuple[str, float]] = {}

    def _text(self, text: str | bytes) -> list[Inbound]:
        message = parse_json_object(text)
        kind = json_field(message, "kind", str)
        match kind.lower():
            case "audiometadata":
                return [self._metadata(json_field(message, "audioMetadata", dict))]
            case "audiodata" | "dtmfdata" if self.start is None:
                raise unexpected_message(f"got '{kind}' before 'AudioMetadata'")
            case "audiodata":
                return self._audio(json_field(message, "audioData", dict))
            case "dtmfdata":
                return [key_mark({"digit": json_field(message, "dtmfData", dict).get("data")})]
            case _:
                return []  # Transcriptions, if they were asked for.

    def _metadata(self, metadata: dict[str, Any]) -> StreamSpec:
        if self.start is not None:
            raise unexpected_message("stream already started: got a second 'AudioMetadata'")
        encoding = metadata.get("encoding")
        encoding = "PCM" if encoding is None else encoding
        if not isinstance(encoding, str) or encoding.lower() not in ("pcm", "pcm16"):
            got = shown(encoding) if isinstance(encoding, str) else "no text"
            raise ProtocolError(ErrorCode.BAD_FORMAT, f"got encoding {got}, expected PCM")
        if json_number(metadata, "channels") not in (None, 1):
            raise ProtocolError(ErrorCode.BAD_FORMAT, "got several channels, expected one")
        rate_hz = json_number(metadata, "sampleRate") or _DEFAULT_RATE_HZ
        audio_format = AudioFormat("pcm_s16le", rate_hz, len(self._roles))
        subscription = metadata.get("subscriptionId")
        spec = call_spec(
            audio_format,
            self._roles,
            call_id=subscription if isinstance(subscription, str) else "",
            details={"platform": "azure", "subscriptionId": subscription},
        )
        self._packet_bytes = 2 * rate_hz * _PACKET_MS // 1000
        self._aligner = TrackAligner(audio_format, max_jitter_ms=self._max_jitter_ms)
        self.start = spec
        return spec

    def _audio(self, audio: dict[str, Any]) -> list[Inbound]:
        assert self.start is not None and self._aligner is not None
        payload = b"" if audio.get("data") is None else payload_of(audio, "data", 2)
        at_ms = _milliseconds(audio.get("timestamp"))
        if self._first_ms is None:
            self._first_ms = at_ms
        # Of several participants the first to be heard may have been stamped a little later.
        since_ms = None
        if at_ms is not None and self._first_ms is not None:
            since_ms = at_ms - self._first_ms
            since_ms = since_ms if 0 <= since_ms <= _LONGEST_MS else None
        channel = self._channel(audio.get("participantRawID"), since_ms)
        if channel is None:
            return []
        if not payload:
            if audio.get("silent") is not True:
                return []  # An empty packet has no place in the count of samples.
            payload = bytes(self._packet_bytes)
        rate_hz = self.start.format.sample_rate_hz
        at_tick = None if since_ms is None else round(since_ms * rate_hz / 1000)
        return [*self._aligner.put(channel, payload, at_tick=at_tick)]

    def _channel(self, participant: object, since_ms: float | None) -> int | None:
        """Return the channel of a participant; None: somebody else is heard on that side."""
        if len(self._roles) == 1:
            return 0
        if not isinstance(participant, str) or not participant:
            raise bad_message("got audio without 'participantRawID', which unmixed audio has")
        if self._customer:
            channel = 0 if participant == self._customer else 1
        else:
            channel = 0 if participant.startswith(_PHONE) else 1
        now_ms = 0.0 if since_ms is None else since_ms
        speaker, heard_ms = self._speakers.get(channel, (participant, now_ms))
        if speaker != participant and now_ms - heard_ms < _AWAY_MS:
            return None
        self._speakers[channel] = participant, now_ms
        return channel


def _milliseconds(timestamp: object) -> float | None:
    """Return a time in ISO 8601 as milliseconds from any origin; None: it is none."""
    if not isinstance(timestamp, str):
        return None
    try:
        return datetime.fromisoformat(timestamp).timestamp() * 1000
    except (ValueError, OverflowError, OSError):
        return None  # What is missing or strange only takes away a check of the order.


class _PathTokenFirst:
    """The token of the path: Azure's own, in ``Authorization``, is not one of this server's."""

    is_signature = False

    def __init__(self, access: Access) -> None:
        self._tokens = TokenAuthenticator(access)

    def authenticate(self, handshake: Handshake) -> Who:
        if handshake.path_token:
            headers = {k: v for k, v in handshake.headers.items() if k != "authorization"}
            handshake = replace(handshake, headers=headers)
        return self._tokens.authenticate(handshake)


def _route(settings: TelephonySettings, context: RouteContext) -> Route:
    def make_dialect(handshake: Handshake) -> AzureDialect:
        asked = dict(handshake.query_pairs)
        audio = asked.get("audio", "mixed")
        if audio not in ("mixed", "unmixed"):
            raise ProtocolError(
                ErrorCode.BAD_START,
                f"got audio={shown(audio)} in the query, expected mixed or unmixed",
            )
        return AzureDialect(
            roles=roles_of(asked, settings.roles),
            audio="unmixed" if audio == "unmixed" else "mixed",
            customer=asked.get("customer", ""),
            mixed_role=roles_of(asked, (MIXED_ROLE, ""))[0],
            max_jitter_ms=settings.max_jitter_ms,
        )

    return PlatformRoute(context, make_dialect, authenticator=_PathTokenFirst(context.access))


PLATFORM = Platform({"/azure": _route}, TelephonySettings)
