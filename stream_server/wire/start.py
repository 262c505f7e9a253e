"""From a client's first message, ``start`` or a query, to a checked :class:`StreamSpec`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from stream_server.wire.audio_format import MAX_CHANNELS, AudioFormat
from stream_server.wire.codecs import CODED
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import (
    PROTOCOL_VERSION,
    ChannelSpec,
    ResumeRequest,
    SpeakerTold,
    Start,
    Told,
    Want,
)
from stream_server.wire.results import NOTHING_TOLD, STATUSES, ConsentStatus, Standing

SpeakersAsked = Literal["", "apart", "agent_first"]
"""Whether the speakers of a channel are told apart; ``agent_first``: and whoever speaks first is
left out."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A checked ``start``.

    Attributes:
        channels: one entry a channel, in the order of the interleaved samples.
        live: whether the audio is live; a recording can wait.
        resume: set if it continues an earlier stream.
        token: access token; "" if a header carried it or none is needed.
        team: whose stream it is, once that is decided; "": nobody's in particular.
        standing: what is known of consent and notice.
        window_ms, step_ms: what the client asks for; None: nothing. Whether the server gives it is
            not known yet.
        call_id: a telephone platform's own id of the call, which the log may show; "" where it may
            be a person's name.
    """

    format: AudioFormat
    channels: tuple[ChannelSpec, ...]
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    wants: frozenset[Want] = frozenset(("points", "segments", "alerts"))
    live: bool = True
    resume: ResumeRequest | None = None
    token: str = field(default="", repr=False)
    team: str = ""
    standing: Standing = NOTHING_TOLD
    speakers: SpeakersAsked = ""
    window_ms: int | None = None
    step_ms: int | None = None
    call_id: str = ""


MAX_TEXT_LENGTH = 256
"""Characters of a name, a metadata key or value, a mark."""
MAX_METADATA_ENTRIES = 32
MAX_TOKEN_LENGTH = 1024
MAX_SPAN_SAMPLES = 7 * 24 * 3600 * 48_000
"""Largest position and largest span: a week at 48 kHz, the longest stream settings allow."""

CONSENT_FIELDS = (
    "consent",
    "consent_source",
    "notice_version",
    "notice_language",
    "notice_how",
)
"""Fields of ``start``, parameters of a query, and names of metadata, by which platforms that pass
parameters on can say the same."""

_ROLE = re.compile(r"[a-z0-9_-]{1,32}")
_SPEAKER = re.compile(r"speaker [1-9][0-9]{0,3}")
_WANTS: tuple[str, ...] = get_args(Want)
_QUERY_KEYS = (
    "encoding",
    "sample_rate",
    "channels",
    "roles",
    "names",
    "name",
    "wants",
    "live",
    "version",
    "speakers",
    "window_ms",
    "step_ms",
    *CONSENT_FIELDS,
)
_METADATA_PREFIX = "meta."
_DEFAULT_ENCODING = "pcm_s16le"
_DEFAULT_SAMPLE_RATE_HZ = 16_000


def check_start(start: Start) -> StreamSpec:
    """Check a ``start``.

    Raises:
        ProtocolError: ``UNSUPPORTED_VERSION``, ``BAD_FORMAT`` or ``BAD_START``.
    """
    if start.version != PROTOCOL_VERSION:
        raise ProtocolError(
            ErrorCode.UNSUPPORTED_VERSION,
            f"got version {shown(start.version)}, expected {PROTOCOL_VERSION}",
        )
    spec_format = AudioFormat.told(start.encoding, start.sample_rate, len(start.channels))
    for index, channel in enumerate(start.channels):
        if not _ROLE.fullmatch(channel.role):
            raise _bad(
                f"role {shown(channel.role)} of channel {index}",
                "1 to 32 of the characters a-z, 0-9, '_' and '-'",
            )
        _check_start_text(f"the name of channel {index}", channel.name)
    _check_start_text("name", start.name)
    _check_metadata(start.metadata)
    if start.resume is not None:
        _check_resume(start.resume)
    _check_token("token", start.token)
    return StreamSpec(
        format=spec_format,
        channels=start.channels,
        name=start.name,
        metadata=start.metadata,
        wants=_check_wants(start.wants),
        live=start.live,
        resume=start.resume,
        token=start.token,
        standing=_standing(start),
        speakers=_speakers(start),
        window_ms=start.window_ms,
        step_ms=start.step_ms,
    )


def start_from_query(query: Mapping[str, str]) -> Start:
    """Return the ``start`` of a URL's query, not yet checked.

    Args:
        query: names and values, decoded.

    Raises:
        ProtocolError: ``BAD_START``.
    """
    # Unknown fields of messages are ignored, so that later versions can add some. In a query a
    # mistyped ``sample_rate`` would silently become the default, and give wrong results.
    for key in query:
        if key not in _QUERY_KEYS and not key.startswith(_METADATA_PREFIX):
            advice = "; an access token goes into a header or 'start'" if key == "token" else ""
            raise _bad(
                f"{shown(key)} in the query",
                f"{', '.join(_QUERY_KEYS)} and {_METADATA_PREFIX}NAME{advice}",
            )
    encoding = query.get("encoding", _DEFAULT_ENCODING)
    # Of a codec the default is its own.
    is_rate_told = encoding not in CODED or "sample_rate" in query
    return Start(
        encoding=encoding,
        sample_rate=(
            _whole_number(query, "sample_rate", _DEFAULT_SAMPLE_RATE_HZ) if is_rate_told else None
        ),
        channels=_query_channels(query),
        name=query.get("name", ""),
        metadata={
            key.removeprefix(_METADATA_PREFIX): value
            for key, value in query.items()
            if key.startswith(_METADATA_PREFIX)
        },
        wants=_query_wants(query),
        live=_query_live(query),
        consent=query.get("consent", ""),
        consent_source=query.get("consent_source", ""),
        notice_version=query.get("notice_version", ""),
        notice_language=query.get("notice_language", ""),
        notice_how=query.get("notice_how", ""),
        speakers=query.get("speakers", ""),
        window_ms=_asked_number(query, "window_ms"),
        step_ms=_asked_number(query, "step_ms"),
        version=_whole_number(query, "version", PROTOCOL_VERSION),
    )


def check_text(what: str, text: str, code: ErrorCode) -> None:
    """Raise ``ProtocolError(code)`` unless ``text`` is short and can be stored."""
    if len(text) > MAX_TEXT_LENGTH:
        raise ProtocolError(
            code,
            f"got {len(text)} characters for {what}, expected at most {MAX_TEXT_LENGTH}",
        )
    for character in text:
        number = ord(character)
        # PostgreSQL refuses U+0000, UTF-8 lone surrogates; other control characters garble logs.
        if number < 0x20 or number == 0x7F or 0xD800 <= number <= 0xDFFF:
            raise ProtocolError(
                code,
                f"got the character U+{number:04X} in {what}, expected no control characters",
            )


def check_span(what: str, samples: int) -> None:
    """Raise ``ProtocolError(BAD_MESSAGE)`` unless ``samples`` can be a length."""
    if not 0 <= samples <= MAX_SPAN_SAMPLES:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"got {shown(samples)} for {what}, expected 0 to {MAX_SPAN_SAMPLES}",
        )


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_START, f"got {got}, expected {expected}")


def _standing(start: Start) -> Standing:
    told = {name: getattr(start, name) or start.metadata.get(name, "") for name in CONSENT_FIELDS}
    for name, text in told.items():
        _check_start_text(name, text)
    consent = told["consent"] or "unknown"
    if consent not in STATUSES:
        raise _bad(f"consent {shown(consent)}", f"one of {', '.join(STATUSES)}")
    return Standing(
        consent=cast(ConsentStatus, consent),
        source=told["consent_source"],
        notice_version=told["notice_version"],
        notice_language=told["notice_language"],
        notice_how=told["notice_how"],
    )


def _speakers(start: Start) -> SpeakersAsked:
    # Platforms pass parameters on as metadata, as with consent.
    asked = start.speakers or start.metadata.get("speakers", "")
    if asked not in get_args(SpeakersAsked):
        raise _bad(f"speakers {shown(asked)}", "apart or agent_first")
    return cast(SpeakersAsked, asked)


def check_told(told: Told) -> None:
    """Raise ``ProtocolError(BAD_MESSAGE)`` unless what was told can be kept."""
    if isinstance(told, SpeakerTold):
        if not _SPEAKER.fullmatch(told.speaker):
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"got speaker {shown(told.speaker)}, expected a name from the results,"
                " such as speaker 1",
            )
        return
    if told.consent is not None and told.consent not in STATUSES:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"got consent {shown(told.consent)}, expected one of {', '.join(STATUSES)}",
        )
    for name in ("source", "notice_version", "notice_language", "notice_how"):
        if (text := getattr(told, name)) is not None:
            check_text(f"{name} of 'tell_consent'", text, ErrorCode.BAD_MESSAGE)


def _check_start_text(what: str, text: str) -> None:
    check_text(what, text, ErrorCode.BAD_START)


def _check_token(what: str, token: str) -> None:
    if len(token) > MAX_TOKEN_LENGTH:
        raise _bad(f"{len(token)} characters for {what}", f"at most {MAX_TOKEN_LENGTH}")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise _bad(f"{len(metadata)} entries of metadata", f"at most {MAX_METADATA_ENTRIES}")
    for key, value in metadata.items():
        if not key:
            raise _bad("an empty name in metadata", "1 or more characters")
        _check_start_text("a name in metadata", key)
        _check_start_text(f"metadata {shown(key)}", value)


def _check_wants(wants: tuple[Want, ...]) -> frozenset[Want]:
    for index, want in enumerate(wants):
        if want not in _WANTS:
            raise _bad(f"{shown(want)} in wants", f"one of {', '.join(_WANTS)}")
        if want in wants[:index]:
            raise _bad(f"'{want}' twice in wants", "each once")
    # Frames are sent inside points.
    chosen = frozenset(wants)
    return chosen | {"points"} if "frames" in chosen else chosen


def _check_resume(resume: ResumeRequest) -> None:
    if not resume.token:
        raise _bad("an empty resume.token", "resume_token of the stream's 'ready'")
    _check_token("resume.token", resume.token)
    if not 0 <= resume.next_sample <= MAX_SPAN_SAMPLES:
        raise _bad(f"resume.next_sample {shown(resume.next_sample)}", f"0 to {MAX_SPAN_SAMPLES}")
    if resume.next_byte is not None and not 0 <= resume.next_byte <= MAX_SPAN_SAMPLES:
        raise _bad(f"resume.next_byte {shown(resume.next_byte)}", f"0 to {MAX_SPAN_SAMPLES}")
    if resume.last_seq < -1:
        raise _bad(f"resume.last_seq {shown(resume.last_seq)}", "-1 or more")


def _whole_number(query: Mapping[str, str], key: str, default: int) -> int:
    text = query.get(key)
    if text is None:
        return default
    # Neither the signs, spaces, underscores and digits of other scripts that int() takes, nor
    # more digits than any value has.
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _bad(f"{key} {shown(text)} in the query", "a whole number")
    return int(text)


def _asked_number(query: Mapping[str, str], key: str) -> int | None:
    return _whole_number(query, key, 0) if key in query else None


def _query_channels(query: Mapping[str, str]) -> tuple[ChannelSpec, ...]:
    roles = query["roles"].split(",") if "roles" in query else None
    names = query["names"].split(",") if "names" in query else None
    listed = next((entries for entries in (roles, names) if entries is not None), None)
    num_channels = _whole_number(query, "channels", 1 if listed is None else len(listed))
    if num_channels > MAX_CHANNELS:
        # Checked here: AudioFormat would see it only after a list of that length was made.
        raise ProtocolError(
            ErrorCode.BAD_FORMAT, f"got {num_channels} channels, expected 1 to {MAX_CHANNELS}"
        )
    for key, entries in (("roles", roles), ("names", names)):
        if entries is not None and len(entries) != num_channels:
            raise _bad(
                f"{len(entries)} {key} for {num_channels} channels in the query",
                "one a channel, separated by commas",
            )
    default = ChannelSpec()
    return tuple(
        ChannelSpec(
            role=default.role if roles is None else roles[index],
            name=default.name if names is None else names[index],
        )
        for index in range(num_channels)
    )


def _query_live(query: Mapping[str, str]) -> bool:
    live = query.get("live", "true")
    if live not in ("true", "false"):
        raise _bad(f"live={shown(live)} in the query", "true or false")
    return live == "true"


def _query_wants(query: Mapping[str, str]) -> tuple[Want, ...]:
    if "wants" not in query:
        return ("points", "segments", "alerts")
    # check_start refuses unknown ones.
    return cast(tuple[Want, ...], tuple(query["wants"].split(",")) if query["wants"] else ())
