"""Where ``emotion-monitor analyze`` puts results: standard output, or a dated folder each.

On standard output, tables for people and JSON for programs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from emotion_monitor.commands.options import note, printable
from emotion_monitor.report import COLOURS, UNCLEAR
from ser_engine.config import EngineConfig
from ser_engine.errors import SerEngineError
from ser_engine.files import (
    AnalysisOptions,
    ChannelAnalysis,
    Engine,
    FileAnalysis,
    FrameResult,
    Result,
    StreamResult,
    UtteranceResult,
)
from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
from ser_engine.files.analysis import demo_channel, demo_of, named_demo
from ser_engine.files.folders import save_embedding, write_result_folder
from ser_engine.files.job import AnalysisJob
from ser_engine.files.results import SpeakerResult
from ser_engine.files.search import find_recordings
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Gap, Segment, Whole


def analyze_dated(
    engine: Engine,
    config: EngineConfig,
    options: AnalysisOptions,
    names: Sequence[Path],
    recursive: bool,
    parent: Path,
    *,
    use_cache: bool,
) -> bool:
    """Analyse recordings, print the folder of each; return whether everything went well."""
    failed: list[str] = []

    def fail(line: str) -> None:
        failed.append(line)
        note(line)

    def take(answer: Answer) -> None:
        path = answer.wanted.path
        if not isinstance(answer.outcome, FileAnalysis):
            fail(f"{path}: {answer.outcome}")
            return
        try:
            folder = write_result_folder(parent, path, answer.outcome, now=datetime.now)
        except SerEngineError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{parent}: cannot be written: {error.strerror or error}")
        else:
            print(folder, flush=True)

    # Listed before anything is written: where results go may be where recordings are.
    found = list(
        find_recordings(
            names,
            recursive=recursive,
            raw=options.raw is not None,
            on_unreadable=lambda path, reason: fail(f"{path}: {reason}"),
        )
    )
    if not found:
        fail(f"{', '.join(map(str, names))}: there are no recordings")
    analyser = FileAnalyser(engine, config, options, use_cache=use_cache)
    analyser.run([Wanted(each.path, each.path.name) for each in found], take)
    return not failed


_BAR_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Analysis:
    """One channel of one file.

    Attributes:
        channels: how many the file has.
        whole: its shares and course.
        speakers: the people in it, where they were told apart.
    """

    path: Path
    channel: int
    channels: int
    result: Result
    whole: Whole | None
    speakers: tuple[SpeakerResult, ...] = ()

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
                tables += [_title(each), _frames(result), _whole(each.whole)]
            case StreamResult() as result:
                tables += [_title(each), _stream(result), _whole(each.whole)]
            case _:
                continue  # its speakers are in the table of utterances
        if each.speakers:
            tables.append(_speakers(each.speakers))
    return Group(*tables)


def _utterances(analyses: Sequence[Analysis]) -> Table:
    table = _table("file", "emotion", "confidence", "")
    for each in analyses:
        assert isinstance(each.result, UtteranceResult)
        table.add_row(each.title, *_said(each.result.label, each.result.confidence))
        for speaker in each.speakers:
            name = Text(f"  {speaker.name}, {speaker.speech_s:.0f} s", style="dim")
            table.add_row(name, *_said(speaker.label, speaker.confidence))
    return table


def _speakers(speakers: Sequence[SpeakerResult]) -> Table:
    table = _table("speaker", "speaks", "emotion", "confidence", "")
    for each in speakers:
        table.add_row(each.name, _time(each.speech_s), *_said(each.label, each.confidence))
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
        cells = _said(emotion, score) if score else (Text("no speech", style="dim italic"),)
        table.add_row(_time(start_s), _time(end_s), *cells)
    return table


def _runs(result: FrameResult) -> Iterator[tuple[float, float, str | None, float]]:
    """Yield start, end, emotion and mean score of frames in a row that are called the same.

    Emotion None: unclear; with a score of 0: no speech.
    """
    speech = result.speech.astype(np.float64)
    labels = result.labels_of(result.posteriors, speech)
    called = list(zip(labels, result.speech.tolist(), strict=True))
    hop_s = result.hop_samples / SAMPLE_RATE_HZ
    for (label, is_speech), run in itertools.groupby(range(len(called)), key=called.__getitem__):
        frames = list(run)
        first, last = frames[0], frames[-1] + 1
        score = float(result.posteriors[first:last].max(axis=1).mean()) if is_speech else 0.0
        yield first * hop_s, last * hop_s, label, score


def _stream(result: StreamResult) -> Table:
    caption = f"{len(result.points)} points; --json prints them"
    table = _table("from", "to", "emotion", "confidence", "", caption=caption)
    spans: list[Segment | Gap] = [*result.segments, *result.gaps]
    for span in sorted(spans, key=lambda each: each.start_sample):
        times = (_time(span.start_s), _time(span.end_s))
        if isinstance(span, Segment):
            table.add_row(*times, *_said(span.label, span.confidence))
        else:
            table.add_row(*times, Text(span.reason.replace("_", " "), style="dim italic"))
    return table


def _whole(whole: Whole | None) -> Text:
    """Return the shares of a whole, and where they went; its quarters are in the JSON."""
    if whole is None or not whole.shares.speech_s:
        return Text("no speech\n", style="dim")
    shares = whole.shares
    line = Text(f"of {shares.speech_s:.0f} s of speech: ", style="dim")
    ranked = sorted(shares.labels.items(), key=lambda item: -item[1])
    for label, share in ranked:
        line.append(f"{label} {share:.0%}  ", style=COLOURS.get(label, "default"))
    if shares.unclear:
        line.append(f"{UNCLEAR} {shares.unclear:.0%}  ", style="grey62")
    line.append(f"silence {shares.silence:.0%} of the time", style="dim")
    moved = [(label, change) for label, change in whole.trend.items() if abs(change) >= 0.05]
    if moved:
        words = ", ".join(f"{label} {change:+.2f}" for label, change in moved)
        line.append(f"\ntrend, (last quarter − first) / 2: {words}", style="dim")
    return line.append("\n")


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


def _said(label: str | None, confidence: float) -> tuple[Text, str, Text]:
    """Return the cells of a result: what may be said of it, and how strongly."""
    if label is None:
        # No figure: that of an emotion nobody should believe would be read as its strength.
        return Text(UNCLEAR, style="italic grey62"), "", Text()
    return _emotion(label), *_strength(label, confidence)


def _strength(name: str, value: float) -> tuple[str, Text]:
    bar = "█" * round(value * _BAR_WIDTH)
    return f"{value:.0%}", Text(bar, style=COLOURS.get(name, "default"))


def _time(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def analyze_print(
    engine: Engine,
    config: EngineConfig,
    options: AnalysisOptions,
    names: Sequence[Path],
    *,
    recursive: bool,
    as_json: bool,
    details: bool,
    scores: bool,
    embeddings: Path | None,
    use_cache: bool,
) -> bool:
    """Analyse recordings and print the results; return whether everything went well."""
    unreadable: list[str] = []
    found = find_recordings(
        names,
        recursive=recursive,
        raw=options.raw is not None,
        on_unreadable=lambda path, reason: unreadable.append(f"{path}: {reason}"),
    )
    wanted = [Wanted(each.path, str(each.path), about=number) for number, each in enumerate(found)]
    answers: list[Answer] = []
    analyser = FileAnalyser(engine, config, options, use_cache=use_cache)
    with Console(stderr=True).status(_status(wanted, 0.0)) as status:

        def show(job: AnalysisJob) -> None:
            share = job.progress if len(wanted) == 1 else len(answers) / len(wanted)
            status.update(_status(wanted, share))

        analyser.run(wanted, answers.append, on_progress=show)
    answers.sort(key=lambda answer: answer.wanted.about)
    for line in unreadable:
        note(line)
    if not wanted and not unreadable:
        note(f"{', '.join(map(str, names))}: there are no recordings{_hint(recursive)}")
    analyses = [each for answer in answers for each in _analyses(answer)]
    outcomes = [each.outcome for each in answers if isinstance(each.outcome, FileAnalysis)]
    is_bare = len(wanted) == 1 and wanted[0].path == names[0]
    if as_json:
        # A failed file must not change the form that programs read.
        if not is_bare or analyses:
            document = _json_of(outcomes, is_bare=is_bare, details=details, scores=scores)
            print(json.dumps(document, ensure_ascii=False))
    elif analyses:
        Console().print(view(analyses, scores=scores))
    is_fine = bool(wanted) and not unreadable
    is_fine &= all(isinstance(answer.outcome, FileAnalysis) for answer in answers)
    return (embeddings is None or _save_embeddings(embeddings, outcomes)) and is_fine


def _status(wanted: Sequence[Wanted], share: float) -> Text:
    what = printable(wanted[0].path.name) if len(wanted) == 1 else f"{len(wanted)} recordings"
    # A file's name is no markup.
    return Text(f"analysing {what}: {share:.0%}")


def _hint(recursive: bool) -> str:
    return "" if recursive else "; --recursive looks into folders in folders"


def _analyses(answer: Answer) -> list[Analysis]:
    """Return a file's channels; say what is wrong with them, or with the file."""
    path, outcome = answer.wanted.path, answer.outcome
    if not isinstance(outcome, FileAnalysis):
        note(f"{path}: {outcome}")
        return []
    analyses: list[Analysis] = []
    for index, channel in outcome.numbered:
        analyses.append(analysis := _analysis(path, index, channel, outcome))
        for warning in channel.warnings:
            note(f"{analysis.title}: {warning.code}: {warning.message}")
    return analyses


