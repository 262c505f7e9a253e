"""The JSON media streams of telephone platforms, the server's side; it only listens.

They are descended from Twilio's: text messages with an ``event``; ``start`` describes the call,
``media`` carries audio in Base64, ``stop`` ends it. They differ in the names of fields, in how
numbers are written, in encodings and in what they promise of order: :class:`MediaPlatform` is one
platform's table of those.

Parsing is lenient: numbers may be strings, fields that are not needed may be missing, unknown
events are ignored, and a parameter that is too long is cut, as it could not be corrected while the
call runs. A message that cannot be understood is an error and changes nothing; a hundred of them
end the stream. The platform is not told: it would play what it is sent, or drop it. Roles are
never guessed: they decide who is analysed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_server.platforms.authenticators import Authenticator
from stream_server.platforms.platform import PlatformRoute, RouteContext, TelephonySettings
from stream_server.platforms.route import Handshake, Route
from stream_server.tracks import TrackAligner
from stream_server.tracks.coded import CodedTracks, track_format
from stream_server.tracks.track import TrackStats
from stream_server.wire.audio_format import AudioFormat, ByteOrder, Encoding, Linear16
from stream_server.wire.dialect import (
    BadMessages,
    Inbound,
    bad_message,
    json_field,
    json_number,
    parse_json_object,
    unexpected_message,
)
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import ChannelSpec, Mark, ServerMessage, Start, Stop
from stream_server.wire.start import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH, StreamSpec, check_start

DTMF_MARK = "dtmf"
"""Name of the mark that a pressed key becomes. Which key is not kept: people type card numbers."""

ROLES_PARAMETER = "roles"
"""Custom parameter with the roles of the inbound and the outbound track, e.g. ``agent customer``
where the stream is of the agent's leg."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# The other alphabet of RFC 4648, section 5.
_URL_SAFE = str.maketrans("-_", "+/")
_BETWEEN_ROLES = re.compile(r"[^A-Za-z0-9_-]+")


def roles_of(parameters: Mapping[str, object], default: Sequence[str]) -> tuple[str, str]:
    """Return the roles of the inbound and the outbound track; see :data:`ROLES_PARAMETER`."""
    text = str(parameters.get(ROLES_PARAMETER, ""))[:MAX_TEXT_LENGTH]
    named = [role for role in _BETWEEN_ROLES.split(text) if role]
    # One named role takes the place of one default, and the other default stays.
    inbound, outbound = [*named, *(role for role in default if role not in named)][:2]
    return inbound, outbound


def call_spec(
    audio_format: AudioFormat,
    roles: Iterable[str],
    *,
    name: str = "",
    call_id: str = "",
    details: Mapping[str, object],
) -> StreamSpec:
    """Return the specification of a call's stream, whose client is sent no results.

    Args:
        name: of the stream; "": the id of the call.
        call_id: of the platform, which the log may show.
        details: kept with the stream, the most important first; only texts, numbers and booleans.

    Raises:
        ProtocolError: ``BAD_START``: a role is invalid.
    """
    spec = check_start(
        Start(
            encoding=audio_format.encoding,
            sample_rate=audio_format.sample_rate_hz,
            channels=tuple(ChannelSpec(role=role) for role in roles),
            name=fitting_text(name or call_id),
            metadata=fitting_metadata(details),
            wants=(),
        )
    )
    # Packets of tracks are no format of the native protocol's ``start``.
    return replace(spec, format=audio_format, call_id=call_id)


def key_mark(details: object) -> Mark:
    """Return the mark of a key that was pressed; ``details`` may be an object with a ``digit``."""
    digit = details.get("digit") if isinstance(details, dict) else None
    return Mark(name=DTMF_MARK, key=digit if isinstance(digit, str) and len(digit) == 1 else "")


def fitting_text(text: str) -> str:
    """Return ``text`` without control characters and not too long."""
    return _UNFIT.sub(" ", text[:MAX_TEXT_LENGTH])


def fitting_metadata(details: Mapping[str, object]) -> dict[str, str]:
    """Return the texts, numbers and booleans of ``details``, as many as a stream may have."""
    metadata: dict[str, str] = {}
    for key, value in details.items():
        # Before numbers: bool is an int in Python.
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63):
            text = str(value)
        else:
            continue
        if key and text:
            metadata[fitting_text(key)] = fitting_text(text)
        if len(metadata) == MAX_METADATA_ENTRIES:
            break
    return metadata


