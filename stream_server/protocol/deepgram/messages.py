"""Messages of ``/v1/listen``, in Deepgram's form; fields of ours are marked so."""

from __future__ import annotations

import msgspec

__all__ = [
    "Alternative",
    "Channel",
    "ConfigureSuccess",
    "Emotion",
    "Error",
    "GapNotice",
    "ListenMessage",
    "Metadata",
    "ModelInfo",
    "Results",
    "ResultsMetadata",
    "SpeechStarted",
    "UtteranceEnd",
    "Word",
    "encode",
]


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
    """What was said: nothing, with the emotion's confidence."""

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
        label: the stable label.
        confidence: of the label, 0 to 1.
        posteriors: by name, 0 to 1.
        speech_share: speech over all time, 0 to 1.
        provisional: from less audio than a sound result takes.
        narrow_band: the audio holds nothing above 4 kHz.
    """

    label: str
    confidence: float
    posteriors: dict[str, float]
    speech_share: float
    provisional: bool
    narrow_band: bool


class GapNotice(_Struct, frozen=True, kw_only=True):
    """Ours: why there is no result for a span, as in ``docs/protocol.md``."""

    reason: str


class Results(_Message, tag="Results", frozen=True, kw_only=True, omit_defaults=True):
    """A stretch of one channel; ``emotion`` and ``gap`` are ours.

    Attributes:
        channel_index: number of the channel and of channels.
        duration: s.
        start: s from the start of the stream.
        is_final: nothing else will be said of this span.
        speech_final: a pause follows.
        channel: with the alternatives clients read.
        metadata: of the model.
        emotion: None: nobody speaks.
        from_finalize: it answers ``Finalize``.
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
        sha256: of the audio as it came, hex.
        created: when the request was made, ISO 8601, UTC.
        duration: of the audio, s.
        channels: number of them; 0: there was no audio.
        models: identifiers of the models used.
        model_info: of each of them.
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
        variant: what kind of error.
        description: what was got and expected, and what to do.
        message: the same, or the message that was not understood.
    """

    variant: str
    description: str
    message: str


ListenMessage = Results | Metadata | SpeechStarted | UtteranceEnd | ConfigureSuccess | Error

_encoder = msgspec.json.Encoder()


def encode(message: ListenMessage) -> str:
    """Return a message as JSON text."""
    return _encoder.encode(message).decode()
