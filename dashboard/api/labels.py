"""What people say of streams and files, and the form of it, the same for both.

What they hear, beside what the model says, and whose voices they are.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import msgspec

from dashboard.errors import ApiError
from ser_engine.files.annotations import UNCLEAR, Tier, agreement

MAX_S = 1e9
"""The largest moment there is, s."""


class LabelSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What a person hears in a part of a channel: a class of the model, or ``unclear``."""

    start_s: float
    end_s: float
    label: str


class GivenLabels(msgspec.Struct, frozen=True, kw_only=True):
    """All that the person who sends it hears in a channel; what was there before goes."""

    labels: Annotated[list[LabelSpan], msgspec.Meta(max_length=2000)]


class AgreementView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a person and the model agree, over the time in which both say something.

    Attributes:
        seconds: that time.
        share: part of it in which they say the same, 0 to 1.
        kappa: Cohen's, weighted by time; null: too little is said to tell it from chance.
        confusion: seconds by the person's label and the model's.
    """

    seconds: float
    share: float
    kappa: float | None
    confusion: dict[str, dict[str, float]]


class LabelTier(msgspec.Struct, frozen=True, kw_only=True):
    """The labels of one person for one channel; ``agreement`` null: it is not analysed."""

    who: str
    channel: int
    labels: list[LabelSpan]
    agreement: AgreementView | None


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What people hear in a stream or file."""

    tiers: list[LabelTier]


MAX_NAME_LENGTH = 80
_SPEAKER = re.compile(r"speaker [1-9]\d{0,3}")


class NamedSpeaker(msgspec.Struct, frozen=True, kw_only=True):
    """What people call a speaker.

    Attributes:
        speaker: the name in results, such as ``speaker 1``.
        name: what it is called from now on; "": as in results.
    """

    speaker: str
    name: str


def checked_name(named: NamedSpeaker) -> NamedSpeaker:
    """Return a speaker with its name as it is kept.

    Raises:
        ApiError: that is no speaker, or no name.
    """
    if not _SPEAKER.fullmatch(named.speaker):
        raise ApiError(
            "bad_request",
            f"got speaker '{named.speaker[:60]}', expected a name of results, such as speaker 1",
        )
    name = named.name.strip()
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ApiError(
            "bad_request",
            f"got a name of {len(name)} characters, expected one line of {MAX_NAME_LENGTH} at most",
        )
    return NamedSpeaker(speaker=named.speaker, name=name)


def checked_spans(labels: Sequence[LabelSpan], classes: Collection[str]) -> list[LabelSpan]:
    """Return the labels in order.

    Raises:
        ApiError: one is no class, ends before it begins, or overlaps another.
    """
    spans = sorted(labels, key=lambda span: span.start_s)
    allowed = {*classes, UNCLEAR}
    for before, span in itertools.pairwise([None, *spans]):
        assert span is not None, "only the first one is None"
        if span.label not in allowed:
            raise ApiError(
                "bad_request", f"got the label '{span.label[:60]}', expected a class of the model"
            )
        if not 0 <= span.start_s < span.end_s <= MAX_S:
            raise ApiError("bad_request", "got a label that ends before it begins")
        if before is not None and span.start_s < before.end_s:
            raise ApiError("bad_request", "got labels that overlap, expected one at a time")
    return spans


def labels_view(people: Mapping[tuple[str, int], Tier], ours: Mapping[int, Tier]) -> Labels:
    """Return the tiers of people, by who and channel, and how they agree with the model's."""
    return Labels(
        tiers=[
            LabelTier(
                who=who,
                channel=channel,
                labels=[
                    LabelSpan(start_s=each.start_s, end_s=each.end_s, label=each.text)
                    for each in tier.intervals
                ],
                agreement=AgreementView(**asdict(agreement(tier, ours[channel])))
                if channel in ours
                else None,
            )
            for (who, channel), tier in people.items()
        ]
    )
