"""What a client has to say and the server does not have yet, kept for a lost connection.

The log holds audio and controls in the order in which they were said. Positions count samples a
channel at the client's rate, whatever fills them: audio, ``discarded``, the span of ``resume``::

    entries   [audio][audio][pause][resume, 4800 samples][audio][mark][audio]
              ^ start_sample        what went out so far ^              ^ end_sample

What the server has is always a beginning of what was said, so two numbers name it: its position
and how many controls it acted on. When the log is full, the oldest entries go. What had not been
sent becomes a ``discarded``; what had been sent is missed only if the connection is lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Discarded, Flush, Mark, Pause, Resume, Stop

Control = Flush | Pause | Resume | Discarded | Mark | Stop
"""What is kept; ``keepalive`` means something only when it is sent."""

_MAX_CHUNK_BYTES = 32_768
_CONTROL_BYTES = 512
"""What a control counts for against the bound; no less than its text and the objects around."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Audio or a control and the positions it fills."""

    start_sample: int
    end_sample: int
    content: bytes | Control

    @property
    def num_bytes(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else _CONTROL_BYTES


@dataclass(slots=True)
class _State:
    """All that changes.

    Attributes:
        entries: what is kept.
        num_bytes: of ``entries``.
        partial: the beginning of a sample of all channels whose rest has not come.
        end_sample: position after everything said.
        paused_at_end: whether a pause is open there.
        paused_at_start: whether a pause is open before the first entry.
        first_control: number of the first control in ``entries`` among those of the stream.
        num_sent: how many entries, from the first, went out on this connection.
        num_tried: the same for any connection since the server last said what it has.
        bridge_from: position and pause the server is at while nothing of ``entries`` is sent.
    """

    entries: deque[_Entry] = field(default_factory=deque)
    num_bytes: int = 0
    partial: bytes = b""
    end_sample: int = 0
    paused_at_end: bool = False
    paused_at_start: bool = False
    first_control: int = 0
    num_sent: int = 0
    num_tried: int = 0
    bridge_from: tuple[int, bool] = (0, False)


class ReplayLog:
    """Audio and controls of a stream that may have to be sent again.

    Args:
        audio_format: of the audio.
        max_bytes: what is kept at most, the newest entry apart.
    """

    def __init__(self, audio_format: AudioFormat, max_bytes: int) -> None:
        self._format = audio_format
        self._max_bytes = max_bytes
        self._state = _State()

    @property
    def start_sample(self) -> int:
        """Position of the oldest entry."""
        state = self._state
        return state.entries[0].start_sample if state.entries else state.end_sample

    @property
    def end_sample(self) -> int:
        """Position after everything said."""
        return self._state.end_sample

    @property
    def paused(self) -> bool:
        """Whether a pause is open after everything said."""
        return self._state.paused_at_end

    @property
    def num_kept_bytes(self) -> int:
        """What is kept, in bytes."""
        return self._state.num_bytes

    @property
    def has_unsent(self) -> bool:
        """Whether :meth:`take` has something to say."""
        return self._state.num_sent < len(self._state.entries)

    def add_audio(self, data: bytes) -> None:
        """Say audio, interleaved, in any split."""
        state = self._state
        data = state.partial + data if state.partial else data
        tick = self._format.bytes_per_tick
        whole = len(data) - len(data) % tick
        state.partial = data[whole:]
        chunk_bytes = _MAX_CHUNK_BYTES - _MAX_CHUNK_BYTES % tick
        for start in range(0, whole, chunk_bytes):
            chunk = data[start : min(start + chunk_bytes, whole)]
            self._add(chunk, len(chunk) // tick)

    def add_control(self, control: Control) -> None:
        """Say a control. Its order among pauses, audio and discards is the caller's affair."""
        state = self._state
        if isinstance(control, Discarded):
            control = self._merged(control)
        if isinstance(control, Pause | Resume):
            state.paused_at_end = isinstance(control, Pause)
        self._add(control, _span(control))

    def take(self) -> list[bytes | Control]:
        """Return what has not been sent on this connection, and regard it as sent."""
        state = self._state
        if not self.has_unsent:
            return []
        if state.num_sent == 0:
            self._bridge()
        num_entries = len(state.entries)
        unsent = [state.entries[index].content for index in range(state.num_sent, num_entries)]
        state.num_sent = num_entries
        return unsent

    def forget(self, end_sample: int, num_controls: int) -> None:
        """Drop what the server has: all before ``end_sample``, and the first controls."""
        state = self._state
        while state.num_sent and self._is_received(state.entries[0], end_sample, num_controls):
            self._drop_first()

    def skip_to(self, start_sample: int) -> None:
        """Drop everything before a position, controls too: what follows begins a new stream."""
        state = self._state
        while state.entries and state.entries[0].end_sample <= start_sample:
            self._drop_first()
        if state.entries and state.entries[0].start_sample < start_sample:
            self._cut_first(start_sample)

    def disconnected(self) -> None:
        """The connection is gone; nothing counts as sent."""
        state = self._state
        state.num_tried = max(state.num_tried, state.num_sent)
        state.num_sent = 0

    def go_on(self, end_sample: int, num_controls: int, *, paused: bool) -> None:
        """Continue on a new connection after what the server has.

        Args:
            end_sample: up to where it has the stream.
            num_controls: how many controls it acted on.
            paused: whether a pause is open there.

        Raises:
            ProtocolError: it claims to have what was never sent.
        """
        state = self._state
        while state.num_tried and self._is_received(state.entries[0], end_sample, num_controls):
            self._drop_first()
        if state.num_tried and state.entries[0].start_sample < end_sample:
            self._cut_first(end_sample)
        if end_sample > self.start_sample:
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"got received_samples {end_sample} from the server, expected at most"
                f" {self.start_sample}, which is what it was sent",
            )
        state.first_control = num_controls
        state.num_sent = state.num_tried = 0
        state.bridge_from = (end_sample, paused)

    def begin_stream(self) -> None:
        """Continue with a new stream, whose position 0 is :attr:`start_sample`."""
        state = self._state
        state.first_control = 0
        state.num_sent = state.num_tried = 0
        state.bridge_from = (self.start_sample, False)

    def _add(self, content: bytes | Control, num_samples: int) -> None:
        state = self._state
        entry = _Entry(state.end_sample, state.end_sample + num_samples, content)
        state.entries.append(entry)
        state.end_sample = entry.end_sample
        state.num_bytes += entry.num_bytes
        while state.num_bytes > self._max_bytes and len(state.entries) > 1:
            self._drop_first()

    def _drop_first(self) -> None:
        state = self._state
        entry = state.entries.popleft()
        state.num_bytes -= entry.num_bytes
        was_sent = max(state.num_sent, state.num_tried) > 0
        if not isinstance(entry.content, bytes):
            state.first_control += was_sent
            if isinstance(entry.content, Pause | Resume):
                state.paused_at_start = isinstance(entry.content, Pause)
        if state.num_sent:
            state.num_sent -= 1
            state.bridge_from = (entry.end_sample, state.paused_at_start)
        state.num_tried = max(0, state.num_tried - 1)

    def _cut_first(self, start_sample: int) -> None:
        """Leave out what is before ``start_sample`` of the first entry, if that is audio."""
        state = self._state
        entry = state.entries[0]
        if not isinstance(entry.content, bytes):
            return
        num_cut_bytes = (start_sample - entry.start_sample) * self._format.bytes_per_tick
        rest = _Entry(start_sample, entry.end_sample, entry.content[num_cut_bytes:])
        state.entries[0] = rest
        state.num_bytes -= num_cut_bytes

    def _is_received(self, entry: _Entry, end_sample: int, num_controls: int) -> bool:
        if isinstance(entry.content, bytes):
            return entry.end_sample <= end_sample
        return self._state.first_control < num_controls

    def _merged(self, discarded: Discarded) -> Discarded:
        """Return ``discarded`` together with one that ends the log and was never sent."""
        state = self._state
        if len(state.entries) <= max(state.num_sent, state.num_tried):
            return discarded
        last = state.entries[-1]
        if not isinstance(last.content, Discarded):
            return discarded
        state.entries.pop()
        state.num_bytes -= last.num_bytes
        state.end_sample = last.start_sample
        return Discarded(samples=last.content.samples + discarded.samples)

    def _bridge(self) -> None:
        """Put before the first entry what leads there from where the server is."""
        state = self._state
        position, paused = state.bridge_from
        start = self.start_sample
        controls: list[Control] = []
        num_missing = start - position
        if paused and (num_missing or not state.paused_at_start):
            controls.append(Resume(paused_samples=num_missing))
            paused = False
        elif num_missing:
            controls.append(Discarded(samples=num_missing))
        if state.paused_at_start and not paused:
            controls.append(Pause())
        state.paused_at_start = state.bridge_from[1]
        for control in reversed(controls):
            begin = start - _span(control)
            state.entries.appendleft(_Entry(begin, start, control))
            state.num_bytes += _CONTROL_BYTES
            start = begin


def _span(control: Control) -> int:
    """Return how many positions a control fills."""
    if isinstance(control, Discarded):
        return control.samples
    if isinstance(control, Resume):
        return control.paused_samples or 0
    return 0
