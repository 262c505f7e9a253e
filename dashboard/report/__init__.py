"""A call on one page: a self-contained HTML file that is read anywhere, and printed to PDF.

There is no script in it and nothing is fetched: what is drawn is SVG. It says what the pages say,
with their words and colours, and what the scores are not.

Here is what it says, from a stream of the store or from the result of a file; ``page.py`` writes
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ser_engine.files.annotations import UNCLEAR, SpeakerNames
from ser_engine.files.options import DEFAULT_ROLE
from ser_engine.schema import (
    FileResult,
    Gap,
    Measures,
    ModelNotice,
    Segment,
    SpeakerMeasures,
    Warning,
    Whole,
)
from ser_engine.timeline.course import whole_of
from stream_server.store import AlertRecord, StreamRecord
from stream_server.wire import results as wire
from stream_server.wire.results import Marked, Result


@dataclass(frozen=True, slots=True)
class ReportSpeaker:
    """Somebody in a channel whose speakers were told apart.

    Attributes:
        name: what people call the speaker, else that of results.
        is_left_out: there is nothing about how the speaker sounds.
        labels: shares of what the speaker says, by label, ``unclear`` among them; of a recording
            the label of all of it with its confidence, None where that is ``unclear``.
        turns: when the speaker speaks, s.
    """

    name: str
    talk_s: float
    is_left_out: bool
    labels: Mapping[str, float | None]
    turns: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ReportChannel:
    """One channel.

    Attributes:
        index: from 0.
        role: who speaks; "": not known.
        is_analysed: False: there is nothing about how it sounds.
        spans: segments and gaps that tile it; () where there is one result for all of it, in which
            speech and silence were not told apart.
        whole: shares and course.
        speakers: where they were told apart, in the order they first spoke.
    """

    index: int
    role: str
    name: str
    is_analysed: bool
    spans: tuple[Segment | Gap, ...]
    whole: Whole | None
    speakers: tuple[ReportSpeaker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """A call.

    Attributes:
        source_id: of the stream; "": a file.
        began_at: seconds since 1970, UTC; None: not known.
        is_live: it goes on still.
        metadata: what the client told.
        marks: name and time, s.
    """

    name: str
    source_id: str
    began_at: float | None
    is_live: bool
    duration_s: float
    metadata: dict[str, str]
    model: ModelNotice
    channels: tuple[ReportChannel, ...]
    measures: Measures | None
    alerts: tuple[AlertRecord, ...] = ()
    marks: tuple[tuple[str, float], ...] = ()
    warnings: tuple[tuple[int | None, Warning], ...] = ()


def report_of_stream(
    record: StreamRecord,
    results: Iterable[Result],
    alerts: Sequence[AlertRecord],
) -> CallReport:
    """Return the report of a stream.

    ``results``: its segments, gaps, marks and warnings, in order; ``alerts``: the newest first.
    """
    names = record.speaker_names()
    spans: dict[int, dict[int, Segment | Gap]] = {each.index: {} for each in record.channels}
    marks: list[tuple[str, float]] = []
    warnings: list[tuple[int | None, Warning]] = []
    duration_s = record.duration_s or 0.0

    def called(channel: int, speaker: str) -> str:
        return names.get(str(channel), {}).get(speaker, speaker)

    for result in results:
        match result:
            case wire.Segment() | wire.Gap():
                if isinstance(result, Segment) and result.speaker:
                    result = replace(result, speaker=called(result.channel, result.speaker))
                # A later version replaces an interim one.
                spans[result.channel][result.start_sample] = result
                duration_s = max(duration_s, result.end_s)
            case Marked():
                marks.append((result.name, result.at_s))
            case wire.Warning():
                warnings.append((result.channel, result))
            case _:
                pass
    summary = record.summary
    wholes = {each.channel: each.whole for each in summary.channels} if summary else {}
    return CallReport(
        name=record.name,
        source_id=record.stream_id,
        began_at=record.opened_at,
        is_live=record.is_live,
        duration_s=duration_s,
        metadata=record.metadata,
        model=record.model,
        channels=tuple(
            ReportChannel(
                each.index,
                each.role,
                each.name,
                each.analysed,
                tuple(spans[each.index].values()),
                # A stream that goes on, or broke off, has no summary.
                wholes.get(each.index) or whole_of(spans[each.index].values()),
                _speakers_of_stream(
                    spans[each.index].values(),
                    [
                        replace(one, name=called(each.index, one.name))
                        for one in _measured(record, each.index)
                    ],
                ),
            )
            for each in record.channels
        ),
        measures=summary.measures if summary else None,
        alerts=tuple(reversed(alerts)),
        marks=tuple(marks),
        warnings=tuple(warnings),
    )


def _speakers_of_stream(
    spans: Iterable[Segment | Gap], measured: Sequence[SpeakerMeasures]
) -> tuple[ReportSpeaker, ...]:
    """Return who speaks in a channel of a stream, voices of one name as one.

    ``measured``: what each speaker has said, as its page shows it; (): the stream has no summary.
    """
    turns: dict[str, list[Segment]] = {}
    for span in sorted(spans, key=lambda one: one.start_sample):
        if isinstance(span, Segment) and span.speaker:
            turns.setdefault(span.speaker, []).append(span)
    told: dict[str, list[SpeakerMeasures]] = {}
    for speaker in measured:
        told.setdefault(speaker.name, []).append(speaker)
    found: list[ReportSpeaker] = []
    for name in dict.fromkeys((*told, *turns)):
        segments, parts = turns.get(name, []), told.get(name, [])
        if parts:
            talk_s = sum(part.talk_s for part in parts)
            weighed = [
                (label, part.talk_s * share)
                for part in parts
                for label, share in (*part.labels.items(), (UNCLEAR, part.unclear))
            ]
        else:
            talk_s = sum(one.end_s - one.start_s for one in segments)
            weighed = [(one.label or UNCLEAR, one.end_s - one.start_s) for one in segments]
        found.append(
            ReportSpeaker(
                name,
                talk_s,
                any(part.left_out for part in parts),
                _shares(weighed),
                tuple((one.start_s, one.end_s) for one in segments),
            )
        )
    return tuple(found)


def _shares(weighed: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for label, weight in weighed:
        sums[label] = sums.get(label, 0.0) + weight
    total = sum(sums.values())
    return {label: each / total for label, each in sums.items() if each} if total else {}


def _measured(record: StreamRecord, channel: int) -> tuple[SpeakerMeasures, ...]:
    measures = record.summary.measures if record.summary else None
    for each in measures.channels if measures else ():
        if each.channel == channel:
            return each.speakers or ()
    return ()


def report_of_file(result: FileResult, names: SpeakerNames | None = None) -> CallReport:
    """Return the report of a recording; names: what people call its speakers."""
    names = names or {}
    return CallReport(
        name=result.name,
        source_id="",
        began_at=None,
        is_live=False,
        duration_s=result.duration_s,
        metadata={},
        model=result.model,
        channels=tuple(
            ReportChannel(
                each.channel,
                # "speaker" is what nobody said more of: the number of the channel says more.
                "" if each.role == DEFAULT_ROLE else each.role,
                "",
                True,
                tuple(sorted((*each.segments, *each.gaps), key=lambda one: one.start_sample)),
                each.whole,
                tuple(
                    ReportSpeaker(
                        names.get(str(each.channel), {}).get(one.name, one.name),
                        one.speech_s,
                        False,
                        {one.label: one.confidence} if one.label else {UNCLEAR: None},
                        tuple((turn.start_s, turn.end_s) for turn in one.turns),
                    )
                    for one in each.speakers
                ),
            )
            for each in result.channels
        ),
        measures=result.measures,
        warnings=tuple((each.channel, one) for each in result.channels for one in each.warnings),
    )
