"""One AudioHook session, the server's side.

The client opens and closes: ``open`` is answered with ``opened`` once the stream was admitted,
``close`` with ``closed`` after the last result, and then the client closes the WebSocket. A server
that wants to end sends ``disconnect``. A mistake of the client's ends the session, as the
specification says; unknown types of message are ignored, as it requires.

Results go back as entities of ``event`` messages, of which the platform takes few a second: one has
the latest point of each channel and everything else of an interval of the audio. An alert is sent
at once.

Source: developer.genesys.cloud/devapps/audiohook.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto

import msgspec

from stream_server.platforms.audiohook.messages import (
    NULL_UUID,
    ClientMessage,
    DtmfParameters,
    Envelopes,
    GapParameters,
    MediaOffer,
    OpenParameters,
    format_duration,
    is_uuid,
    read_duration,
    read_parameters,
    ticks_of,
    to_duration,
)
from stream_server.platforms.media_stream import key_mark
from stream_server.wire.audio_format import SAMPLE_RATES_HZ, AudioFormat, Encoding
from stream_server.wire.dialect import AudioData, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import (
    ChannelSpec,
    Discarded,
    Error,
    Heartbeat,
    Pause,
    Ready,
    Resume,
    ServerMessage,
    Stop,
    Want,
)
from stream_server.wire.results import Alert, Gap, Point, Result, Segment, StreamClosed
from stream_server.wire.start import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH, StreamSpec

EXTERNAL = "external"
INTERNAL = "internal"

_ENCODINGS: dict[str, Encoding] = {"PCMU": "mulaw", "L16": "pcm_s16le"}
"""Unlike in RTP (RFC 3551, section 4.5.11), ``L16`` is not in network byte order: the platform's
reference implementation reads and writes it in its machine's order, which is little-endian."""

# A session of both channels may list them in either order; the audio is interleaved in that order.
_CHANNELS = {(EXTERNAL, INTERNAL), (INTERNAL, EXTERNAL), (EXTERNAL,), (INTERNAL,)}


def choose_media(offers: Sequence[MediaOffer]) -> MediaOffer:
    """Return the best offer: both channels, else ``external``; mu-law rather than linear PCM.

    Raises:
        ProtocolError: BAD_FORMAT: none can be analysed.
    """
    # The client offers several media, and the server accepts one of them.
    known = [offer for offer in offers if _is_known(offer)]
    if not known:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"none of {len(offers)} offered media is audio of 'external' or 'internal' in PCMU or"
            " L16",
        )
    return min(known, key=_rank)


def format_of(offer: MediaOffer) -> AudioFormat:
    return AudioFormat(
        encoding=_ENCODINGS[offer.format],
        sample_rate_hz=offer.rate,
        num_channels=len(offer.channels),
    )


def channels_of(offer: MediaOffer, roles: tuple[str, str]) -> tuple[ChannelSpec, ...]:
    """Return the channels of an offer; ``roles`` are of ``external`` and of ``internal``."""
    role_of = dict(zip((EXTERNAL, INTERNAL), roles, strict=True))
    return tuple(ChannelSpec(role=role_of[name], name=name) for name in offer.channels)


def _is_known(offer: MediaOffer) -> bool:
    return (
        offer.type == "audio"
        and offer.format in _ENCODINGS
        and offer.channels in _CHANNELS
        and offer.rate in SAMPLE_RATES_HZ
    )


def _rank(offer: MediaOffer) -> tuple[int, bool, bool]:
    # mu-law is half the bytes, and all that a telephone line carries (G.711).
    return (-len(offer.channels), EXTERNAL not in offer.channels, offer.format != "PCMU")


_CUSTOM_PREFIX = "custom."


def is_probe(parameters: OpenParameters) -> bool:
    """Whether this is a connection probe: Genesys tries the integration without a call."""
    # It sends the null UUID for both ids, and no audio follows.
    return parameters.conversation_id == parameters.participant.id == NULL_UUID


