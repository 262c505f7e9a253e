"""What ``emotion-monitor stream`` prints: a live view on a terminal, else lines of text, or JSON.

:class:`StreamBoard` is the state, without a terminal; :func:`view` draws it; an :class:`Output`
decides what is written when.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emotion_monitor.report import COLOURS, UNCLEAR, UNCLEAR_CELL
from mic_client.sources import SILENT_DBFS
from mic_client.stream_client import ClientEvent, ConnectionLost
from stream_server.wire.messages import Error, Heartbeat, Ready
from stream_server.wire.results import Alert, Gap, Point, Segment, Summary, Warning

_KEPT_S = 120.0
_NUM_NOTES = 4


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a channel's timeline.

    Attributes:
        start_s, end_s: where, from the client's first sample.
        label: emotion or ``unclear``, or "" in a gap.
        reason: of a gap, or "".
        confidence: mean posterior of the likeliest emotion, 0 to 1.
    """

    start_s: float
    end_s: float
    label: str = ""
    reason: str = ""
    confidence: float = 0.0


@dataclass(slots=True)
class ChannelBoard:
    """The state of one channel.

    Attributes:
        is_analysed: False: the server gives this role no results.
        level_dbfs: of the last chunk sent.
        spans: the timeline of the last two minutes, in order.
        point: the last one received.
    """

    role: str
    name: str = ""
    is_analysed: bool = True
    level_dbfs: float = SILENT_DBFS
    spans: deque[Span] = field(default_factory=deque)
    point: Point | None = None

    def take(self, span: Span) -> None:
        """Add a span. It replaces those that start with or after it."""
        # A segment that grows is sent again with the same start; a resumed stream repeats results.
        while self.spans and self.spans[-1].start_s >= span.start_s:
            self.spans.pop()
        self.spans.append(span)
        while self.spans[0].end_s < span.end_s - _KEPT_S:
            self.spans.popleft()

    @property
    def now(self) -> Span | None:
        """The last span, with the confidence of the last point."""
        if not self.spans:
            return None
        last = self.spans[-1]
        if last.label and self.point is not None and (self.point.label or UNCLEAR) == last.label:
            confidence = self.point.confidence
            return Span(last.start_s, last.end_s, label=last.label, confidence=confidence)
        return last


@dataclass(slots=True)
class StreamBoard:
    """A stream as the client sees it.

    Attributes:
        channels: in the order of the source's.
        ready, heartbeat, summary: the last that came.
        lost: the connection is down, and this is why; None: it is up.
        start_s: audio before the server's present stream, s.
        end_s: how far the timeline goes, s.
        alerts: those that hold, by id.
        notes: the last warnings and errors, oldest first.
        is_stopping: Ctrl-C was pressed.
    """

    channels: list[ChannelBoard]
    ready: Ready | None = None
    heartbeat: Heartbeat | None = None
    summary: Summary | None = None
    lost: ConnectionLost | None = None
    start_s: float = 0.0
    end_s: float = 0.0
    alerts: dict[str, Alert] = field(default_factory=dict)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=_NUM_NOTES))
    is_stopping: bool = False

    def hear(self, levels_dbfs: list[float]) -> None:
        """Take the levels of a chunk, dBFS, by channel."""
        for channel, level_dbfs in zip(self.channels, levels_dbfs, strict=True):
            channel.level_dbfs = level_dbfs

    def take(self, event: ClientEvent, stream_start_s: float) -> None:
        """Take a message that the client yields.

        ``stream_start_s``: audio the client sent before the server's present stream.
        """
        self.start_s = stream_start_s
        match event:
            case Ready():
                self._begin(event)
            case ConnectionLost():
                self.lost = event
            case Heartbeat():
                self.heartbeat = event
                self._reach(event.published_s)
            case Point():
                self.channels[event.channel].point = event
                self._reach(event.end_s)
            case Segment() | Gap():
                self._add(event)
            case Alert():
                self.alerts.pop(event.alert_id, None)
                if event.state == "raised":
                    self.alerts[event.alert_id] = event
            case Warning():
                self.notes.append(event.message)
            case Error():
                self.notes.append(f"{event.message}. {event.remedy}")
            case Summary():
                self.summary = event
            case _:
                pass

    def _begin(self, ready: Ready) -> None:
        self.ready, self.lost, self.summary = ready, None, None
        # A new stream on the server does not know the old one's alerts, and never clears them.
        if not ready.resumed:
            self.alerts.clear()
        for channel in ready.channels:
            board = self.channels[channel.index]
            board.role, board.name, board.is_analysed = (
                channel.role,
                channel.name,
                channel.analysed,
            )

    def _add(self, event: Segment | Gap) -> None:
        start_s, end_s = event.start_s + self.start_s, event.end_s + self.start_s
        if isinstance(event, Segment):
            span = Span(start_s, end_s, label=event.label or UNCLEAR, confidence=event.confidence)
        else:
            span = Span(start_s, end_s, reason=event.reason)
        self.channels[event.channel].take(span)
        self._reach(event.end_s)

    def _reach(self, end_s: float) -> None:
        self.end_s = max(self.end_s, end_s + self.start_s)


