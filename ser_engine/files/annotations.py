"""Timelines as annotations that other programs open: Praat, ELAN, Audacity.

A channel becomes one tier of labelled intervals (``unclear`` where there is no label), with a
second one of speakers where they were told apart. Gaps stay without an interval, or with an empty
one where the format wants time to be covered.

Formats: TextGrid as Praat's manual describes it ("TextGrid file formats", the long text form); EAF
3.0 (Max Planck Institute, "ELAN Annotation Format"); Audacity's label track, a line an interval of
start, end and text with tabs between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from ser_engine.schema import FileResult, Gap, Segment

AnnotationFormat = Literal["textgrid", "eaf", "audacity"]

SUFFIXES: dict[AnnotationFormat, str] = {
    "textgrid": ".TextGrid",
    "eaf": ".eaf",
    "audacity": ".labels.txt",
}

UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Interval:
    """Labelled time, in seconds; ``text`` is never empty."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Tier:
    """Intervals in order of time, without overlap."""

    name: str
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two tiers say the same, over the time in which both say something.

    Attributes:
        seconds: that time.
        share: part of it with equal texts, 0 to 1.
        kappa: Cohen's, weighted by time: ``(share - chance) / (1 - chance)``. None: there is no
            time, or both have one and the same text all of it, so that chance alone agrees.
        confusion: seconds by the text of the one and that of the other.
    """

    seconds: float
    share: float
    kappa: float | None
    confusion: dict[str, dict[str, float]]


def agreement(one: Tier, other: Tier) -> Agreement:
    """Hold two tiers against each other (Cohen 1960, with seconds in place of items)."""
    confusion: dict[str, dict[str, float]] = {}
    rows: dict[str, float] = {}
    columns: dict[str, float] = {}
    total = equal = 0.0
    at = 0
    for interval in one.intervals:
        # Both are in order of time: what ended before this one is not looked at again.
        while at < len(other.intervals) and other.intervals[at].end_s <= interval.start_s:
            at += 1
        for against in other.intervals[at:]:
            if against.start_s >= interval.end_s:
                break
            seconds = min(interval.end_s, against.end_s) - max(interval.start_s, against.start_s)
            row = confusion.setdefault(interval.text, {})
            row[against.text] = row.get(against.text, 0.0) + seconds
            rows[interval.text] = rows.get(interval.text, 0.0) + seconds
            columns[against.text] = columns.get(against.text, 0.0) + seconds
            total += seconds
            equal += seconds if interval.text == against.text else 0.0
    if total == 0:
        return Agreement(0.0, 0.0, None, {})
    share = equal / total
    chance = sum(rows[text] * columns.get(text, 0.0) for text in rows) / total**2
    kappa = None if chance >= 1 - 1e-12 else (share - chance) / (1 - chance)
    return Agreement(total, share, kappa, confusion)


def tiers_of_result(result: FileResult) -> list[Tier]:
    """Return the tiers of a file: segments, or of an utterance its pieces."""
    tiers = []
    for channel in result.channels:
        name = f"emotion {channel.channel}"
        if result.granularity == "utterance":
            intervals = tuple(
                Interval(piece.start_s, piece.end_s, piece.label or UNCLEAR)
                for piece in channel.pieces
                if piece.has_speech
            )
        else:
            intervals = _intervals(channel.segments)
        tiers.append(Tier(name, intervals))
        turns = sorted(
            (turn.start_s, turn.end_s, speaker.name)
            for speaker in channel.speakers
            for turn in speaker.turns
        )
        if turns:
            tiers.append(
                Tier(f"speaker {channel.channel}", tuple(Interval(*turn) for turn in turns))
            )
    return tiers


def tier_of_events(name: str, events: Iterable[Segment | Gap]) -> Tier:
    """Return the tier of one channel of a stream.

    Args:
        name: of the tier.
        events: in the order they were published. A later one with the same start replaces an
            earlier one, as in the protocol.
    """
    latest: dict[int, Segment | Gap] = {}
    for event in events:
        latest[event.start_sample] = event
    segments = [event for event in latest.values() if isinstance(event, Segment)]
    return Tier(name, _intervals(sorted(segments, key=lambda segment: segment.start_sample)))


def _intervals(segments: Sequence[Segment]) -> tuple[Interval, ...]:
    return tuple(Interval(one.start_s, one.end_s, one.label or UNCLEAR) for one in segments)


def annotation_text(format: AnnotationFormat, tiers: Sequence[Tier], duration_s: float) -> str:
    """Return tiers in a format; Audacity's has one track, so names of tiers go into its texts."""
    match format:
        case "textgrid":
            return _text_grid(tiers, duration_s)
        case "eaf":
            return _eaf(tiers)
        case "audacity":
            return _audacity(tiers)