def check_open(
    parameters: OpenParameters,
    ids: Mapping[str, str],
    roles: tuple[str, str],
    wants: frozenset[Want],
) -> tuple[StreamSpec, MediaOffer]:
    """Return the stream's specification and the chosen media.

    Args:
        ids: of the handshake, kept with the stream; empty ones are left out.

    Raises:
        ProtocolError: BAD_START or BAD_FORMAT.
    """
    if not is_uuid(parameters.conversation_id):
        raise ProtocolError(
            ErrorCode.BAD_START,
            f"got conversationId {shown(parameters.conversation_id)}, expected a UUID",
        )
    offer = choose_media(parameters.media)
    spec = StreamSpec(
        format=format_of(offer),
        channels=channels_of(offer, roles),
        name=parameters.conversation_id,
        call_id=parameters.conversation_id,
        metadata=dict(_metadata(parameters, ids)),
        wants=wants,
    )
    return spec, offer


def _metadata(parameters: OpenParameters, ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is kept, clipped and not refused: a call must not be lost for a long note."""
    # Ids come first, so that they survive when custom entries exceed the limit.
    entries = {
        "platform": "genesys",
        **ids,
        "organization_id": parameters.organization_id,
        "conversation_id": parameters.conversation_id,
        "participant_id": parameters.participant.id,
        "language": parameters.language or "",
        "continues": _continued(parameters),
    }
    for name, value in (parameters.custom_config or {}).items():
        entries[_CUSTOM_PREFIX + name] = _as_text(value)
    # Clipped names may collide: the last wins, which is harmless for notes.
    clipped = ((_clip(name), _clip(value)) for name, value in entries.items())
    kept = {name: value for name, value in clipped if value}
    yield from list(kept.items())[:MAX_METADATA_ENTRIES]


def _continued(parameters: OpenParameters) -> str:
    """Return the ids of the sessions that this one continues, the latest that fit."""
    # After a reconnect the list grows by one.
    ids = [each.id for each in parameters.continued_sessions or () if is_uuid(each.id)]
    return ",".join(ids[-(MAX_TEXT_LENGTH // (len(NULL_UUID) + 1)) :])


def _as_text(value: object) -> str:
    # customConfig is any JSON; numbers and objects are kept as their text.
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _clip(text: str) -> str:
    """Return a text that can be stored: short, without control characters and lone surrogates."""
    return "".join(
        character
        for character in text[:MAX_TEXT_LENGTH]
        if character >= " " and character != "\x7f" and not "\ud800" <= character <= "\udfff"
    )


POINT_TYPE = "emotion.point"
SEGMENT_TYPE = "emotion.segment"
ALERT_TYPE = "emotion.alert"

_RESULT_RATE_HZ = 16_000
"""Rate of the clock that results count on."""
_MAX_HELD = 64
"""Entities of one message, which may have 64 kB."""

Entity = Mapping[str, object]


class EventWriter:
    """Collects results for the next ``event`` message.

    Args:
        labels: of the classes, in the order of posteriors.
        origin_ns: the platform's position of the stream's first sample.
    """

    def __init__(
        self, channels: Sequence[str], labels: Sequence[str], origin_ns: int, interval_ms: int
    ) -> None:
        self._channels = channels
        self._labels = labels
        self._origin_ns = origin_ns
        self._interval_samples = interval_ms * _RESULT_RATE_HZ // 1000
        self._points: dict[int, Entity] = {}
        self._others: list[Entity] = []
        self._due_sample = self._interval_samples

    def add(self, result: Result) -> list[Entity]:
        """Add a result; return the entities to send now, if any."""
        match result:
            case Point():
                # The latest replaces the one before: its posteriors cover the same trailing span.
                self._points[result.channel] = self._point(result)
            # Interim segments still change, and an entity cannot be taken back.
            case Segment(final=True):
                self._others.append(self._segment(result))
            case Alert():
                self._others.append(self._alert(result))
                return self.flush()
            case StreamClosed():
                return self.flush()
        # Due by the audio, not by a clock: a recording that is replayed fast loses no result.
        if isinstance(result, Point | Segment | Gap) and result.end_sample >= self._due_sample:
            # From the result, not the last due time: one message follows a long gap, not a burst.
            self._due_sample = result.end_sample + self._interval_samples
            return self.flush()
        return self.flush() if len(self._others) >= _MAX_HELD else []

    def flush(self) -> list[Entity]:
        """Return what is held, points last."""
        held = [*self._others, *self._points.values()]
        self._others.clear()
        self._points.clear()
        return held

    def _point(self, point: Point) -> Entity:
        data = self._span(point) | {
            "label": point.label,
            "best": point.best,
            "confidence": round(point.confidence, 4),
            "posteriors": {
                label: round(value, 4)
                for label, value in zip(self._labels, point.posteriors, strict=False)
            },
        }
        return {"type": POINT_TYPE, "data": data}

    def _segment(self, segment: Segment) -> Entity:
        data = self._span(segment) | {
            "label": segment.label,
            "best": segment.best,
            "confidence": round(segment.confidence, 4),
        }
        return {"type": SEGMENT_TYPE, "data": data}

    def _alert(self, alert: Alert) -> Entity:
        return {
            "type": ALERT_TYPE,
            "data": {
                "id": alert.alert_id,
                "rule": alert.rule,
                "state": alert.state,
                "severity": alert.severity,
                "channel": self._channels[alert.channel],
                "labels": alert.labels,
                "posterior": round(alert.posterior, 4),
                "since": self._position(alert.since_sample),
                "at": self._position(alert.at_sample),
            },
        }

    def _span(self, result: Point | Segment) -> dict[str, object]:
        return {
            "channel": self._channels[result.channel],
            "start": self._position(result.start_sample),
            "end": self._position(result.end_sample),
        }

    def _position(self, sample: int) -> str:
        return format_duration(self._origin_ns + to_duration(sample, _RESULT_RATE_HZ))


_WANTS: frozenset[Want] = frozenset(("points", "segments", "alerts"))
_REASONS = {
    ErrorCode.UNAUTHORIZED.value: "unauthorized",
    ErrorCode.TOO_LONG.value: "completed",
    ErrorCode.SHUTTING_DOWN.value: "completed",
}
"""Reasons of ``disconnect``, which the specification lists; other errors are ``error``."""
_MAX_INFO_CHARACTERS = 512


class _Phase(Enum):
    NEW = auto()  # ``open`` has not come
    PROBE = auto()  # a connection probe is open, without a stream
    OPENING = auto()  # the stream is requested
    OPEN = auto()
    CLOSING = auto()  # ``close`` has come, the last results are sent
    DISCONNECTING = auto()  # ``disconnect`` was sent, ``close`` is to come
    CLOSED = auto()  # ``closed`` was sent, the client closes the WebSocket


class AudioHookDialect:
    """See :class:`~stream_server.wire.dialect.Dialect`.

    Args:
        session_id: of the handshake; "": that of the first message.
        organization_id: of the handshake; "": any.
        ids: others of the handshake, kept with the stream under these names.
        is_authorized: False: the first message is answered with ``disconnect``.
        event_interval_ms: audio between ``event`` messages; None: none are sent.
    """

    can_resume = False
    client_closes = True
    begins_with = "'open'"

    def __init__(
        self,
        *,
        roles: tuple[str, str],
        session_id: str = "",
        organization_id: str = "",
        ids: Mapping[str, str] | None = None,
        is_authorized: bool = True,
        event_interval_ms: int | None = 1000,
    ) -> None:
        self.start: StreamSpec | None = None
        self._roles = roles
        self._organization_id = organization_id
        self._ids = ids or {}
        self._is_authorized = is_authorized
        self._event_interval_ms = event_interval_ms
        self._envelopes = Envelopes(session_id)
        self._phase = _Phase.NEW
        self._is_paused = False
        self._opened: dict[str, object] = {}  # parameters of ``opened``
        self._origin_ns = 0
        self._ticks = 0  # of audio and of gaps so far
        self._events: EventWriter | None = None

    @property
    def _code(self) -> ErrorCode:
        # Both end the session; before ``open`` there is no stream that could have gone on.
        return ErrorCode.BAD_START if self.start is None else ErrorCode.TOO_MANY_ERRORS

    # -- what comes -------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message. Raises ProtocolError: the session ends with it."""
        if self._phase in (_Phase.DISCONNECTING, _Phase.CLOSED):
            return self._receive_late(message)
        if not self._is_authorized:
            if isinstance(message, str):
                self._envelopes.read_late(message)
            # No reason: it would help someone who guesses secrets.
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "not authorized")
        if isinstance(message, bytes):
            return self._audio(message)
        return self._handle(self._envelopes.read(message, self._code))

    def _handle(self, message: ClientMessage) -> list[Inbound]:
        match message.type:
            # A second ``open`` is ignored below, like any type at a time when it means nothing.
            case "open" if self._phase is _Phase.NEW:
                return [self._open(message)]
            case "close":
                return self._close()
            case "ping":
                return [self._say("pong")]
            # The language may change; emotion does not depend on it, so it is only acknowledged.
            case "update" if self._phase is _Phase.OPEN:
                return [self._say("updated")]
            case "discarded" if self._phase is _Phase.OPEN and not self._is_paused:
                return self._discarded(self._take_gap(message))
            case "paused" if self._phase is _Phase.OPEN and not self._is_paused:
                self._is_paused = True
                return [Pause()]
            case "resumed" if self._phase is _Phase.OPEN:
                ticks = self._take_gap(message)
                # ``resumed`` without ``paused``: the client says that it dropped audio meanwhile.
                if not self._is_paused:
                    return self._discarded(ticks)
                self._is_paused = False
                return [Resume(paused_samples=ticks)]
            case "dtmf" if self._phase is _Phase.OPEN:
                digit = read_parameters(message, DtmfParameters, self._code).digit
                return [key_mark({"digit": digit})]
        return []

    def _open(self, message: ClientMessage) -> Inbound:
        parameters = read_parameters(message, OpenParameters, self._code)
        # The handshake's id is covered by the signature; that of ``open`` is not.
        if self._organization_id not in ("", parameters.organization_id):
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "not authorized")
        self._opened = {"startPaused": False}
        if parameters.supported_languages:
            # The client asks whether its language is supported. Emotion depends on none.
            self._opened["supportedLanguages"] = (
                [parameters.language] if parameters.language else []
            )
        if is_probe(parameters):
            # A probe checks that the answer is valid, so it names media like any other.
            self._opened["media"] = [choose_media(parameters.media)] if parameters.media else []
            self._phase = _Phase.PROBE
            return self._say("opened", self._opened)
        self._origin_ns = read_duration("position", message.position, self._code)
        wants = frozenset[Want]() if self._event_interval_ms is None else _WANTS
        self.start, offer = check_open(parameters, self._ids, self._roles, wants)
        self._opened["media"] = [offer]
        self._phase = _Phase.OPENING
        return self.start

    def _close(self) -> list[Inbound]:
        # A repeated ``close``: its answer waits for the last results.
        if self._phase is _Phase.CLOSING:
            return []
        if self.start is None:
            self._phase = _Phase.CLOSED
            return [self._say("closed"), Stop()]
        self._phase = _Phase.CLOSING
        return [Stop()]

    def _audio(self, data: bytes) -> list[Inbound]:
        if self._phase is _Phase.NEW:
            raise ProtocolError(
                ErrorCode.NOT_STARTED, f"got {len(data)} bytes of audio, expected 'open' first"
            )
        # Audio may still come after ``paused``, and people pause to keep something private.
        # Audio before ``opened``, and that of a probe, is dropped as well.
        if self._phase is not _Phase.OPEN or self._is_paused or not data:
            return []
        assert self.start is not None
        bytes_per_tick = self.start.format.bytes_per_tick
        if len(data) % bytes_per_tick:
            # Half a sample or an odd channel would swap the channels from here on.
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got {len(data)} bytes of audio, expected a multiple of {bytes_per_tick}",
            )
        self._ticks += len(data) // bytes_per_tick
        return [AudioData(data)]

    def _take_gap(self, message: ClientMessage) -> int:
        """Return the length of a gap, in samples a channel, with what is missing before it."""
        # Positions are times of the call: a gap that begins after the audio received so far means
        # that audio was lost without a ``discarded`` of its own.
        assert self.start is not None
        gap = read_parameters(message, GapParameters, self._code)
        rate_hz = self.start.format.sample_rate_hz
        length = ticks_of(read_duration("discarded", gap.discarded, self._code), rate_hz)
        start_ns = read_duration("start", gap.start, self._code) - self._origin_ns
        missing = max(0, ticks_of(max(0, start_ns), rate_hz) - self._ticks)
        self._ticks += missing + length
        return missing + length

    @staticmethod
    def _discarded(ticks: int) -> list[Inbound]:
        return [Discarded(samples=ticks)] if ticks else []

    def _receive_late(self, message: str | bytes) -> list[Inbound]:
        """Answer what comes after ``disconnect`` or ``closed``; nothing of it is an error."""
        # Numbers may be wrong now: the client may have sent these before it read ``disconnect``.
        late = self._envelopes.read_late(message) if isinstance(message, str) else None
        if late is None or self._phase is _Phase.CLOSED:
            return []
        if late.type == "close":
            self._phase = _Phase.CLOSED
            return [self._say("closed")]
        return [self._say("pong")] if late.type == "ping" else []

    # -- what goes --------------------------------------------------------------------------------

    def send(self, message: ServerMessage) -> list[str | bytes]:
        match message:
            case Ready():
                return [self._ready(message)]
            case Error():
                return self._error(message)
            case Heartbeat():
                return []
        texts: list[str | bytes] = []
        if self._events is not None and (entities := self._events.add(message)):
            texts.append(self._envelopes.write("event", {"entities": entities}))
        # Last of all: after ``closed`` the client closes the WebSocket.
        if isinstance(message, StreamClosed) and self._phase is _Phase.CLOSING:
            self._phase = _Phase.CLOSED
            texts.append(self._envelopes.write("closed", {}))
        return texts

    def _ready(self, ready: Ready) -> str:
        assert self.start is not None
        self._phase = _Phase.OPEN
        if self._event_interval_ms is not None:
            self._events = EventWriter(
                [channel.name for channel in self.start.channels],
                [label.name for label in ready.labels],
                self._origin_ns,
                self._event_interval_ms,
            )
        return self._envelopes.write("opened", self._opened)

    def _error(self, error: Error) -> list[str | bytes]:
        # An error that ends nothing cannot be expressed, and ``disconnect`` is sent once.
        if error.close_code is None or self._phase in (_Phase.DISCONNECTING, _Phase.CLOSED):
            return []
        if self._phase is _Phase.CLOSING:
            # The client waits for ``closed``, whatever happened to its stream.
            self._phase = _Phase.CLOSED
            return [self._envelopes.write("closed", {})]
        self._phase = _Phase.DISCONNECTING
        reason = _REASONS.get(error.code, "error")
        parameters = {"reason": reason}
        if reason != "unauthorized":
            # For the platform's operators; an unauthorized client is told no reason.
            parameters["info"] = error.message[:_MAX_INFO_CHARACTERS]
        return [self._envelopes.write("disconnect", parameters)]

    def _say(self, kind: str, parameters: Mapping[str, object] | None = None) -> Say:
        return Say((self._envelopes.write(kind, parameters or {}),))