_STRIP_S = 60
_LEVEL_CELLS = 12
_QUIETEST_DBFS = -60.0
_TOO_LOUD_DBFS = -3.0

_GAP_CELLS = {
    "silence": "·",
    "tone": "~",
    "music": "♪",
    "too_short": "·",
    "overload": "!",
    "error": "×",
    "paused": "‖",
    "discarded": "╌",
    "lost": "╌",
}
_QUIET_GAPS = ("silence", "tone", "music", "too_short")
"""Ordinary pauses in speech: dimmed, and given no line of text. The other gaps mean a loss."""


def view(board: StreamBoard) -> RenderableType:
    """Return the whole picture."""
    channels = Table.grid(padding=(0, 2))
    for channel in board.channels:
        channels.add_row(
            Text(_who(channel), style="bold"),
            level_bar(channel.level_dbfs),
            _now(channel),
            strip(channel, board.end_s),
        )
    channels.add_row("", "", "", Text(f"{'−60 s':<{_STRIP_S - 3}}now", style="dim"))
    below = [_gaps(board), *_alerts(board)]
    below += [Text(f"! {note}", style="yellow") for note in board.notes]
    below += _shares(board) if board.summary else [_foot(board)]
    if board.ready is not None:
        model = board.ready.model
        below.append(Text(model.notice or f"Licence of the model: {model.licence}", style="dim"))
    return Group(_head(board), "", channels, *(text for text in below if text.plain))


def level_bar(level_dbfs: float) -> Text:
    """Return a meter from −60 to 0 dBFS."""
    share = min(1.0, max(0.0, 1 - level_dbfs / _QUIETEST_DBFS))
    full = round(share * _LEVEL_CELLS)
    style = "red" if level_dbfs > _TOO_LOUD_DBFS else "cyan"
    return Text.assemble(("━" * full, style), ("━" * (_LEVEL_CELLS - full), "grey23"))


def strip(channel: ChannelBoard, end_s: float) -> Text:
    """Return the last minute, one character a second: colour is emotion, density confidence."""
    last = int(end_s)
    cells = [_cell(channel, second) for second in range(last - _STRIP_S + 1, last + 1)]
    runs = ((cell, len(list(run))) for cell, run in itertools.groupby(cells))
    return Text.assemble(*((sign * length, style) for (sign, style), length in runs))


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def _cell(channel: ChannelBoard, second: int) -> tuple[str, str]:
    """Return the character and style of a second."""
    span = _longest_in(channel, second)
    if span is None:
        return " ", ""
    if span.reason:
        style = "grey35" if span.reason in _QUIET_GAPS else "yellow"
        return _GAP_CELLS.get(span.reason, "?"), style
    if span.label == UNCLEAR:
        return UNCLEAR_CELL, "grey62"
    shade = "█" if span.confidence >= 0.6 else "▓" if span.confidence >= 0.4 else "▒"
    return shade, COLOURS.get(span.label, "default")


