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

__all__ = ["Analysis", "view"]

_COLOURS = {
    "angry": "#D55E00",
    "disgusted": "#009E73",
    "fearful": "#CC79A7",
    "happy": "#E69F00",
    "neutral": "#8A8F98",
    "other": "#7A5C3E",
    "sad": "#0072B2",
    "surprised": "#56B4E9",
    "unknown": "#C9CDD3",
}
"""The Okabe-Ito palette: told apart by colour-blind people, too."""

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
    tables: list[RenderableType] = [_utterances(utterances, scores=scores)] if utterances else []
    for each in analyses:
        if isinstance(each.result, FrameResult):
            tables += [_title(each), _frames(each.result)]
        elif isinstance(each.result, StreamResult):
            tables += [_title(each), _stream(each.result)]
    return Group(*tables)


def _utterances(analyses: Sequence[Analysis], *, scores: bool) -> Table:
    table = _table("file", "emotion", "confidence", "")
    names = analyses[0].result.labels if scores else ()
    for name in names:
        table.add_column(name, justify="right", style="dim")
    for each in analyses:
        assert isinstance(each.result, UtteranceResult)
        shown = each.result.posteriors if scores else ()
        table.add_row(
            each.title,
            _emotion(each.result.emotion),
            *_strength(each.result.emotion, each.result.confidence),
            *(f"{value:.3f}" for value in shown),
        )
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
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _emotion(name: str) -> Text:
    return Text(name, style=f"bold {_COLOURS.get(name, 'default')}")


def _strength(name: str, value: float) -> tuple[str, Text]:
    bar = "█" * round(value * _BAR_WIDTH)
    return f"{value:.0%}", Text(bar, style=_COLOURS.get(name, "default"))


def _time(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"
