"""How ``emotion-monitor stream`` shows a running stream to people."""

from __future__ import annotations

import itertools

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stream_server.cli.palette import COLOURS
from stream_server.cli.stream_board import ChannelBoard, Span, StreamBoard

__all__ = ["clock", "level_bar", "strip", "view"]

_STRIP_S = 60
_LEVEL_CELLS = 12
_QUIETEST_DBFS = -60.0
_TOO_LOUD_DBFS = -3.0

_GAP_CELLS = {
    "silence": "·",
    "too_short": "·",
    "overload": "!",
    "error": "×",
    "paused": "‖",
    "discarded": "╌",
    "lost": "╌",
}
_QUIET_GAPS = ("silence", "too_short")
"""Gaps that are how speech is; the others are worth a word."""


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
    """Return the last minute, a cell a second: colour is emotion, its strength confidence."""
    last = int(end_s)
    cells = [_cell(channel, second) for second in range(last - _STRIP_S + 1, last + 1)]
    runs = ((cell, len(list(run))) for cell, run in itertools.groupby(cells))
    return Text.assemble(*((sign * length, style) for (sign, style), length in runs))


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def _cell(channel: ChannelBoard, second: int) -> tuple[str, str]:
    """Return the sign of a second and its style."""
    span = _longest_in(channel, second)
    if span is None:
        return " ", ""
    if span.reason:
        style = "grey35" if span.reason in _QUIET_GAPS else "yellow"
        return _GAP_CELLS.get(span.reason, "?"), style
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
    """Return what the signs of gaps in sight mean."""
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
    """Return how much of each emotion was heard, channel by channel."""
    lines = []
    for channel in board.summary.channels if board.summary else ():
        line = Text(f"{channel.role}  ", style="bold")
        ranked = sorted(channel.label_s.items(), key=lambda item: -item[1])
        for label, seconds in ranked:
            line.append(f"{label} {seconds:.0f} s  ", style=COLOURS.get(label, "default"))
        line.append(f"of {channel.scored_s:.0f} s of speech", style="dim")
        lines.append(line)
    return lines


def _foot(board: StreamBoard) -> Text:
    beat = board.heartbeat
    if beat is None:
        return Text()
    text = (
        f"{clock(beat.received_s + board.start_s)} heard   lag {beat.lag_ms / 1000:.1f} s"
        f"   real-time factor {beat.real_time_factor:.2f}"
    )
    step_ms = board.ready.step_ms if board.ready else 0
    if beat.effective_step_ms > 1.5 * step_ms > 0:
        text += f"   the server is overloaded: a step of {beat.effective_step_ms / 1000:.1f} s"
    return Text(text, style="dim")
