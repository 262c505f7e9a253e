"""What is known of a running stream: state for the live view, without a terminal."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mic_client.events import ClientEvent, ConnectionLost
from mic_client.level import SILENT_DBFS
from stream_server.protocol.results import Alert, Gap, Point, Segment, Summary, Warning
from stream_server.protocol.server_messages import Error, Heartbeat, Ready

__all__ = ["ChannelBoard", "Span", "StreamBoard"]

_KEPT_S = 120.0
_NUM_NOTES = 4


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a channel's timeline.

    Attributes:
        start_s, end_s: where, from the client's first sample.
        label: emotion, or "" in a gap.
        reason: of a gap, or "".
        confidence: mean posterior of the label, 0 to 1.
    """

    start_s: float
    end_s: float
    label: str = ""
    reason: str = ""
    confidence: float = 0.0


@dataclass(slots=True)
class ChannelBoard:
    """One channel.

    Attributes:
        role, name: who speaks.
        is_analysed: whether results come.
        level_dbfs: of the last chunk sent.
        spans: the timeline of the last two minutes, in order.
        point: the last one.
    """

    role: str
    name: str = ""
    is_analysed: bool = True
    level_dbfs: float = SILENT_DBFS
    spans: deque[Span] = field(default_factory=deque)
    point: Point | None = None

    def take(self, span: Span) -> None:
        """Add a span; one with the same beginning is replaced, as are those after it."""
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
        if last.label and self.point is not None and self.point.label == last.label:
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
        """Take the levels of a chunk."""
        for channel, level_dbfs in zip(self.channels, levels_dbfs, strict=True):
            channel.level_dbfs = level_dbfs

    def take(self, event: ClientEvent, stream_start_s: float) -> None:
        """Take what the client yields.

        Args:
            event: the message.
            stream_start_s: of the client.
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
            span = Span(start_s, end_s, label=event.label, confidence=event.confidence)
        else:
            span = Span(start_s, end_s, reason=event.reason)
        self.channels[event.channel].take(span)
        self._reach(event.end_s)

    def _reach(self, end_s: float) -> None:
        self.end_s = max(self.end_s, end_s + self.start_s)