def _text_grid(tiers: Sequence[Tier], duration_s: float) -> str:
    end_s = max([duration_s, *(tier.intervals[-1].end_s for tier in tiers if tier.intervals)])
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end_s:.6f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, tier in enumerate(tiers, 1):
        covered = list(_covering(tier.intervals, end_s))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(tier.name)}",
            "        xmin = 0",
            f"        xmax = {end_s:.6f}",
            f"        intervals: size = {len(covered)}",
        ]
        for index, (start_s, stop_s, text) in enumerate(covered, 1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start_s:.6f}",
                f"            xmax = {stop_s:.6f}",
                f"            text = {_quoted(text)}",
            ]
    return "\n".join(lines) + "\n"


def _covering(intervals: Iterable[Interval], end_s: float) -> Iterable[tuple[float, float, str]]:
    """Yield intervals with empty ones between them: Praat refuses a tier with holes."""
    reached_s = 0.0
    for one in intervals:
        if one.start_s > reached_s:
            yield reached_s, one.start_s, ""
        yield one.start_s, one.end_s, one.text
        reached_s = one.end_s
    if end_s > reached_s:
        yield reached_s, end_s, ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _eaf(tiers: Sequence[Tier]) -> str:
    # A document without a date of its own: the same result gives the same file.
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "Emotion Monitor",
            "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    ElementTree.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    order = ElementTree.SubElement(document, "TIME_ORDER")
    slots = annotations = 0
    for tier in tiers:
        element = ElementTree.SubElement(
            document, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": tier.name}
        )
        for one in tier.intervals:
            for at_s in (one.start_s, one.end_s):
                slots += 1
                ElementTree.SubElement(
                    order,
                    "TIME_SLOT",
                    {"TIME_SLOT_ID": f"ts{slots}", "TIME_VALUE": str(round(at_s * 1000))},
                )
            annotations += 1
            holder = ElementTree.SubElement(element, "ANNOTATION")
            aligned = ElementTree.SubElement(
                holder,
                "ALIGNABLE_ANNOTATION",
                {
                    "ANNOTATION_ID": f"a{annotations}",
                    "TIME_SLOT_REF1": f"ts{slots - 1}",
                    "TIME_SLOT_REF2": f"ts{slots}",
                },
            )
            ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = one.text
    ElementTree.SubElement(
        document,
        "LINGUISTIC_TYPE",
        {
            "GRAPHIC_REFERENCES": "false",
            "LINGUISTIC_TYPE_ID": "default-lt",
            "TIME_ALIGNABLE": "true",
        },
    )
    ElementTree.indent(document)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(
        document, encoding="unicode"
    )


def _audacity(tiers: Sequence[Tier]) -> str:
    lines = [
        (one.start_s, one.end_s, one.text if len(tiers) == 1 else f"{tier.name}: {one.text}")
        for tier in tiers
        for one in tier.intervals
    ]
    return "".join(
        f"{start_s:.6f}\t{end_s:.6f}\t{' '.join(text.split())}\n"
        for start_s, end_s, text in sorted(lines)
    )
