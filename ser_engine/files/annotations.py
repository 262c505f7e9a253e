"""Timelines as annotations that other programs open: Praat, ELAN, Audacity.

A channel becomes one tier of labelled intervals (``unclear`` where there is no label), with a
second one of speakers where they were told apart, under the names that people gave them. Gaps stay
without an interval, or with an empty one where the format wants time to be covered.

Formats: TextGrid as Praat's manual describes it ("TextGrid file formats", the long text form); EAF
3.0 (Max Planck Institute, "ELAN Annotation Format"); Audacity's label track, a line an interval of
start, end and text with tabs between them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from ser_engine.errors import AnnotationError
from ser_engine.schema import FileResult, Gap, Segment

AnnotationFormat = Literal["textgrid", "eaf", "audacity"]

SUFFIXES: dict[AnnotationFormat, str] = {
    "textgrid": ".TextGrid",
    "eaf": ".eaf",
    "audacity": ".labels.txt",
}

UNCLEAR = "unclear"

SpeakerNames = Mapping[str, Mapping[str, str]]
"""What people call speakers: by the number of the channel and by the speaker's name in results."""


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

    @property
    def recalls(self) -> dict[str, float]:
        """By the text of the one: the part of its time in which the other says the same."""
        return {
            text: row.get(text, 0.0) / sum(row.values()) for text, row in self.confusion.items()
        }

    @property
    def uar(self) -> float | None:
        """Unweighted average recall, over the texts of the one; None: it has none."""
        recalls = self.recalls.values()
        return sum(recalls) / len(recalls) if recalls else None


def agreement(one: Tier, other: Tier) -> Agreement:
    """Hold two tiers against each other (Cohen 1960, with seconds in place of items)."""
    confusion: dict[str, dict[str, float]] = {}
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
    return _agreement_of(confusion)


def agreement_of_all(each: Iterable[Agreement]) -> Agreement:
    """Return the agreement over the time of several together."""
    confusion: dict[str, dict[str, float]] = {}
    for one in each:
        for text, others in one.confusion.items():
            row = confusion.setdefault(text, {})
            for other, seconds in others.items():
                row[other] = row.get(other, 0.0) + seconds
    return _agreement_of(confusion)


def _agreement_of(confusion: dict[str, dict[str, float]]) -> Agreement:
    columns: dict[str, float] = {}
    for other, seconds in itertools.chain.from_iterable(row.items() for row in confusion.values()):
        columns[other] = columns.get(other, 0.0) + seconds
    total = sum(columns.values())
    if total == 0:
        return Agreement(0.0, 0.0, None, {})
    share = sum(row.get(text, 0.0) for text, row in confusion.items()) / total
    chance = sum(sum(row.values()) * columns.get(text, 0.0) for text, row in confusion.items()) / (
        total**2
    )
    kappa = None if chance >= 1 - 1e-12 else (share - chance) / (1 - chance)
    return Agreement(total, share, kappa, confusion)


