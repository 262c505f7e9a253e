"""FreeSWITCH's mod_audio_stream and mod_audio_fork: 16-bit PCM over a WebSocket, and little else.

Either sends the metadata of its command as the first text, if there is any, and then the audio in
binary messages, 20 ms each by default: little-endian samples, of the caller (``mono``), of both
mixed (``mixed``), or of the caller and the callee, interleaved (``stereo``). Neither rate nor
channels are on the wire, so the query of the URL has them, or the metadata. That may come some
messages late (amigniter/mod_audio_stream, issue 121), so the first audio waits for it. A paused
fork sends nothing; an empty binary message is mod_audio_fork's graceful shutdown. Sources: the
README files of amigniter/mod_audio_stream and drachtio/drachtio-freeswitch-modules,
``audio_pipe.cpp`` and ``lws_glue.cpp`` of the latter.

Text sent back becomes an event in FreeSWITCH: nothing is sent unless the query asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ser_engine.schema import MIXED_ROLE
from stream_server.platforms.media_stream import fitting_metadata, fitting_text
from stream_server.platforms.platform import (
    Platform,
    PlatformRoute,
    RouteContext,
    TelephonySettings,
)
from stream_server.platforms.route import Handshake, Route, json_refusal
from stream_server.wire.dialect import Inbound, text_of_control
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.feed_messages import ResultEncoder
from stream_server.wire.messages import ChannelSpec, Heartbeat, Ready, ServerMessage, Stop
from stream_server.wire.native import NativeDialect
from stream_server.wire.start import StreamSpec, check_start, start_from_query

SUBPROTOCOLS = ("audio.drachtio.org", "audio.jambonz.org")
"""Offered by mod_audio_fork, alone and in jambonz; mod_audio_stream offers none."""

"""Role of a channel that holds both sides. It holds an agent's voice, so it is analysed only where
the settings list it."""

_MIX_CHANNELS = {"mono": 1, "mixed": 1, "stereo": 2}

_RATE_NAMES = ("sampleRate", "sample_rate", "samplingRate", "sampling_rate", "rate")
_MIX_NAMES = ("mixType", "mix_type", "mix-type", "mix")
_CALL_NAMES = ("uuid", "call_id", "callId", "callid", "callSid", "call_sid")
"""Spellings in metadata; jambonz has sampleRate, mixType and callSid."""

_PEOPLE = frozenset(("from", "to", "callerid", "callername", "calledname", "callednumber"))
"""Metadata about people, in lower case without underscores: jambonz sends it with every call. It is
not kept; ``meta.X`` of the query, which the operator wrote, is."""

_MAX_EARLY_MESSAGES = 25
"""Audio messages that wait for the metadata: half a second of them, as they usually are."""
_MAX_EARLY_BYTES = 200_000

_CONTROLS = ("pause", "resume", "discarded", "mark", "flush", "keepalive", "stop")


class _Typed(msgspec.Struct):
    type: str = ""


_typed_decoder = msgspec.json.Decoder(_Typed)


class FreeSwitchDialect:
    """One connection: one call.

    ``send_text`` of either module may send the controls of the native protocol once the stream has
    begun: ``{"type": "pause"}`` before ``uuid_audio_stream UUID pause``, as nothing on the wire
    tells a pause from a stall. Other text is ignored.

    Args:
        query: of the URL, percent signs decoded: ``rate`` (8000 or 8k), ``mix`` (mono, mixed or
            stereo), and those of the native protocol, ``roles``, ``name``, ``wants``, ``meta.X``,
            ... What it says goes before what the metadata says.
        wrapped: the client passes on only messages of the type ``json``, as mod_audio_fork does.

    Raises:
        ProtocolError: the query is wrong.
    """

    can_resume = False
    client_closes = False
    begins_with = "audio"

    def __init__(
        self,
        roles: tuple[str, str],
        query: Mapping[str, str] | None = None,
        *,
        encoder: ResultEncoder | None = None,
        wrapped: bool = False,
    ) -> None:
        self._roles = roles
        self._query = dict(query or {})
        self._wrapped = wrapped
        self._native = NativeDialect(encoder=encoder)
        self._early: list[bytes] = []
        # Checked now, so that a wrong query refuses the handshake.
        self._spec({})

    @property
    def start(self) -> StreamSpec | None:
        return self._native.start

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: the metadata names a rate or mix that is none, or a control is wrong.
        """
        message = text_of_control(message)
        if self.start is None:
            return self._first(message)
        if isinstance(message, str):
            # Late metadata is ignored: the stream has begun without it.
            return self._native.receive(message) if _is_control(message) else []
        return self._audio(message)

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the text of ``message``; nothing if the client does not want it."""
        if isinstance(message, Ready):
            # The native dialect must see ``ready``, which tells whether the stream is paused.
            self._native.send(message)
            return []
        if self.start is None or not self.start.wants or isinstance(message, Heartbeat):
            return []
        texts = self._native.send(message)
        if not self._wrapped:
            return texts
        return ['{"type":"json","data":' + cast(str, text) + "}" for text in texts]

    def _first(self, message: str | bytes) -> list[Inbound]:
        if isinstance(message, bytes):
            self._early.append(message)
            # With a name in the query the metadata is not needed. An empty message is the end.
            if message and "name" not in self._query and self._has_room():
                return []
        self._native.start = spec = self._spec(_object(message) if isinstance(message, str) else {})
        early, self._early = self._early, []
        return [spec, *(inbound for data in early for inbound in self._audio(data))]

    def _has_room(self) -> bool:
        return (
            len(self._early) <= _MAX_EARLY_MESSAGES
            and sum(map(len, self._early)) <= _MAX_EARLY_BYTES
        )

    def _audio(self, data: bytes) -> list[Inbound]:
        if not data:
            return [Stop()]
        try:
            return self._native.receive(data)
        except ProtocolError as error:
            if error.ends_stream:
                raise
            return []  # Audio that was on its way when the pause began.

    def _spec(self, metadata: Mapping[str, Any]) -> StreamSpec:
        query = dict(self._query)
        rate = query.pop("rate", None) or _first(metadata, _RATE_NAMES)
        mix = query.pop("mix", None) or _first(metadata, _MIX_NAMES)
        if mix is not None:
            query.setdefault("channels", str(_channels_of(mix)))
        elif "channels" not in query and "roles" not in query and "names" not in query:
            # Only where nothing else counts the channels.
            query["channels"] = _first(metadata, ("channels",)) or "1"
        query.setdefault("sample_rate", _hertz(rate or "8000"))
        query.setdefault("wants", "")
        start = start_from_query(query)
        if "roles" not in self._query:
            start = msgspec.structs.replace(start, channels=self._with_roles(start.channels, mix))
        name = start.name or fitting_text(_first(metadata, _CALL_NAMES) or "")
        kept = {key: value for key, value in metadata.items() if not _is_of_people(key)}
        said = fitting_metadata({"platform": "freeswitch", **start.metadata, **kept})
        return check_start(msgspec.structs.replace(start, name=name, metadata=said))

    def _with_roles(
        self, channels: tuple[ChannelSpec, ...], mix: str | None
    ) -> tuple[ChannelSpec, ...]:
        if len(channels) > len(self._roles):
            raise ProtocolError(
                ErrorCode.BAD_START,
                f"got {len(channels)} channels without roles in the query, expected 1 or 2",
            )
        roles = (MIXED_ROLE,) if mix == "mixed" else self._roles
        return tuple(
            msgspec.structs.replace(channel, role=role)
            for channel, role in zip(channels, roles, strict=False)
        )


def _is_of_people(key: str) -> bool:
    return key.replace("_", "").lower() in _PEOPLE


def _channels_of(mix: str) -> int:
    channels = _MIX_CHANNELS.get(mix)
    if channels is None:
        raise ProtocolError(
            ErrorCode.BAD_START, f"got mix {shown(mix)}, expected one of {', '.join(_MIX_CHANNELS)}"
        )
    return channels


def _hertz(rate: str) -> str:
    """Return a rate in hertz; FreeSWITCH itself says 8k and 16k."""
    return rate[:-1] + "000" if rate.endswith(("k", "K")) else rate


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the first of these fields that is set, as text."""
    for name in names:
        value = said.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return value if isinstance(value, str) else shown(value)
    return None


def _object(text: str) -> Mapping[str, Any]:
    """Parse the metadata; text that is not an object is kept as it is."""
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        decoded = None
    if isinstance(decoded, dict):
        return cast(Mapping[str, Any], decoded)
    return {"metadata": text}


def _is_control(text: str) -> bool:
    try:
        return _typed_decoder.decode(text).type in _CONTROLS
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def _route(settings: TelephonySettings, context: RouteContext) -> Route:
    encoder = ResultEncoder()

    def make_dialect(handshake: Handshake) -> FreeSwitchDialect:
        offered = handshake.headers.get("sec-websocket-protocol", "").split(",")
        return FreeSwitchDialect(
            settings.roles,
            handshake.query,
            encoder=encoder,
            wrapped=any(name.strip() in SUBPROTOCOLS for name in offered),
        )

    # FreeSWITCH logs a refused handshake.
    return PlatformRoute(context, make_dialect, subprotocols=SUBPROTOCOLS, refuse=json_refusal)


PLATFORM = Platform({"/freeswitch": _route}, TelephonySettings)