def _longest_in(channel: ChannelBoard, second: int) -> Span | None:
    """Return the span that fills most of a second."""
    best, longest_s = None, 0.0
    for span in channel.spans:
        overlap_s = min(span.end_s, second + 1) - max(span.start_s, second)
        if overlap_s > longest_s:
            best, longest_s = span, overlap_s
    return best


def _who(channel: ChannelBoard) -> str:
    return f"{channel.role} {channel.name}".rstrip()


def _now(channel: ChannelBoard) -> Text:
    width = 16
    if not channel.is_analysed:
        return Text(f"{'not analysed':<{width}}", style="dim")
    span = channel.now
    if span is None:
        return Text(f"{'…':<{width}}", style="dim")
    if span.reason:
        return Text(f"{span.reason.replace('_', ' '):<{width}}", style="dim")
    if span.label == UNCLEAR:
        # No figure: that of an emotion nobody should believe would be read as its strength.
        return Text(f"{UNCLEAR:<{width}}", style="grey62")
    word = f"{span.label:<11}{span.confidence:>4.0%} "
    return Text(f"{word:<{width}}", style=f"bold {COLOURS.get(span.label, 'default')}")


def _head(board: StreamBoard) -> Text:
    if board.summary is not None:
        summary = board.summary
        return Text.assemble(
            ("■ ", "bold"),
            f"ended ({summary.reason}) after {clock(summary.duration_s + board.start_s)}",
            f", alerts: {summary.alerts}",
        )
    if board.lost is not None:
        return Text(
            f"● {board.lost.reason}; trying again in {board.lost.retry_in_s:.1f} s"
            f" (try {board.lost.attempt})",
            style="yellow",
        )
    if board.ready is None:
        return Text("○ connecting", style="dim")
    model = board.ready.model.name
    state = "stopping, Ctrl-C again stops at once" if board.is_stopping else "live"
    return Text.assemble(
        ("● ", "green"),
        f"{state}  ",
        (f"stream {board.ready.stream_id}  model {model}", "dim"),
    )


def _gaps(board: StreamBoard) -> Text:
    """Return a legend of the gaps in view."""
    reasons = sorted(
        {
            span.reason
            for channel in board.channels
            for span in channel.spans
            if span.reason not in ("", *_QUIET_GAPS) and span.end_s > board.end_s - _STRIP_S
        }
    )
    words = [f"{_GAP_CELLS.get(reason, '?')} {reason}" for reason in reasons]
    return Text("gaps: " + "  ".join(words) if words else "", style="yellow")


def _alerts(board: StreamBoard) -> list[Text]:
    style = {"critical": "bold white on red", "warning": "bold yellow", "info": "bold"}
    return [
        Text(
            f"▲ {alert.rule}: {alert.role}, {'+'.join(alert.labels)} {alert.posterior:.0%}"
            f" since {clock(alert.since_s + board.start_s)}",
            style=style[alert.severity],
        )
        for alert in board.alerts.values()
    ]


def _shares(board: StreamBoard) -> list[Text]:
    """Return the seconds of each emotion, a line for each channel."""
    lines = []
    for channel in board.summary.channels if board.summary else ():
        line = Text(f"{channel.role}  ", style="bold")
        ranked = sorted(channel.label_s.items(), key=lambda item: -item[1])
        for label, seconds in ranked:
            line.append(f"{label} {seconds:.0f} s  ", style=COLOURS.get(label, "default"))
        if channel.unclear_s:
            line.append(f"{UNCLEAR} {channel.unclear_s:.0f} s  ", style="grey62")
        line.append(f"of {channel.scored_s:.0f} s of speech", style="dim")
        lines.append(line)
    return lines


