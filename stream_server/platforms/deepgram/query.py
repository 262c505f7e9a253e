"""The query of ``/v1/listen``, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from stream_server.wire.audio_format import MAX_CHANNELS, SAMPLE_RATES_HZ
from stream_server.wire.codecs import CODED
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import ChannelSpec, Start
from stream_server.wire.start import StreamSpec, check_start

_ENCODINGS = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
    "opus": "opus",
    "ogg-opus": "ogg",
    "flac": "flac",
    "amr-nb": "amr-nb",
    "amr-wb": "amr-wb",
    "g729": "g729",
    "speex": "ogg",
}
"""Deepgram's names for what is understood here; Speex comes in Ogg."""

PARAMETERS = (
    "callback",
    "channels",
    "encoding",
    "gaps",
    "interim_results",
    "live",
    "model",
    "multichannel",
    "name",
    "sample_rate",
    "token",
    "transcript",
    "utterance_end_ms",
    "vad_events",
)
"""Parameters with one value; all but those, ``tag``, ``extra``, ``role`` and ``roles`` ask for a
transcript of some kind and are ignored, known or not."""

LABEL_MODELS = ("label", "emotion-label", "transcript=label")
"""Values of ``model`` that say ``transcript=label``: every client lets its user choose the model,
and many no other parameter."""

_DEFAULT_ROLE = ChannelSpec().role
_MAX_UTTERANCE_END_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenQuery:
    """A checked query.

    Attributes:
        encoding: as the native protocol calls it; None: the audio begins with a header that says
            what it is.
        sample_rate_hz: of the audio; None without ``encoding``, and where its codec says it.
        num_channels: None: not said.
        utterance_end_ms: silence after which the end of an utterance is reported; 0: never.
        gaps: also report final gaps: ours, not Deepgram's.
        transcript: put the label into the transcript: ours, for clients that show nothing else.
        live: False: a recording, sent as fast as it is taken: ours.
        roles: one a channel; empty: not said.
        token: access token; "": a header carries it or none is needed.
    """

    encoding: str | None
    sample_rate_hz: int | None
    num_channels: int | None
    interim_results: bool
    vad_events: bool
    utterance_end_ms: int
    gaps: bool
    transcript: bool
    live: bool
    roles: tuple[str, ...]
    name: str
    metadata: dict[str, str]
    token: str = field(repr=False)

    @classmethod
    def of(
        cls, pairs: Iterable[tuple[str, str]], *, default_transcript: str = "none"
    ) -> ListenQuery:
        """Return what a query asks for.

        Args:
            pairs: names and values, percent signs decoded; a name may come several times.
            default_transcript: of the settings, where the query says nothing of it.

        Raises:
            ProtocolError: BAD_FORMAT or BAD_START.
        """
        pairs = tuple(pairs)
        values = _values(pairs)
        if "callback" in values:
            raise _bad("callback", "none: results come on this WebSocket, and nowhere else")
        encoding, sample_rate_hz = _encoding(values)
        query = cls(
            encoding=encoding,
            sample_rate_hz=sample_rate_hz,
            num_channels=_num_channels(values),
            interim_results=_flag(values, "interim_results"),
            vad_events=_flag(values, "vad_events"),
            utterance_end_ms=_utterance_end_ms(values),
            gaps=_flag(values, "gaps"),
            transcript=_transcript(values, default_transcript),
            live=_flag(values, "live", default=True),
            roles=_roles(pairs),
            name=values.get("name", ""),
            metadata=_metadata(pairs),
            token=values.get("token", ""),
        )
        # Checked, and otherwise ignored: channels are always apart.
        _flag(values, "multichannel")
        return query

    def spec(
        self,
        default_roles: tuple[str, str],
        *,
        found: tuple[str, int | None, int] | None = None,
        more_metadata: dict[str, str] | None = None,
    ) -> StreamSpec:
        """Return the stream this asks for.

        Channels are always analysed apart, whatever ``multichannel`` says: a mixture of two people
        has no emotion.

        Args:
            default_roles: of a call's two sides, where the query names none.
            found: encoding, sample rate (None: what the codec says) and channels by the audio's
                own header; None without one.

        Raises:
            ProtocolError: BAD_FORMAT or BAD_START.
        """
        if found is None:
            assert self.encoding is not None, "without an encoding there is a header"
            # Roles count channels where the query does not.
            num_channels = self.num_channels or max(1, len(self.roles))
            found = (self.encoding, self.sample_rate_hz, num_channels)
        encoding, sample_rate_hz, num_channels = found
        if num_channels > MAX_CHANNELS:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT, f"got {num_channels} channels, expected 1 to {MAX_CHANNELS}"
            )
        roles = self.roles or (
            default_roles if num_channels == 2 else (_DEFAULT_ROLE,) * num_channels
        )
        if len(roles) != num_channels:
            raise _bad(f"{len(roles)} roles for {num_channels} channels", "one a channel")
        return check_start(
            Start(
                encoding=encoding,
                sample_rate=sample_rate_hz,
                channels=tuple(ChannelSpec(role=role) for role in roles),
                name=self.name,
                metadata={**self.metadata, **(more_metadata or {})},
                wants=("points", "segments"),
                live=self.live,
                token=self.token,
            )
        )


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_START, f"got {got} in the query, expected {expected}")