def tiers_of_result(result: FileResult, names: SpeakerNames | None = None) -> list[Tier]:
    """Return the tiers of a file: segments, or of an utterance its pieces; and turns."""
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
        called = (names or {}).get(str(channel.channel), {})
        turns = sorted(
            (turn.start_s, turn.end_s, called.get(speaker.name, speaker.name))
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
        events: in the order they were published. A later one with the same start replaces an
            earlier one, as in the protocol.
    """
    return Tier(name, _intervals([one for one in _latest(events) if isinstance(one, Segment)]))


def speaker_tier_of_events(
    name: str, events: Iterable[Segment | Gap], called: Mapping[str, str]
) -> Tier:
    """Return who speaks when in one channel of a stream.

    Args:
        events: as of :func:`tier_of_events`. Segments that follow each other at once and are of
            one speaker make one interval; gaps ``left_out`` are intervals of that name.
        called: what people call its speakers.
    """
    turns: list[Interval] = []
    for event in _latest(events):
        if isinstance(event, Gap):
            speaker = "left_out" if event.reason == "left_out" else None
        else:
            speaker = called.get(event.speaker, event.speaker) if event.speaker else None
        if speaker is None:
            continue
        if turns and turns[-1].text == speaker and turns[-1].end_s == event.start_s:
            turns[-1] = Interval(turns[-1].start_s, event.end_s, speaker)
        else:
            turns.append(Interval(event.start_s, event.end_s, speaker))
    return Tier(name, tuple(turns))


def _latest(events: Iterable[Segment | Gap]) -> list[Segment | Gap]:
    latest: dict[int, Segment | Gap] = {}
    for event in events:
        latest[event.start_sample] = event
    return sorted(latest.values(), key=lambda event: event.start_sample)


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


def read_tiers(path: Path) -> list[Tier]:
    """Return the tiers of intervals in a file of Praat, ELAN or Audacity, in the file's order.

    Text grids may be long or short, in UTF-8 or UTF-16; their tiers of points, and ELAN's
    annotations without times of their own, are left out, and so are intervals without a text.
    Audacity has one track: if all its texts begin with a name and a colon, each name is a tier.

    Raises:
        AnnotationError: it cannot be read, is no such file, or two intervals of a tier overlap.
    """
    try:
        data = path.read_bytes()
        if path.name.endswith(SUFFIXES["eaf"]):
            found = _read_eaf(data)
        elif path.name.endswith(SUFFIXES["textgrid"]):
            found = _read_text_grid(_decoded(data))
        else:
            found = _read_audacity(_decoded(data))
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, LookupError, StopIteration, ElementTree.ParseError) as error:
        why = str(error) or "it ends too early"
        raise AnnotationError(
            f"{path}: not a file of labels: {why}; expected a TextGrid of Praat, an EAF of ELAN or"
            " a label track of Audacity"
        ) from None
    tiers = []
    for name, rows in found:
        kept = sorted((row for row in rows if row.text), key=lambda row: row.start_s)
        for before, after in itertools.pairwise(kept):
            # Times are rounded to a millisecond in ELAN.
            if after.start_s < before.end_s - 0.002:
                raise AnnotationError(
                    f"{path}: in the tier '{name}' two labels overlap at {after.start_s:.2f} s,"
                    " expected one at a time"
                )
        tiers.append(Tier(name, tuple(kept)))
    return tiers


def _decoded(data: bytes) -> str:
    # Praat writes UTF-16 with a mark where a label needs it.
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d[\d.eE+-]*)(?!\S)|<(exists|absent)>')
"""What counts in a text grid, long or short: strings, numbers that stand free, flags. All else,
such as "xmin =" or "intervals [3]:", is comment (Praat's manual, "TextGrid file formats")."""


def _read_text_grid(text: str) -> list[tuple[str, list[Interval]]]:
    tokens = (
        match[2] if match[1] is None else match[1].replace('""', '"')
        for match in _TOKEN.finditer(text)
        if match[3] is None
    )
    if [next(tokens, ""), next(tokens, "")] != ["ooTextFile", "TextGrid"]:
        raise ValueError("it does not begin as a TextGrid does")
    next(tokens), next(tokens)  # the whole's beginning and end
    tiers = []
    for _ in range(int(next(tokens))):
        kind, name, _, _, count = [next(tokens) for _ in range(5)]
        if kind == "IntervalTier":
            rows = [
                Interval(float(next(tokens)), float(next(tokens)), next(tokens).strip())
                for _ in range(int(count))
            ]
            tiers.append((name, rows))
        else:
            for _ in range(2 * int(count)):
                next(tokens)
    return tiers


def _read_eaf(data: bytes) -> list[tuple[str, list[Interval]]]:
    document = ElementTree.fromstring(data)
    if document.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"its root is <{document.tag}>")
    times_s = {
        slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) / 1000
        for slot in document.iter("TIME_SLOT")
        if "TIME_VALUE" in slot.attrib
    }
    tiers = []
    for tier in document.iter("TIER"):
        rows = []
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            ends = [times_s.get(one.attrib[f"TIME_SLOT_REF{end}"]) for end in (1, 2)]
            if ends[0] is not None and ends[1] is not None:
                text = one.findtext("ANNOTATION_VALUE") or ""
                rows.append(Interval(ends[0], ends[1], text.strip()))
        tiers.append((tier.attrib["TIER_ID"], rows))
    return tiers


def _read_audacity(text: str) -> list[tuple[str, list[Interval]]]:
    rows = []
    for line in text.splitlines():
        # A line that begins with a backslash holds the frequencies of the label before it.
        if line.strip() and not line.startswith("\\"):
            start_s, end_s, label = line.split("\t", 2)
            rows.append(Interval(float(start_s), float(end_s), label.strip()))
    if not all(": " in row.text for row in rows):
        return [("", rows)]
    tiers: dict[str, list[Interval]] = {}
    for row in rows:
        name, _, label = row.text.partition(": ")
        tiers.setdefault(name, []).append(Interval(row.start_s, row.end_s, label))
    return list(tiers.items())
