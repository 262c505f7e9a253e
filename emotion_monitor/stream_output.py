"""Where ``emotion-monitor stream`` says what it got: a live view, lines of text, or JSON."""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import msgspec
from rich.console import Console
from rich.live import Live

from emotion_monitor.stream_view import StreamBoard, clock, view
from mic_client.stream_client import ClientEvent, ConnectionLost
from stream_server.wire.messages import Error, Ready
from stream_server.wire.results import Alert, Gap, Segment, Summary, Warning

_REFRESH_S = 0.125
_SILENT_GAPS = ("silence", "too_short")


class Output(Protocol):
    """Says what the client yields. The board has taken it already."""

    async def __aenter__(self) -> Self:
        """Begin."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End."""
        ...

    def say(self, event: ClientEvent) -> None:
        """Say one message."""
        ...

    def say_stopping(self) -> None:
        """Say that the stream is being ended."""
        ...


class _Plain:
    """An output with nothing to begin or end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def say_stopping(self) -> None:
        """On standard error, where it is in nobody's way."""
        print("emotion-monitor: stopping; Ctrl-C again stops at once", file=sys.stderr, flush=True)


class JsonOutput(_Plain):
    """One JSON object a line, as the server sent it."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        # JSON is UTF-8, whatever the locale says.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")

    def say(self, event: ClientEvent) -> None:
        """Print it at once, whole."""
        print(self._encoder.encode(event).decode(), flush=True)


class LineOutput(_Plain):
    """A line for each segment that is over, each gap that is no silence, and each alert."""

    def __init__(self, board: StreamBoard) -> None:
        self._board = board

    def say(self, event: ClientEvent) -> None:
        """Print it, if it is worth a line."""
        line = self._line(event)
        if line is not None:
            print(line, flush=True)
        note = self._note(event)
        if note is not None:
            print(f"emotion-monitor: {note}", file=sys.stderr, flush=True)

    def _line(self, event: ClientEvent) -> str | None:
        match event:
            case Segment(final=True):
                return f"{self._span(event)}  {event.label:<10}{event.confidence:>4.0%}"
            case Gap(final=True) if event.reason not in _SILENT_GAPS:
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
        # Drawn by the event loop: a thread of its own would read a board that changes.
        self._live = Live(console=Console(), auto_refresh=False, transient=False)
        self._refreshing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        self._refreshing = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last picture and give the terminal back."""
        assert self._refreshing is not None
        self._refreshing.cancel()
        with suppress(asyncio.CancelledError):
            await self._refreshing
        self._live.update(view(self._board))
        self._live.stop()

    def say(self, event: ClientEvent) -> None:
        """Nothing: the board shows it."""

    def say_stopping(self) -> None:
        """Nothing: the board shows it."""

    async def _refresh(self) -> None:
        while True:
            self._live.update(view(self._board), refresh=True)
            await asyncio.sleep(_REFRESH_S)