INBOUND = "inbound"
"""Track: what the platform receives from the leg of the call that is streamed."""
OUTBOUND = "outbound"
"""Track: what the platform plays to that leg."""
BOTH_TRACKS = (INBOUND, OUTBOUND)
_TRACKS = {"inbound": (INBOUND,), "outbound": (OUTBOUND,), "both": BOTH_TRACKS}
"""Values of ``?tracks=`` in the URL."""


@dataclass(frozen=True, slots=True)
class WireEncoding:
    """The encoding of a payload.

    Attributes:
        encoding: of the samples, in little-endian order.
        byte_order: to assume for 16-bit samples until their first second shows it; None: always
            little-endian.
        codec: what payloads are packets of, one of
            :data:`~stream_server.tracks.coded.TRACK_CODECS`; "": the samples themselves.
    """

    encoding: Encoding
    byte_order: ByteOrder | None = None
    codec: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlatform:
    """One platform's table; what it leaves out is as Twilio has it.

    Attributes:
        name: as metadata and messages give it.
        stream_id: field of every message, and of ``start``, that tells streams apart.
        call_id: field of ``start``: the platform's id of the call.
        format: field of ``start`` that describes the audio.
        rate: field of that: samples a second.
        encodings: by their names in lower case, without parameters.
        default_encoding: where ``start`` names none.
        tracks: where ``start`` does not list them.
        details: fields of ``start`` that are kept with the stream.
        parameters: takes the whole ``start`` message and returns its custom parameters.
        translated: takes any message, and returns it in the shape that Twilio's has.
    """

    name: str
    stream_id: str = "streamSid"
    call_id: str = "callSid"
    format: str = "mediaFormat"
    rate: str = "sampleRate"
    encodings: Mapping[str, WireEncoding]
    default_encoding: str = "audio/x-mulaw"
    tracks: tuple[str, ...] = (INBOUND,)
    parameters: Callable[[Mapping[str, Any]], object] = lambda message: message["start"].get(
        "customParameters"
    )
    details: tuple[str, ...] = ("streamSid", "accountSid")
    translated: Callable[[dict[str, Any]], dict[str, Any]] = lambda message: message


_USUAL_RATE_HZ = 8_000


class ListeningDialect:
    """What dialects share whose platform takes no results: it would play them, or drop them."""

    can_resume = False
    client_closes = False

    def __init__(self) -> None:
        self.start: StreamSpec | None = None
        self._bad = BadMessages()

    def send(self, message: ServerMessage) -> list[str | bytes]:
        return []


