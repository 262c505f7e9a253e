"""One stream: bytes and answers in, windows and results out.

Pure and synchronous; whoever holds the session calls the engine, when it likes::

    session = Session(stream_id="s-1", spec=spec, model=engine.info, ...)
    session.opened(at=now)
    session.receive(message)
    while session.has_backlog:
        for each in session.advance():          # at most one step boundary at a time
            session.answer(each, engine.step([each.window])[0])
        publish(session.take_results())
    for each in session.finish(): ...           # as above
    session.close("stopped", at=now)
    publish(session.take_results())

**Channels** share one clock: every analysed channel takes the same time, so their windows fall due
together. Audio that only one of them lost is a gap of that channel alone. A channel whose role is
not analysed is not decoded, unless there is a tap.

**Positions.** A client counts samples a channel at its own rate, whatever fills them: audio it sent
or discarded, audio that was lost between two connections, and pauses whose length it told. The
stream's clock counts the same at 16 kHz, and pauses that were measured here as well.

**Order.** Results are numbered as they fall due, channel by channel. Splitting the audio
differently changes nothing, as long as windows are answered before more audio is advanced through.
A ``mark`` or ``flush`` comes back when every frame that was complete at its position is published
on every analysed channel, or at the end; so it follows all results that tell of audio before it,
save for segments and gaps that go on.

What a session consists of, and what is known of its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.frames import samples_to_s
from ser_engine.schema import GapReason
from ser_engine.types import ModelInfo, WindowResult
from stream_server.streams.channels import AlignedChannels, AnalysedChannel, ChannelWindow, Tap
from stream_server.streams.session_results import Framing, Note, Notes, ResultLog, stream_channels
from stream_server.wire.dialect import LostSpan
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import CloseReason, Result
from stream_server.wire.start import StreamSpec


class SessionState:
    """The parts of a :class:`~stream_server.streams.session.Session`; its arguments are these.

    Args:
        stream_id: names the stream; windows of channel *c* have the stream key ``ID/c``.
        spec: what the client wants.
        model: what scores it.
        engine_config: windows, smoothing, speech detector.
        analyse_roles: roles whose channels are analysed.
        tap: is given all audio.

    Attributes:
        channels: all channels, as ``ready`` tells them.
        analysed: indices of those that are analysed.

    Raises:
        ProtocolError: no channel has a role that is analysed.
    """

    def __init__(
        self,
        *,
        stream_id: str,
        spec: StreamSpec,
        model: ModelInfo,
        engine_config: EngineConfig,
        analyse_roles: Collection[str],
        tap: Tap | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.spec = spec
        self.model = model
        self.channels = stream_channels(spec, analyse_roles)
        self.analysed = tuple(each.index for each in self.channels if each.analysed)
        self._step_ms = engine_config.timeline.step_ms
        self._log = ResultLog(stream_id, model.name, model.labels.names)
        self._framing = Framing(stream_id, self._log)
        self._lanes = tuple(
            AnalysedChannel(
                index=index,
                role=self.channels[index].role,
                stream_id=stream_id,
                sample_rate_hz=spec.format.sample_rate_hz,
                model=model,
                config=engine_config,
                details="frames" in spec.wants,
                log=self._log,
            )
            for index in self.analysed
        )
        self._lane_of = {lane.index: lane for lane in self._lanes}
        step_samples = engine_config.timeline.step_samples
        self._audio = AlignedChannels(spec.format, self._lanes, step_samples, tap)
        self._uncounted_ticks = 0  # pauses that the client does not count
        self._notes = Notes()
        self._is_paused = False
        self._is_finished = False
        self._is_closed = False

    @property
    def received_samples(self) -> int:
        """Position of the next sample by the client's count."""
        return self._audio.intake.end_ticks - self._uncounted_ticks

    @property
    def received_s(self) -> float:
        """Length of the stream so far, audio that was not processed yet included."""
        return samples_to_s(self._audio.intake.end_sample)

    @property
    def published_s(self) -> float:
        """Every analysed channel is scored or in a gap up to here."""
        return samples_to_s(min(lane.accounted_samples for lane in self._lanes))

    @property
    def clock_samples(self) -> int:
        """Stream time up to which audio was processed."""
        return self._audio.clock_samples

    @property
    def pending_windows(self) -> int:
        """Windows that were neither answered nor given up."""
        return sum(lane.pending_windows for lane in self._lanes)

    @property
    def is_paused(self) -> bool:
        """Whether the client is to say when audio goes on."""
        return self._is_paused

    @property
    def next_seq(self) -> int:
        """``seq`` of the next result."""
        return self._log.next_seq