def _analysis(path: Path, index: int, channel: ChannelAnalysis, outcome: FileAnalysis) -> Analysis:
    # Of a file with one channel that is analysed and others that are not, too, it is said which.
    several = max(len(outcome.channels), len(outcome.options.roles))
    return Analysis(path, index, several, channel.result, channel.whole, channel.speakers)


def _json_of(outcomes: list[FileAnalysis], *, is_bare: bool, details: bool, scores: bool) -> Any:
    """Return what is printed: of a single recording that was named itself, otherwise a list."""
    # Only the web demo's form is bare; it has no streams, and no speakers.
    details |= any(
        outcome.options.granularity == "stream" or outcome.options.speakers for outcome in outcomes
    )
    if details:
        documents = [outcome.to_json() for outcome in outcomes]
        return documents[0] if is_bare and documents else documents
    if is_bare and len(outcomes) == 1:
        return demo_of(outcomes[0], scores=scores)
    return [
        {
            "name": outcome.name,
            "channel": index,
            **named_demo(demo_channel(channel, scores=scores)),
        }
        for outcome in outcomes
        for index, channel in outcome.numbered
    ]


def _save_embeddings(path: Path, outcomes: Sequence[FileAnalysis]) -> bool:
    """Write one file a recording; return whether that worked."""
    for number, outcome in enumerate(outcomes, start=1):
        target = path if len(outcomes) == 1 else path.with_suffix(f".{number}{path.suffix}")
        try:
            written = save_embedding(target, outcome)
        except OSError as error:
            note(f"{target}: cannot be written: {error.strerror or error}")
            return False
        if written and outcome.embedding is not None:
            note(f"{target}: embeddings {outcome.embedding.shape}")
    return True