class TracksDialect(ListeningDialect):
    """What dialects share whose platform sends a call as tracks, and takes no results."""

    begins_with = "'start'"

    def __init__(self, max_jitter_ms: int) -> None:
        super().__init__()
        self._max_jitter_ms = max_jitter_ms
        self._aligner: TrackAligner | CodedTracks | None = None

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: see :class:`stream_server.wire.dialect.Dialect`.
        """
        return self._bad.counted(self._text, message)

    @property
    def tracks(self) -> TrackStats | None:
        """Packet counts so far; None before the beginning."""
        return None if self._aligner is None else self._aligner.stats

    def release(self) -> list[Inbound]:
        """Return the audio that waits for an earlier packet, or for the other track."""
        return [] if self._aligner is None else [*self._aligner.flush()]

    def _text(self, text: str | bytes) -> list[Inbound]:
        raise NotImplementedError


class MediaStreamDialect(TracksDialect):
    """One connection of a platform.

    Args:
        tracks: where ``start`` does not list them; None: those of the table.
    """

    def __init__(
        self,
        platform: MediaPlatform,
        *,
        roles: Sequence[str],
        max_jitter_ms: int = 200,
        tracks: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(max_jitter_ms)
        self._platform = platform
        self._roles = roles
        self._tracks = platform.tracks if tracks is None else tracks
        self._stream_id: str | None = None
        self._linear16: dict[str, Linear16] = {}
        self._stopped = False

    def _text(self, text: str | bytes) -> list[Inbound]:
        message = self._platform.translated(parse_json_object(text))
        event = json_field(message, "event", str)
        if event == "start":
            return [self._start(message)]
        if event not in ("media", "dtmf", "mark", "stop"):
            return []
        self._check_expected(event, message)
        match event:
            case "media":
                return self._media(json_field(message, "media", dict))
            case "dtmf":
                return [key_mark(message.get("dtmf"))]
            case "mark":
                return self._mark(message)
            case _:
                return self._stop()

    def _start(self, message: dict[str, Any]) -> StreamSpec:
        if self.start is not None:
            raise unexpected_message("stream already started: got a second 'start'")
        platform, start = self._platform, json_field(message, "start", dict)
        stream_format: dict[str, Any] = {}
        if start.get(platform.format) is not None:
            stream_format = json_field(start, platform.format, dict)
        encoding, rate_hz = self._encoding(stream_format)
        tracks = _listed_tracks(start.get("tracks")) or self._tracks
        parameters = platform.parameters(message)
        if not isinstance(parameters, dict):
            parameters = {}
        roles = dict(zip(BOTH_TRACKS, roles_of(parameters, self._roles), strict=True))
        stream_id = message.get(platform.stream_id, start.get(platform.stream_id))
        audio_format = (
            track_format(encoding.codec, len(tracks))
            if encoding.codec
            else AudioFormat(encoding.encoding, rate_hz, len(tracks))
        )
        call_id = start.get(platform.call_id)
        known = {
            "platform": platform.name,
            platform.stream_id: stream_id,
            **{name: start.get(name) for name in platform.details},
        }
        spec = call_spec(
            audio_format,
            [roles[track] for track in tracks],
            call_id=call_id if isinstance(call_id, str) else "",
            # Known fields come first, so that they survive the limit on metadata, and last, so that
            # no custom parameter of the same name replaces them.
            details={**known, **parameters, **known},
        )
        # Nothing below raises: after a refused message the dialect is as it was.
        self._tracks = tracks
        self._stream_id = stream_id if isinstance(stream_id, str) else None
        if encoding.byte_order is not None:
            self._linear16 = {track: Linear16(encoding.byte_order) for track in tracks}
        put_in_order = CodedTracks if encoding.codec else TrackAligner
        self._aligner = put_in_order(audio_format, max_jitter_ms=self._max_jitter_ms)
        self.start = spec
        return spec

    def _encoding(self, stream_format: dict[str, Any]) -> tuple[WireEncoding, int]:
        platform = self._platform
        named = platform.default_encoding
        if stream_format.get("encoding") is not None:
            named = json_field(stream_format, "encoding", str)
        # MIME types are case-insensitive, and may have parameters (RFC 2045, section 5.1).
        name, _, parameters = named.lower().partition(";")
        encoding = platform.encodings.get(name.strip())
        if encoding is None:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got encoding {shown(named)}, expected one of {', '.join(platform.encodings)}",
            )
        # The rate may also be a parameter of the encoding: "audio/x-l16;rate=16000".
        rate_hz = json_number(stream_format, platform.rate)
        if rate_hz is None:
            parameter = {"rate": parameters.partition("rate=")[2].strip() or _USUAL_RATE_HZ}
            # 0 Hz is refused by AudioFormat with the allowed range.
            rate_hz = json_number(parameter, "rate") or 0
        # A track is one direction of a call; two directions in one payload would share one role.
        if json_number(stream_format, "channels") not in (None, 1):
            raise ProtocolError(
                ErrorCode.BAD_FORMAT, "got a track of several channels, expected one"
            )
        return encoding, rate_hz

    def _check_expected(self, event: str, message: dict[str, Any]) -> None:
        if self._stopped:
            raise unexpected_message(f"got '{event}' after 'stop', which ends the stream")
        # A 'stop' without a 'start' is a call that ended before its audio began.
        if self.start is None and event != "stop":
            raise unexpected_message(f"got '{event}' before 'start'")
        stream_id = message.get(self._platform.stream_id)
        # Some versions leave the id out of later messages; only a different one is an error.
        if None not in (stream_id, self._stream_id) and stream_id != self._stream_id:
            name = self._platform.stream_id
            raise unexpected_message(f"got '{event}' with another {name} than 'start'")

    def _media(self, media: dict[str, Any]) -> list[Inbound]:
        assert self.start is not None and self._aligner is not None
        track = self._track(media.get("track"))
        # The other track of a call of which one was asked for.
        if track not in self._tracks:
            return []
        number = json_number(media, "chunk")
        timestamp_ms = json_number(media, "timestamp")
        audio_format = self.start.format
        sample_bytes = 1 if audio_format.codec else audio_format.bytes_per_sample
        payload = payload_of(media, "payload", sample_bytes)
        # An empty packet has no place in the count of samples.
        if not payload:
            return []
        linear16 = self._linear16.get(track)
        # Each track decides by itself: silence on one says nothing of the other.
        if linear16 is not None:
            payload = linear16.decode(payload)
        at_tick = None
        if timestamp_ms is not None:
            # Milliseconds are coarser than samples: the aligner takes times for noisy anyway.
            at_tick = timestamp_ms * audio_format.sample_rate_hz // 1000
        channel = self._tracks.index(track)
        return [*self._aligner.put(channel, payload, at_tick=at_tick, number=number)]

    def _track(self, track: object) -> str:
        # A single track need not be named: Exotel does not.
        if track is None and len(self._tracks) == 1:
            return self._tracks[0]
        if isinstance(track, str) and (name := _track_name(track)) in BOTH_TRACKS:
            return name
        got = f"got track {shown(track)}" if isinstance(track, str) else "got media without a track"
        raise bad_message(f"{got}, expected {' or '.join(BOTH_TRACKS)}")

    def _mark(self, message: dict[str, Any]) -> list[Inbound]:
        name = json_field(json_field(message, "mark", dict), "name", str)
        return [Mark(name=fitting_text(name))]

    def _stop(self) -> list[Inbound]:
        self._stopped = True
        return [*self.release(), Stop()]


def payload_of(fields: Mapping[str, Any], name: str, bytes_per_sample: int) -> bytes:
    """Return the whole samples that a field holds in Base64.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it holds something else.
    """
    text = json_field(fields, name, str)
    try:
        if "\n" in text or "\r" in text:
            text = "".join(text.split())  # MIME breaks lines (RFC 2045, section 6.8).
        if "-" in text or "_" in text:
            text = text.translate(_URL_SAFE)
        if len(text) % 4 > 1 and "=" not in text:
            text += "=" * (4 - len(text) % 4)  # May be left out (RFC 4648, section 3.2).
        payload = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise bad_message(f"invalid '{name}': it is not Base64") from None
    if len(payload) % bytes_per_sample:
        raise bad_message(
            f"got {len(payload)} bytes of audio, expected whole samples of {bytes_per_sample} bytes"
        )
    return payload


def _track_name(track: str) -> str:
    """Return the name without the ending that Twilio adds in TwiML and ``dtmf``: inbound_track."""
    return track.lower().removesuffix("_track")


def _listed_tracks(tracks: object) -> tuple[str, ...]:
    """Return the known tracks of a list or name, inbound first."""
    if isinstance(tracks, str):
        tracks = [tracks]
    if not isinstance(tracks, list):
        return ()
    names = {_track_name(name) for name in tracks if isinstance(name, str)}
    # The spelling of TwiML's ``track``.
    if names & {"both", "both_tracks"}:
        return BOTH_TRACKS
    return tuple(track for track in BOTH_TRACKS if track in names)


def media_route(
    platform: MediaPlatform,
    settings: TelephonySettings,
    context: RouteContext,
    *,
    authenticator: Authenticator | None = None,
    subprotocols: tuple[str, ...] = (),
) -> Route:
    def make_dialect(handshake: Handshake) -> MediaStreamDialect:
        return MediaStreamDialect(
            platform,
            roles=settings.roles,
            max_jitter_ms=settings.max_jitter_ms,
            tracks=queried_tracks(handshake),
        )

    return PlatformRoute(
        context, make_dialect, authenticator=authenticator, subprotocols=subprotocols
    )


def queried_tracks(handshake: Handshake) -> tuple[str, ...] | None:
    """Return the tracks that ``?tracks=`` names; None: it names none.

    Raises:
        ProtocolError: ``BAD_START``: it names something else.
    """
    # Other parameters of the URL belong to the platform or to its user.
    named = dict(handshake.query_pairs).get("tracks")
    if named is None:
        return None
    if named not in _TRACKS:
        raise ProtocolError(
            ErrorCode.BAD_START,
            f"got tracks={shown(named)} in the query, expected {', '.join(_TRACKS)}",
        )
    return _TRACKS[named]
