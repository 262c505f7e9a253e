"""Messages and errors of ``/v1/listen``, in Deepgram's form; fields of ours are marked so."""

from __future__ import annotations

import msgspec

from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Error as NativeError


class _Struct(msgspec.Struct, frozen=True, kw_only=True):
    pass


class _Message(_Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class Word(_Struct, frozen=True, kw_only=True):
    """Only with ``transcript=label``: the label as if it had been spoken."""

    word: str
    start: float
    end: float
    confidence: float
    punctuated_word: str


class Alternative(_Struct, frozen=True, kw_only=True):
    """The transcript, which is empty, with the emotion's confidence."""

    transcript: str
    confidence: float
    words: tuple[Word, ...] = ()


class Channel(_Struct, frozen=True, kw_only=True):
    """One channel; ``role`` is ours."""

    alternatives: tuple[Alternative, ...]
    role: str


class ModelInfo(_Struct, frozen=True, kw_only=True):
    """The model; ``licence`` and ``notice`` are ours."""

    name: str
    version: str
    arch: str
    licence: str
    notice: str


class ResultsMetadata(_Struct, frozen=True, kw_only=True):
    """What made a result; ``stream_id`` is ours: it names the stream in feeds and dashboard."""

    request_id: str
    model_info: ModelInfo
    model_uuid: str
    stream_id: str


class Emotion(_Struct, frozen=True, kw_only=True):
    """Ours.

    Attributes:
        label: the stable label; None: unclear.
        best: the label, or the likeliest one.
        confidence: of ``best``, 0 to 1.
        posteriors: by name, 0 to 1.
        speech_share: speech over all time, 0 to 1.
        narrow_band: the audio holds nothing above 4 kHz.
    """

    label: str | None
    best: str
    confidence: float
    posteriors: dict[str, float]
    speech_share: float
    provisional: bool
    narrow_band: bool


class GapNotice(_Struct, frozen=True, kw_only=True):
    """Ours: why there is no result for a span, as in ``docs/reference/protocol.md``."""

    reason: str


class Results(_Message, tag="Results", frozen=True, kw_only=True, omit_defaults=True):
    """A span of one channel; ``emotion`` and ``gap`` are ours.

    Attributes:
        channel_index: number of the channel and of channels.
        duration: s.
        start: s from the start of the stream.
        is_final: no other result of this span will follow.
        emotion: None without speech.
        gap: only where ``gaps`` was asked for.
    """

    channel_index: tuple[int, int]
    duration: float
    start: float
    is_final: bool
    speech_final: bool
    channel: Channel
    metadata: ResultsMetadata
    emotion: Emotion | None
    from_finalize: bool
    gap: GapNotice | None = None


class Metadata(_Message, tag="Metadata", frozen=True, kw_only=True):
    """The last message; ``stream_id`` is ours.

    Attributes:
        created: when the request was made, ISO 8601, UTC.
        duration: of the audio, s.
        channels: number of them; 0: there was no audio.
        models: identifiers of the models used.
    """

    transaction_key: str
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int
    models: tuple[str, ...]
    model_info: dict[str, ModelInfo]
    stream_id: str


class SpeechStarted(_Message, tag="SpeechStarted", frozen=True, kw_only=True):
    """Speech after a pause; ``timestamp`` in s."""

    channel: tuple[int, int]
    timestamp: float


class UtteranceEnd(_Message, tag="UtteranceEnd", frozen=True, kw_only=True):
    """A pause has lasted; ``last_word_end`` is where speech ended, s."""

    channel: tuple[int, int]
    last_word_end: float


class ConfigureSuccess(_Message, tag="ConfigureSuccess", frozen=True, kw_only=True):
    """The answer to ``Configure``, which changes nothing here."""

    request_id: str


class Error(_Message, tag="Error", frozen=True, kw_only=True):
    """Something went wrong.

    Attributes:
        description: what was got and expected, and what to do.
        message: the same, or the message that was not understood.
    """

    variant: str
    description: str
    message: str


ListenMessage = Results | Metadata | SpeechStarted | UtteranceEnd | ConfigureSuccess | Error

_encoder = msgspec.json.Encoder()


def encode(message: ListenMessage) -> str:
    return _encoder.encode(message).decode()


_CLOSE_CODES = {
    ErrorCode.MESSAGE_TOO_BIG: 1009,
    ErrorCode.SHUTTING_DOWN: 1001,
    ErrorCode.IDLE: 1011,
    ErrorCode.SLOW_CONSUMER: 1011,
    ErrorCode.ENGINE_FAILED: 1011,
    ErrorCode.INTERNAL: 1011,
    ErrorCode.SERVER_FULL: 1013,
    ErrorCode.NOT_READY: 1013,
}
"""Others are the client's doing: 1008."""

_VARIANTS = {
    ErrorCode.IDLE: "NET-0001",
    ErrorCode.NOT_STARTED: "NET-0001",
    ErrorCode.SLOW_CONSUMER: "NET-0000",
    ErrorCode.BAD_FORMAT: "DATA-0000",
    ErrorCode.BAD_AUDIO: "DATA-0000",
    ErrorCode.BAD_MESSAGE: "SchemaError",
    ErrorCode.UNKNOWN_MESSAGE: "SchemaError",
}
"""Deepgram's names for what has one; others keep theirs, in capitals."""

_REMEDIES = {
    ErrorCode.IDLE: "Send audio, or KeepAlive while there is none.",
    ErrorCode.NOT_STARTED: "Send audio that begins with a WAV header, or name encoding and"
    " sample_rate in the query.",
    ErrorCode.BAD_MESSAGE: "Send KeepAlive, Finalize, CloseStream or Configure.",
    ErrorCode.UNKNOWN_MESSAGE: "Send KeepAlive, Finalize, CloseStream or Configure.",
    ErrorCode.BAD_START: "Correct the query and connect again.",
    ErrorCode.BAD_FORMAT: "Send linear16, linear32, mulaw, alaw or WAV.",
    ErrorCode.UNAUTHORIZED: "Send 'Authorization: Token KEY', or ask for the WebSocket"
    " subprotocols 'token' and KEY.",
    ErrorCode.UNKNOWN_PATH: "Connect to the path '/v1/listen'.",
}
"""Where the native protocol's advice does not fit."""

_HTTP_CODES = {
    400: "Bad Request",
    401: "INVALID_AUTH",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    429: "TOO_MANY_REQUESTS",
    503: "SERVICE_UNAVAILABLE",
}

_MAX_REASON_BYTES = 123
"""A control frame has 125 bytes, two of which are the code (RFC 6455, section 5.5)."""


def close_frame(error: ProtocolError) -> tuple[int, str]:
    # Deepgram closes with 1008 for DATA-0000, and with 1011 for NET-0000 and NET-0001.
    code = _CLOSE_CODES.get(error.code, 1008)
    # Cut in bytes, not characters: a split character is dropped by ``ignore`` below.
    reason = f"{_variant(error.code)}: {error}".encode()[:_MAX_REASON_BYTES]
    return code, reason.decode(errors="ignore")


def error_message(error: NativeError) -> Error:
    code = ErrorCode(error.code)
    text = f"{error.message}. {remedy_of(code, error.remedy)}"
    return Error(variant=_variant(code), description=text, message=text)


def http_error_code(http_status: int) -> str:
    return _HTTP_CODES.get(http_status, "INTERNAL_SERVER_ERROR")


def remedy_of(code: ErrorCode, native: str) -> str:
    """Return what a client can do about an error."""
    return _REMEDIES.get(code, native)


def _variant(code: ErrorCode) -> str:
    return _VARIANTS.get(code, code.value.upper())
