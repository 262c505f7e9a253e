"""How ``emotion-monitor analyze`` shows results to people."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ser_engine.events import Gap, Segment
from ser_engine.offline import FrameResult, Result, StreamResult, UtteranceResult
from stream_server.cli.palette import COLOURS

__all__ = ["Analysis", "view"]

_BAR_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Analysis:
    """One channel of one file.

    Attributes:
        path: the file, as it was named.
        channel: counted from 1.
        channels: how many the file has.
        result: what was found.
    """

    path: Path
    channel: int
    channels: int
    result: Result

    @property
    def title(self) -> str:
        """File and, where there are several, channel."""
        return str(self.path) + (f", channel {self.channel}" if self.channels > 1 else "")


def view(analyses: Sequence[Analysis], *, scores: bool) -> RenderableType:
    """Return tables of results that are all of one granularity."""
    utterances = [each for each in analyses if isinstance(each.result, UtteranceResult)]
    tables: list[RenderableType] = []
    if utterances and not scores:
        tables.append(_utterances(utterances))
    for each in analyses:
        match each.result:
            case UtteranceResult() as result if scores:
                tables += [_title(each), _scores(result)]
            case FrameResult() as result:
                tables += [_title(each), _frames(result)]
            case StreamResult() as result:
                tables += [_title(each), _stream(result)]
    return Group(*tables)


def _utterances(analyses: Sequence[Analysis]) -> Table:
    table = _table("file", "emotion", "confidence", "")
    for each in analyses:
        assert isinstance(each.result, UtteranceResult)
        name, confidence = each.result.emotion, each.result.confidence
        table.add_row(each.title, _emotion(name), *_strength(name, confidence))
    return table


def _scores(result: UtteranceResult) -> Table:
    table = _table("emotion", "confidence", "")
    ranked = sorted(zip(result.posteriors.tolist(), result.labels, strict=True), reverse=True)
    for value, name in ranked:
        table.add_row(_emotion(name), *_strength(name, value))
    return table


def _frames(result: FrameResult) -> Table:
    hop_ms = result.hop_samples // 16
    caption = f"{len(result.logits)} frames of {hop_ms} ms; --json prints each of them"
    table = _table("from", "to", "emotion", "mean score", "", caption=caption)
    for start_s, end_s, emotion, score in _runs(result):
        table.add_row(_time(start_s), _time(end_s), _emotion(emotion), *_strength(emotion, score))
    return table


def _runs(result: FrameResult) -> Iterator[tuple[float, float, str, float]]:
    """Yield start, end, emotion and mean score of frames in a row with one strongest class."""
    strongest = result.posteriors.argmax(axis=1).tolist()
    hop_s = result.hop_samples / 16_000
    for label, run in itertools.groupby(range(len(strongest)), key=strongest.__getitem__):
        frames = list(run)
        first, last = frames[0], frames[-1] + 1
        score = float(result.posteriors[first:last, label].mean())
        yield first * hop_s, last * hop_s, result.labels[label], score


def _stream(result: StreamResult) -> Table:
    caption = f"{len(result.points)} points; --json prints them"
    table = _table("from", "to", "emotion", "confidence", "", caption=caption)
    spans: list[Segment | Gap] = [*result.segments, *result.gaps]
    for span in sorted(spans, key=lambda each: each.start_sample):
        times = (_time(span.start_s), _time(span.end_s))
        if isinstance(span, Segment):
            table.add_row(*times, _emotion(span.label), *_strength(span.label, span.confidence))
        else:
            table.add_row(*times, Text(span.reason.replace("_", " "), style="dim italic"))
    return table


def _title(analysis: Analysis) -> Text:
    return Text(analysis.title, style="bold")


def _table(*columns: str, caption: str | None = None) -> Table:
    table = Table(caption=caption, caption_justify="left", box=None)
    for column in columns:
        right = column in ("from", "to", "confidence", "mean score")
        table.add_column(
            column, justify="right" if right else "left", overflow="fold", no_wrap=column == ""
        )
    return table


def _emotion(name: str) -> Text:
    return Text(name, style=f"bold {COLOURS.get(name, 'default')}")


def _strength(name: str, value: float) -> tuple[str, Text]:
    bar = "█" * round(value * _BAR_WIDTH)
    return f"{value:.0%}", Text(bar, style=COLOURS.get(name, "default"))


def _time(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"