def _values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            continue
        if name in values:
            raise _bad(f"'{name}' more than once", "it once")
        values[name] = value
    return values


def _encoding(values: dict[str, str]) -> tuple[str | None, int | None]:
    asked = values.get("encoding")
    if asked is None:
        # Deepgram's rule: a client that sends a container names neither; its header is believed.
        return None, None
    encoding = _ENCODINGS.get(asked)
    if encoding is None:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"got encoding {shown(asked)}, expected {', '.join(_ENCODINGS)}, or no encoding and"
            " audio that begins with a header: WAV, WebM, Ogg, MP4, FLAC, MP3, AAC or AMR",
        )
    if encoding in CODED:
        # What its samples are brought to. Clients tell that of their microphone, or of the codec.
        rate_hz = _number(values, "sample_rate") if "sample_rate" in values else None
        return encoding, rate_hz if rate_hz in SAMPLE_RATES_HZ else None
    if "sample_rate" not in values:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT, f"got encoding '{asked}' without sample_rate, expected both"
        )
    return encoding, _number(values, "sample_rate")


def _num_channels(values: dict[str, str]) -> int | None:
    if "channels" not in values:
        return None
    num_channels = _number(values, "channels")
    if not 1 <= num_channels <= MAX_CHANNELS:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT, f"got {num_channels} channels, expected 1 to {MAX_CHANNELS}"
        )
    return num_channels


def _utterance_end_ms(values: dict[str, str]) -> int:
    if values.get("utterance_end_ms", "false").lower() == "false":
        return 0
    length_ms = _number(values, "utterance_end_ms")
    if length_ms > _MAX_UTTERANCE_END_MS:
        raise _bad(f"utterance_end_ms={length_ms}", f"0 to {_MAX_UTTERANCE_END_MS} ms")
    return length_ms


def _transcript(values: dict[str, str], default: str) -> bool:
    if values.get("model", "").lower() in LABEL_MODELS:
        default = "label"
    asked = values.get("transcript", default)
    if asked not in ("none", "label"):
        raise _bad(f"transcript={shown(asked)}", "label or none")
    return asked == "label"


def _number(values: dict[str, str], name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", values[name]):
        raise _bad(f"{name}={shown(values[name])}", "a whole number")
    return int(values[name])


def _flag(values: dict[str, str], name: str, *, default: bool = False) -> bool:
    # Python clients write 'True'.
    text = values.get(name, str(default)).lower()
    if text not in ("true", "false"):
        raise _bad(f"{name}={shown(values[name])}", "true or false")
    return text == "true"


def _roles(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    listed = [value for name, value in pairs if name in ("role", "roles")]
    return tuple(",".join(listed).split(",")) if listed else ()


def _metadata(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for name, value in pairs:
        # Deepgram's syntax: extra=KEY:VALUE, any number of times.
        if name == "extra":
            key, _, text = value.partition(":")
            metadata[key] = text
    if tags := [value for name, value in pairs if name == "tag"]:
        metadata["tag"] = ",".join(tags)
    return metadata