def _foot(board: StreamBoard) -> Text:
    beat = board.heartbeat
    if beat is None:
        return Text()
    text = (
        f"{clock(beat.received_s + board.start_s)} received   lag {beat.lag_ms / 1000:.1f} s"
        f"   real-time factor {beat.real_time_factor:.2f}"
    )
    step_ms = board.ready.step_ms if board.ready else 0
    if beat.effective_step_ms > 1.5 * step_ms > 0:
        text += f"   the server is overloaded: a step of {beat.effective_step_ms / 1000:.1f} s"
    return Text(text, style="dim")


_REFRESH_S = 0.125


class _Plain:
    """An output with nothing to begin or end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def say_stopping(self) -> None:
        """Print to standard error: standard output holds results only."""
        print("emotion-monitor: stopping; Ctrl-C again stops at once", file=sys.stderr, flush=True)


class JsonOutput(_Plain):
    """One JSON object a line, as the server sent it."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        # JSON is UTF-8 whatever the locale says (RFC 8259, section 8.1).
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")

    def say(self, event: ClientEvent) -> None:
        """Print it at once, whole."""
        print(self._encoder.encode(event).decode(), flush=True)


class LineOutput(_Plain):
    """A line for each finished segment, each gap other than silence, and each alert."""

    def __init__(self, board: StreamBoard) -> None:
        self._board = board

    def say(self, event: ClientEvent) -> None:
        """Print the message's line, if it has one."""
        line = self._line(event)
        if line is not None:
            print(line, flush=True)
        note = self._note(event)
        if note is not None:
            print(f"emotion-monitor: {note}", file=sys.stderr, flush=True)

    def _line(self, event: ClientEvent) -> str | None:
        match event:
            case Segment(final=True):
                if event.label is None:
                    return f"{self._span(event)}  {UNCLEAR}"
                return f"{self._span(event)}  {event.label:<10}{event.confidence:>4.0%}"
            case Gap(final=True) if event.reason not in _QUIET_GAPS:
                return f"{self._span(event)}  gap: {event.reason}"
            case Alert():
                at = clock(event.at_s + self._board.start_s)
                return (
                    f"{at:>8}  {event.role}  alert {event.state}: {event.rule} ({event.severity})"
                )
            case Summary():
                heard = clock(event.duration_s + self._board.start_s)
                return f"{heard:>8}  end of stream: {event.reason}, {event.alerts} alerts"
            case _:
                return None

    def _note(self, event: ClientEvent) -> str | None:
        match event:
            case Ready(resumed=True):
                return "connected again, the stream goes on"
            case Ready():
                model = event.model
                return f"model: {model.name}; {model.notice or model.licence}"
            case ConnectionLost():
                return f"{event.reason}; trying again in {event.retry_in_s:.1f} s"
            case Warning():
                return event.message
            case Error(close_code=None):
                return f"{event.message}. {event.remedy}"
            case _:
                return None

    def _span(self, event: Segment | Gap) -> str:
        start_s = self._board.start_s
        start, end = clock(event.start_s + start_s), clock(event.end_s + start_s)
        return f"{start:>8} {end:>8}  {event.role}"


class LiveOutput:
    """The board, drawn again eight times a second."""

    def __init__(self, board: StreamBoard) -> None:
        self._board = board
        # rich would refresh from a thread, which could read the board while it changes.
        self._live = Live(console=Console(), auto_refresh=False, transient=False)
        self._refreshing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        self._refreshing = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Leave the last picture and give the terminal back."""
        assert self._refreshing is not None
        self._refreshing.cancel()
        with suppress(asyncio.CancelledError):
            await self._refreshing
        self._live.update(view(self._board))
        self._live.stop()

    def say(self, event: ClientEvent) -> None:
        """Do nothing: the board shows it."""

    def say_stopping(self) -> None:
        """Do nothing: the board shows it."""

    async def _refresh(self) -> None:
        while True:
            self._live.update(view(self._board), refresh=True)
            await asyncio.sleep(_REFRESH_S)


Output = JsonOutput | LineOutput | LiveOutput
"""Writes what the client yields, after the board has taken it."""