R = TypeVar("R", bound=Result)


class Session(SessionState):
    """See the module's text; arguments and attributes are those of :class:`SessionState`.

    Methods that return windows return all that became due, in order. After :meth:`finish` those
    that take audio or are about it raise :class:`RuntimeError`.
    """

    def receive(self, data: bytes, lost: Sequence[LostSpan] = ()) -> None:
        """Take encoded bytes, any number; :meth:`advance` makes something of them.

        Args:
            data: the next ones.
            lost: where in them a channel alone has nothing; it becomes a gap, ``lost``, of that
                channel. Only with whole ticks.

        Raises:
            ProtocolError: the stream is paused; nothing is taken.
        """
        self._check_running()
        if self._is_paused:
            raise ProtocolError(
                ErrorCode.UNEXPECTED_MESSAGE, "got audio while paused, expected 'resume' first"
            )
        self._audio.receive(data, lost)

    @property
    def has_backlog(self) -> bool:
        """Whether :meth:`advance` would do something.

        Less than a block that reaches no boundary waits: it would make nothing due.
        """
        return self._audio.has_backlog

    def advance(self) -> list[ChannelWindow]:
        """Process the backlog up to the next boundary; none due: there may be more of it."""
        return self._noted(self._audio.advance())

    def flush(self) -> list[ChannelWindow]:
        """Make everything due that is here; :class:`Flushed` tells when it is published.

        Raises:
            ProtocolError: too many marks and flushes wait.
        """
        self._check_running()
        self._notes.add(Note(self._audio.intake.end_sample, None))
        return self._noted(self._audio.flush())

    def pause(self) -> list[ChannelWindow]:
        """Flush, and let no audio come until :meth:`resume`.

        Raises:
            ProtocolError: the stream is paused already.
        """
        self._check_running()
        if self._is_paused:
            raise ProtocolError(
                ErrorCode.UNEXPECTED_MESSAGE, "got 'pause' while paused, expected 'resume'"
            )
        self._is_paused = True
        return self._noted(self._audio.flush())

    def resume(self, num_source_samples: int, *, is_counted: bool = True) -> list[ChannelWindow]:
        """Go on after a pause of that many samples at the client's rate.

        Args:
            num_source_samples: length of the pause.
            is_counted: the client told the length and counts on from there; False: it was
                measured here.

        Raises:
            ProtocolError: the stream is not paused, or the number is negative.
        """
        self._check_running()
        if not self._is_paused:
            raise ProtocolError(
                ErrorCode.UNEXPECTED_MESSAGE, "got 'resume' without a pause, expected 'pause' first"
            )
        windows = self._gap("paused", num_source_samples)
        if not is_counted:
            self._uncounted_ticks += num_source_samples
        self._is_paused = False
        return windows

    def discard(self, num_source_samples: int) -> list[ChannelWindow]:
        """Let the client leave audio out; it becomes a gap, ``discarded``.

        Raises:
            ProtocolError: the number is negative.
        """
        return self._gap("discarded", num_source_samples)

    def lose(self, num_source_samples: int) -> list[ChannelWindow]:
        """Go on after audio that never came; it becomes a gap, ``lost``.

        Raises:
            ProtocolError: the number is negative.
        """
        return self._gap("lost", num_source_samples)

    def rejoin(self, next_sample: int) -> list[ChannelWindow]:
        """Go on after a reconnect, at :attr:`received_samples`.

        A sample that came in part is forgotten. Where the client has nothing before ``next_sample``
        any more, by its count, what is missing is lost.

        Raises:
            ProtocolError: the number is negative.
        """
        self._check_running()
        _check_count("next_sample", next_sample)
        self._audio.intake.drop_partial_tick()
        return self.lose(max(0, next_sample - self.received_samples))

    def mark(self, name: str) -> None:
        """Have ``name`` come back at the position of the audio received so far.

        Raises:
            ProtocolError: too many marks and flushes wait.
        """
        self._check_running()
        self._notes.add(Note(self._audio.intake.end_sample, name))
        self._noted([])

    def finish(self) -> list[ChannelWindow]:
        """End the audio. Answer what is pending, then call :meth:`close`."""
        self._check_running()
        self._is_finished = True
        return self._noted(self._audio.finish())

    def answer(self, window: ChannelWindow, outcome: WindowResult | WindowError) -> None:
        """Take the answer to a window; earlier ones of its channel are given up.

        After :meth:`close`, or for a window that was given up, it changes nothing.

        Raises:
            ValueError: the result has another frame hop or other classes than this stream.
        """
        if self._is_closed:
            return
        self._lane_of[window.channel].answer(window.window, outcome)
        self._noted([])

    def skip(self, window: ChannelWindow) -> None:
        """Give a window up; a later one tells of its audio, as far as it reaches back."""
        if self._is_closed:
            return
        self._lane_of[window.channel].skip(window.window)
        self._noted([])

    def opened(self, at: float) -> None:
        """Publish :class:`StreamOpened`, the first result.

        Args:
            at: seconds since 1970, UTC.
        """
        if self._log.next_seq:
            raise RuntimeError(
                f"got opened() after {self._log.next_seq} results, expected it first"
            )
        self._framing.opened(self.spec, self.channels, self.model, self._step_ms, at)

    def publish(self, make: Callable[[int], R]) -> R:
        """Put a result of the caller's into the order: ``make`` is given its ``seq``."""
        return self._log.publish(make)

    def take_results(self) -> list[Result]:
        """Return the results since the last call, in order of ``seq``."""
        return self._log.take()

    def take_errors(self) -> list[ProtocolError]:
        """Return what the client has to be told of since the last call: audio that is no number."""
        return self._audio.intake.take_errors()

    def close(self, reason: CloseReason, at: float, *, alerts: int = 0) -> None:
        """Publish what is open, :class:`Summary` and :class:`StreamClosed`.

        Audio that was not processed yet is accounted for; speech without an answer is a gap:
        ``error`` where the engine failed, else ``overload``. Closing again does nothing.

        Args:
            reason: why.
            at: seconds since 1970, UTC.
            alerts: number of alerts raised.
        """
        if self._is_closed:
            return
        if not self._is_finished:
            self.finish()
        self._is_closed = True
        gap: GapReason = "error" if reason == "engine_failed" else "overload"
        summaries = tuple([lane.close(gap) for lane in self._lanes])
        self._noted([])
        self._framing.closed(
            reason,
            at,
            clock_samples=self.clock_samples,
            received_samples=self.received_samples,
            channels=summaries,
            alerts=alerts,
        )

    def _gap(self, reason: GapReason, num_source_samples: int) -> list[ChannelWindow]:
        self._check_running()
        _check_count(f"{reason} samples", num_source_samples)
        if num_source_samples == 0:
            return []
        return self._noted(self._audio.drain(self._audio.intake.gap(reason, num_source_samples)))

    def _noted(self, windows: list[ChannelWindow]) -> list[ChannelWindow]:
        """Publish the marks and flushes that became due; return ``windows``."""
        for note in self._notes.take_due(self._is_accounted):
            self._framing.note(note)
        return windows

    def _is_accounted(self, sample: int) -> bool:
        return self._is_closed or all(lane.is_accounted(sample) for lane in self._lanes)

    def _check_running(self) -> None:
        if self._is_finished:
            raise RuntimeError("got a call on a session that is finished, expected none")


def _check_count(name: str, count: int) -> None:
    if count < 0:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"got {count} {name}, expected none or more")
