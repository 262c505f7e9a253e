"""A client's audio and controls that the server has not confirmed, kept for a lost connection.

The log holds entries in the order in which the caller added them. Positions count samples a channel
at the client's rate, whatever fills them: audio, ``discarded``, the span of ``resume``::

    entries   [audio][audio][pause][resume, 4800 samples][audio][mark][audio]
              ^ start_sample              sent so far ^              ^ end_sample

The server has always received a prefix, so two numbers confirm it: its position and how many
controls it acted on. When the log is full, the oldest entries are dropped. Those not yet sent
become a ``discarded``; those sent are missing only if the connection is lost before they are
confirmed.

Of encoded audio (``AudioFormat.codec``) a client knows no samples: positions count its bytes, which
is what a server confirms of it, and controls fill none. Without its first byte it cannot be
decoded: what is missing cannot become a ``discarded``, and no new stream can begin in the middle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Discarded, Flush, Mark, Pause, Resume, Stop

Control = Flush | Pause | Resume | Discarded | Mark | Stop
"""Every control but ``keepalive``, which has no meaning when sent again."""


class CannotBeginAnewError(ProtocolError):
    """Encoded audio is gone for good in the middle of a stream, or the stream is."""

    def __init__(self, what: str, codec: str) -> None:
        super().__init__(
            ErrorCode.UNEXPECTED_MESSAGE,
            f"{what}, and audio of encoding '{codec}' can be decoded from its beginning only",
        )


# Of one message: far below any server's limit, and small enough to drop one at a time.
_MAX_CHUNK_BYTES = 32_768
# Size of a control against the bound; no less than its text and Python's objects for it.
_CONTROL_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Entry:
    """Audio or a control, and the positions it fills."""

    start_sample: int
    end_sample: int
    content: bytes | Control

    @property
    def num_bytes(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else _CONTROL_BYTES


class ReplayLog:
    """Audio and controls of a stream that may have to be sent again.

    Args:
        max_bytes: what is kept at most, the newest entry apart.
    """

    def __init__(self, audio_format: AudioFormat, max_bytes: int) -> None:
        self._codec = audio_format.codec
        # Bytes a position: a sample of all channels.
        self._tick_bytes = 1 if audio_format.codec else audio_format.bytes_per_tick
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()  # what is kept, oldest first
        self.num_kept_bytes = 0
        self._partial = b""  # the beginning of a sample of all channels whose rest has not come
        self.end_sample = 0  # position after everything added
        self.paused = False  # whether a pause is open there
        self._paused_at_start = False  # whether a pause is open before the first entry
        self._first_control = 0  # index in the stream of the first control in the entries
        self._num_sent = 0  # entries, from the first, that were sent on this connection
        # The same on any connection since the server last confirmed; it may have them.
        self._num_tried = 0
        # The server's position, and whether it is paused there, before the first entry.
        self._bridge_from = (0, False)

    @property
    def start_sample(self) -> int:
        """Position of the oldest entry."""
        return self._entries[0].start_sample if self._entries else self.end_sample

    @property
    def has_unsent(self) -> bool:
        """Whether :meth:`take` returns anything."""
        return self._num_sent < len(self._entries)

    def add_audio(self, data: bytes) -> None:
        """Add audio, interleaved, in any split."""
        # Entries hold whole samples of all channels, or the channels would change places in the one
        # that follows a dropped entry.
        data = self._partial + data if self._partial else data
        tick = self._tick_bytes
        whole = len(data) - len(data) % tick
        self._partial = data[whole:]
        # An empty packet of Opus says that one was lost. After a lost connection those that the
        # server may have had count as received.
        if self._codec == "opus" and not data:
            self._add(b"", 0)
        chunk_bytes = _MAX_CHUNK_BYTES - _MAX_CHUNK_BYTES % tick
        for start in range(0, whole, chunk_bytes):
            chunk = data[start : min(start + chunk_bytes, whole)]
            self._add(chunk, len(chunk) // tick)

    def add_control(self, control: Control) -> None:
        """Add a control. The caller checks that it is allowed: no second pause, no late resume."""
        if isinstance(control, Discarded):
            control = self._merged(control)
        if isinstance(control, Pause | Resume):
            self.paused = isinstance(control, Pause)
        self._add(control, self._span(control))

    def take(self) -> list[bytes | Control]:
        """Return what has not been sent on this connection, and count it as sent."""
        if not self.has_unsent:
            return []
        if self._num_sent == 0:
            # Dropped entries may lie between the server's position and the first one kept.
            self._bridge()
        num_entries = len(self._entries)
        unsent = [self._entries[index].content for index in range(self._num_sent, num_entries)]
        self._num_sent = num_entries
        return unsent

    def forget(self, end_sample: int, num_controls: int) -> None:
        """Drop what a heartbeat confirms: all before ``end_sample``, and the first controls."""
        # Never what this connection has not sent, whatever the server claims.
        while self._num_sent and self._is_received(self._entries[0], end_sample, num_controls):
            self._drop_first()

    def skip_to(self, start_sample: int) -> None:
        """Drop everything before a position, controls too; what follows begins a new stream."""
        while self._entries and self._entries[0].end_sample <= start_sample:
            self._drop_first()
        if self._entries and self._entries[0].start_sample < start_sample:
            self._cut_first(start_sample)

    def disconnected(self) -> None:
        """The connection is lost; nothing counts as sent."""
        # Sent entries may have arrived all the same: ``ready`` of the next connection tells.
        self._num_tried = max(self._num_tried, self._num_sent)
        self._num_sent = 0

    def go_on(self, end_sample: int, num_controls: int, *, paused: bool) -> None:
        """Continue on a new connection after what the server has received.

        Args:
            end_sample: ``received_samples`` of ``ready``, on the client's clock.
            num_controls: ``received_controls`` of ``ready``.
            paused: whether the server has a pause open there.

        Raises:
            ProtocolError: the server confirms what was never sent.
        """
        while self._num_tried and self._is_received(self._entries[0], end_sample, num_controls):
            self._drop_first()
        # The server counts samples, not messages: it may have taken part of one.
        if self._num_tried and self._entries[0].start_sample < end_sample:
            self._cut_first(end_sample)
        if end_sample > self.start_sample:
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE,
                f"got received_samples {end_sample} from the server, which was sent"
                f" {self.start_sample}",
            )
        self._first_control = num_controls
        self._num_sent = self._num_tried = 0
        self._bridge_from = (end_sample, paused)

    def begin_stream(self) -> None:
        """Begin a new stream, whose position 0 is :attr:`start_sample`.

        Raises:
            CannotBeginAnewError: the audio is encoded, and its beginning is no longer kept.
        """
        if self._codec and self.start_sample:
            raise CannotBeginAnewError(
                f"the server does not have the stream, whose first {self.start_sample} bytes are no"
                " longer kept here",
                self._codec,
            )
        self._first_control = 0
        self._num_sent = self._num_tried = 0
        self._bridge_from = (self.start_sample, False)

    def _add(self, content: bytes | Control, num_samples: int) -> None:
        entry = _Entry(self.end_sample, self.end_sample + num_samples, content)
        self._entries.append(entry)
        self.end_sample = entry.end_sample
        self.num_kept_bytes += entry.num_bytes
        # The newest entry stays even if it alone exceeds the bound.
        while self.num_kept_bytes > self._max_bytes and len(self._entries) > 1:
            self._drop_first()

    def _drop_first(self) -> None:
        entry = self._entries.popleft()
        self.num_kept_bytes -= entry.num_bytes
        was_sent = max(self._num_sent, self._num_tried) > 0
        if not isinstance(entry.content, bytes):
            # The server counts the controls it acted on. One that was never sent is not among them.
            self._first_control += was_sent
            if isinstance(entry.content, Pause | Resume):
                self._paused_at_start = isinstance(entry.content, Pause)
        if self._num_sent:
            # The server has it from this connection, so the next bridge begins after it.
            self._num_sent -= 1
            self._bridge_from = (entry.end_sample, self._paused_at_start)
        self._num_tried = max(0, self._num_tried - 1)

    def _cut_first(self, start_sample: int) -> None:
        """Cut what is before ``start_sample`` from the first entry."""
        entry = self._entries[0]
        if not isinstance(entry.content, bytes):
            # A control is acted on whole or not at all.
            return
        num_cut_bytes = (start_sample - entry.start_sample) * self._tick_bytes
        rest = _Entry(start_sample, entry.end_sample, entry.content[num_cut_bytes:])
        self._entries[0] = rest
        self.num_kept_bytes -= num_cut_bytes

    def _is_received(self, entry: _Entry, end_sample: int, num_controls: int) -> bool:
        # A control may fill no positions, so only its index tells.
        if isinstance(entry.content, bytes):
            return entry.end_sample <= end_sample
        return self._first_control < num_controls

    def _merged(self, discarded: Discarded) -> Discarded:
        """Return ``discarded`` together with one that ends the log and was never sent."""
        # A microphone that cannot send discards many times a second; one entry must hold them all.
        if len(self._entries) <= max(self._num_sent, self._num_tried):
            return discarded
        last = self._entries[-1]
        if not isinstance(last.content, Discarded):
            return discarded
        self._entries.pop()
        self.num_kept_bytes -= last.num_bytes
        self.end_sample = last.start_sample
        return Discarded(samples=last.content.samples + discarded.samples)

    def _bridge(self) -> None:
        """Prepend the controls that lead from the server's position and pause to the first entry.

        ::

            server                first entry     prepended
            running               running, later  discarded
            paused                running         resume of the missing samples
            paused                paused, later   resume of the missing samples, pause
            running               paused          discarded if samples are missing, pause
        """
        position, paused = self._bridge_from
        start = self.start_sample
        controls: list[Control] = []
        num_missing = start - position
        if self._codec and num_missing:
            raise CannotBeginAnewError(
                f"{num_missing} bytes were dropped before they could be sent", self._codec
            )
        if paused and (num_missing or not self._paused_at_start):
            controls.append(Resume(paused_samples=num_missing))
            paused = False
        elif num_missing:
            controls.append(Discarded(samples=num_missing))
        if self._paused_at_start and not paused:
            controls.append(Pause())
        # From now on the first entry is one of these, and before it the server's state holds.
        self._paused_at_start = self._bridge_from[1]
        for control in reversed(controls):
            begin = start - self._span(control)
            self._entries.appendleft(_Entry(begin, start, control))
            self.num_kept_bytes += _CONTROL_BYTES
            start = begin

    def _span(self, control: Control) -> int:
        """Return how many positions a control fills."""
        if self._codec:
            return 0
        if isinstance(control, Discarded):
            return control.samples
        if isinstance(control, Resume):
            return control.paused_samples or 0
        return 0
