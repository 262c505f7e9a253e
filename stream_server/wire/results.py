"""Results as messages: the engine's own (:mod:`ser_engine.schema`) in an envelope.

The envelope says which stream a result is about and where it stands among that stream's results. On
the wire it is flat: its fields lie beside those of the result and the ``type``. What only a server
can say (a stream began, ended, reached a mark) is defined here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

from ser_engine import schema
from ser_engine.schema import (
    CloseReason,
    GapReason,
    LastingState,
    ModelNotice,
    StreamWarningCode,
)


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """JSON object with a ``type``; unknown fields are ignored.

    It has no fields: CPython lets a struct inherit from two only if one of them has none.
    """


class StreamChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel as the server sees it.

    Attributes:
        index: number of the channel, from 0.
        analysed: False: its role is not analysed, there are no results for it.
    """

    index: int
    role: str
    name: str
    analysed: bool


# The envelope of every result below:
#   stream_id  which stream it is about;
#   seq        number of the result in its stream, from 0, without holes;
# and of results about a span:
#   channel    index of the channel, from 0;
#   role       of that channel.


class Point(schema.Point, Message, tag="point", frozen=True, kw_only=True):
    """A point of a stream.

    Attributes:
        model: names what made it.
        lasting: how the channel has been for the last half minute of speech; left out unless a feed
            was asked for it (``states=true``).
    """

    stream_id: str
    seq: int
    channel: int
    role: str
    model: str
    lasting: LastingState | UnsetType = UNSET


class Segment(schema.Segment, Message, tag="segment", frozen=True, kw_only=True):
    """A segment of a stream."""

    stream_id: str
    seq: int
    channel: int
    role: str


class Gap(schema.Gap, Message, tag="gap", frozen=True, kw_only=True):
    """A gap of a stream."""

    stream_id: str
    seq: int
    channel: int
    role: str


class Alert(schema.Alert, Message, tag="alert", frozen=True, kw_only=True):
    """An alert about a stream."""

    stream_id: str
    seq: int


class Warning(schema.Warning, Message, tag="warning", frozen=True, kw_only=True):
    """A warning about a stream; ``channel`` None: about the stream as a whole."""

    stream_id: str
    seq: int
    channel: int | None
    code: StreamWarningCode


class Measures(schema.Measures, Message, tag="measures", frozen=True, kw_only=True):
    """The conversation of a stream so far; a later one replaces it."""

    stream_id: str
    seq: int


ConsentStatus = Literal["given", "refused", "unknown"]
"""``unknown``: nobody has said."""

STATUSES: tuple[ConsentStatus, ...] = get_args(ConsentStatus)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the people in a stream.

    Attributes:
        source: who or what says so, e.g. ``ivr``, ``checkbox``, ``api:crm``; "": not told.
        notice_version: which version of the notice they were given; "": none that is known of.
        notice_language: its language; "": not told.
        notice_how: how it was given, e.g. ``spoken``, ``shown``; "": not told.
    """

    consent: ConsentStatus = "unknown"
    source: str = ""
    notice_version: str = ""
    notice_language: str = ""
    notice_how: str = ""

    def changed(self, told: Mapping[str, str | None]) -> Standing:
        """Return it with what was told since, by field; None: nothing was said of that."""
        said: dict[str, Any] = {name: text for name, text in told.items() if text is not None}
        # A source belongs to what it says; it is not that of a later word.
        if "consent" in said:
            said.setdefault("source", "")
        return replace(self, **said)


NOTHING_TOLD = Standing()


class Consent(Message, tag="consent", frozen=True, kw_only=True):
    """What is known of consent and notice, at the beginning where it matters, and at each change.

    Attributes:
        withheld: why nothing is analysed or recorded from here on; None: it is.
        at_s: where it was told, on the stream's clock.
        told_at: seconds since 1970, UTC.
    """

    stream_id: str
    seq: int
    consent: ConsentStatus
    source: str
    notice_version: str
    notice_language: str
    notice_how: str
    withheld: GapReason | None
    at_s: float
    told_at: float


class Summary(schema.Summary, Message, tag="summary", frozen=True, kw_only=True):
    """A stream as a whole, once it has ended; only ``stream_closed`` comes after it."""

    stream_id: str
    seq: int


class Marked(Message, tag="marked", frozen=True, kw_only=True):
    """A client's ``mark``, at its position in the audio."""

    stream_id: str
    seq: int
    name: str
    at_sample: int
    at_s: float


class Flushed(Message, tag="flushed", frozen=True, kw_only=True):
    """Everything up to here is published, as ``flush`` asked."""

    stream_id: str
    seq: int
    at_sample: int
    at_s: float


class StreamOpened(Message, tag="stream_opened", frozen=True, kw_only=True):
    """The first result of a stream; feeds, store and dashboard get it, the client has ``ready``.

    Attributes:
        labels: names of the classes, in the order of ``posteriors``.
        sample_rate: of the client's audio, Hz.
        step_ms: time between points.
        opened_at: seconds since 1970, UTC.
        continues: id of the stream that the same client was in before: that one could not be
            resumed. None: there was none.
        team: whose stream it is; "": of no team.
        model_sha256: of the model's weights as published, hex, or "".
    """

    stream_id: str
    seq: int
    name: str
    channels: tuple[StreamChannel, ...]
    model: ModelNotice
    labels: tuple[str, ...]
    metadata: dict[str, str]
    sample_rate: int
    encoding: str
    step_ms: int
    opened_at: float
    continues: str | None = None
    team: str = ""
    model_sha256: str = ""


class StreamClosed(Message, tag="stream_closed", frozen=True, kw_only=True):
    """A stream has ended; feeds, store and dashboard get it after ``summary``.

    Attributes:
        closed_at: seconds since 1970, UTC.
    """

    stream_id: str
    seq: int
    reason: CloseReason
    closed_at: float


Result = (
    StreamOpened
    | Point
    | Segment
    | Gap
    | Marked
    | Flushed
    | Alert
    | Warning
    | Measures
    | Consent
    | Summary
    | StreamClosed
)
"""What is published about a stream, in order of ``seq``."""

R = TypeVar("R", bound=Message)


def in_envelope(message: type[R], result: msgspec.Struct, **envelope: Any) -> R:
    """Return a result of the engine as a message."""
    # Not structs.asdict: that would copy every frame of a point, these are shared.
    fields = {name: getattr(result, name) for name in result.__struct_fields__}
    return message(**fields, **envelope)
