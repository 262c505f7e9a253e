"""The server's state of one stream: bytes and answers in, windows and results out.

Pure and synchronous; the caller runs the engine, when it likes::

    session = Session(stream_id="s-1", spec=spec, model=engine.info, ...)
    session.opened(at=now)
    session.receive(message)
    while session.has_backlog:
        for channel, window in session.advance():     # of one step boundary at most
            session.answer(channel, window, engine.step([window])[0])
        publish(session.take_results())
    for channel, window in session.finish(): ...      # as above
    session.close("stopped", at=now)
    publish(session.take_results())

**Channels** share one clock: every analysed channel takes the same time, so their windows fall due
together. Boundaries and losses are kept by the engine's :class:`~ser_engine.timeline.ChannelStream`
of each channel. A channel whose role is not analysed is decoded only for a tap, or so that it is
known when somebody speaks (``measures``).

**Positions.** A client counts samples a channel at its own rate, whatever fills them: audio it sent
or discarded, audio that was lost between two connections, and pauses whose length it told. The
stream's clock counts the same at 16 kHz, and pauses that were measured here as well.

**Order.** Results are numbered as they fall due, channel by channel. Splitting the audio
differently changes nothing, as long as windows are answered before more audio is advanced through.
A mark or flush comes back when every frame that was complete at its position is published on every
analysed channel, or at the end; so it follows all results about audio before it, except segments
and gaps that go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ser_engine import schema
from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import (
    MIXED_MESSAGE,
    MIXED_ROLE,
    ChannelSummary,
    CloseReason,
    GapReason,
    ModelNotice,
)
from ser_engine.speakers.attribution import Attribution
from ser_engine.speakers.live import LiveSpeakers
from ser_engine.speakers.pieces import VoicePiece
from ser_engine.timeline import ChannelStream, SpeechDetector, make_detector
from ser_engine.timeline.conversation import Conversation
from ser_engine.timeline.quality import QualityMonitor
from ser_engine.timeline.silero import SileroDetector
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult
from stream_server.streams.intake import Inlet, Intake, NoAudio
from stream_server.streams.session_results import (
    AnalysedChannel,
    ChannelWindow,
    R,
    ResultLog,
    stream_channels,
)
from stream_server.wire.containers import FirstBytes
from stream_server.wire.dialect import LostSpan, unexpected_message
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import (
    Measures,
    Result,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
)
from stream_server.wire.start import SpeakersAsked, StreamSpec

Tap = Callable[[int, FloatArray], None]
"""Is given the audio of every channel: index, float32 ``(samples,)`` at 16 kHz. Gaps come as zeros,
so that a position in it is one on the clock."""

BLOCK_MS = 500
"""Audio that is decoded at once, where nothing falls due before: many short messages then cost
little more than few long ones."""

# Blocks of one :meth:`Session.advance`: where steps are long, other streams have their turn in
# between.
_MAX_BLOCKS = 10

_MAX_WAITING_MS = 2_000
_MAX_WAITING_BYTES = 1 << 18
"""Audio that may come on top of what is being processed, before the reader has to deal with it: a
server that has fallen behind by less does no more for a message than one that has not."""

# Most that soxr's LQ holds back, 61 ms, from 8 kHz: that much after a boundary it is sure that the
# boundary's audio comes out.
_RESAMPLER_LAG_SAMPLES = 980

_ZEROS_SAMPLES = SAMPLE_RATE_HZ

MEASURES_EVERY_S = 5
"""Time between two :class:`Measures` of a stream, on its clock."""

NOBODY_APART: Mapping[int, SpeakersAsked] = {}
"""No channel whose speakers are told apart."""

MeasuredChannels = Literal["all", "analysed", "off"]
"""Whose speech is measured; ``all``: of channels that are not analysed only when they speak."""


def stream_key(stream_id: str, channel: int) -> str:
    """Return the engine's key of a channel, under which it keeps features between windows."""
    return f"{stream_id}/{channel}"


class Session:
    """See the module's text. After :meth:`finish` methods about audio raise :class:`RuntimeError`.

    Methods that return windows return all that became due, in order.

    Args:
        stream_id: names the stream; windows of channel *c* have the stream key ``ID/c``.
        speakers: whether those of each analysed channel are told apart: pieces of speech then come
            out by :meth:`take_pieces`, and results wait for their answers.

    Attributes:
        decoded: indices of those whose audio is needed at all.
        withheld: why audio that is processed from now on is neither scored nor given to the tap,
            but a gap; None: it is. What came before a change made by :meth:`settle` is treated as
            before, what merely waits when this is set is not.

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
        measures: MeasuredChannels = "all",
        tap: Tap | None = None,
        speakers: Mapping[int, SpeakersAsked] = NOBODY_APART,
    ) -> None:
        self._speakers = speakers
        self._is_release_due = False
        self._flushed_at: int | None = None  # the clock, until audio comes
        self.stream_id = stream_id
        self.spec = spec
        self.model = model
        self.channels = stream_channels(spec, analyse_roles)
        self.analysed = tuple(each.index for each in self.channels if each.analysed)
        self.is_paused = False
        self.withheld: GapReason | None = None
        self._step_ms = engine_config.timeline.step_ms
        self._log = ResultLog(stream_id)
        # Without a detector everything is speech, and nothing to be measured.
        is_measured = measures != "off" and engine_config.vad.detector != "off"
        self._conversation = Conversation() if is_measured else None
        self._measures_at = MEASURES_EVERY_S * SAMPLE_RATE_HZ
        self._neural: dict[int, SileroDetector] = {}
        self._channels = {index: self._channel(index, engine_config) for index in self.analysed}
        self._others = (
            self._other_listeners(engine_config) if is_measured and measures == "all" else {}
        )
        self._tap = tap
        decodes_all = tap is not None or len(self._channels) + len(self._others) == len(
            spec.channels
        )
        self.decoded = tuple(range(len(self.channels))) if decodes_all else self.analysed
        # What was decoded is no file.
        is_raw = not spec.format.codec
        self._first_bytes = FirstBytes(spec.format) if is_raw else None
        self._intake = Intake(spec.format, self.decoded)
        self._is_of_16_bits = self._intake.is_of_16_bits
        self._block_ticks = spec.format.sample_rate_hz * BLOCK_MS // 1000
        self._most_ticks = max(
            self._block_ticks,
            min(
                spec.format.sample_rate_hz * _MAX_WAITING_MS // 1000,
                _MAX_WAITING_BYTES // spec.format.bytes_per_tick,
            ),
        )
        self._items: deque[FloatArray | NoAudio] = deque()  # read and not yet processed
        self._uncounted_ticks = 0  # pauses that the client does not count
        self._is_finished = self._is_closed = self._has_told_format = False
        self._set_wake()

    def _channel(self, index: int, config: EngineConfig) -> AnalysedChannel:
        detector = self._listened(index, config, voice=True)
        attribution = None
        if asked := self._speakers.get(index):
            detector = heard = LiveSpeakers(
                detector,
                threshold=config.speakers.threshold,
                max_speakers=config.speakers.max_speakers,
            )
            attribution = Attribution(heard, leaves_first_out=asked == "agent_first")
        quality = QualityMonitor(detector, self.spec.format.sample_rate_hz)
        stream = ChannelStream(
            config,
            self.model,
            stream_key(self.stream_id, index),
            detector=quality,
            details="frames" in self.spec.wants,
        )
        return AnalysedChannel(
            log=self._log,
            index=index,
            role=self.channels[index].role,
            model=self.model.name,
            stream=stream,
            quality=quality,
            attribution=attribution,
        )

    def _other_listeners(self, config: EngineConfig) -> dict[int, SpeechDetector]:
        others = [each.index for each in self.channels if not each.analysed]
        return {index: self._listened(index, config, voice=False) for index in others}

    def _listened(self, index: int, config: EngineConfig, *, voice: bool) -> SpeechDetector:
        detector = make_detector(config.vad)
        if isinstance(detector, SileroDetector):
            self._neural[index] = detector
        if self._conversation is None:
            return detector
        role = self.channels[index].role
        return self._conversation.listen(index, detector, role=role, voice=voice)

    # -- progress ----------------------------------------------------------------------------------

    @property
    def received_samples(self) -> int:
        """Position of the next sample by the client's count."""
        return self._intake.end_ticks - self._uncounted_ticks

    @property
    def received_s(self) -> float:
        """Length of the stream so far, audio that was not processed yet included."""
        return samples_to_s(self._intake.end_sample)

    @property
    def published_s(self) -> float:
        """Every analysed channel is scored or in a gap up to here."""
        return samples_to_s(min(each.published_samples for each in self._channels.values()))

    @property
    def clock_samples(self) -> int:
        """Stream time up to which audio was processed."""
        # All channels take the same time.
        return self._channels[self.analysed[0]].stream.audio.clock_samples

    @property
    def pending_windows(self) -> int:
        """Windows that were neither answered nor given up."""
        return sum(each.stream.pending_windows for each in self._channels.values())

    @property
    def next_seq(self) -> int:
        """``seq`` of the next result."""
        return self._log.next_seq

    # -- audio -------------------------------------------------------------------------------------

    def receive(self, data: bytes, lost: Sequence[LostSpan] = ()) -> None:
        """Take encoded bytes, any number; :meth:`advance` processes them.

        Args:
            lost: where in them the audio of one channel never came; only with whole ticks.

        Raises:
            ProtocolError: the stream is paused, or the bytes are those of a file, BAD_FORMAT;
                nothing is taken.
        """
        self._check_running()
        # Without its length the pause has no place on the clock, nor has the audio after it.
        if self.is_paused:
            raise unexpected_message("got audio while paused, expected 'resume' first")
        if self._first_bytes is not None and self._first_bytes.check(data):
            self._first_bytes = None
        for index, start, end in self._intake.receive(data, lost):
            if index in self._channels:
                self._channels[index].stream.audio.lose(start, end)

    def take_at_once(self, data: bytes, *, is_processing: bool = False) -> bool:
        """Take bytes as :meth:`receive` does, if they only add to what waits to become a block.

        Args:
            is_processing: the backlog is being processed, and is looked at once more afterwards: so
                as much as :data:`_MAX_WAITING_MS` may come on top of it.

        Returns:
            Whether they were taken; False: :meth:`receive` has to look at them.
        """
        if self.is_paused or self._is_finished or self._first_bytes is not None:
            return False
        if is_processing:
            return self._intake.add(data, self._wake_ticks + self._most_ticks)
        return not self._items and self._intake.add(data, self._wake_ticks)

    @property
    def inlet(self) -> Inlet:
        """What lets audio in without :meth:`take_at_once`, while that would take it.

        It is closed by whoever calls another method.
        """
        return self._intake.inlet

    @property
    def has_backlog(self) -> bool:
        """Whether :meth:`advance` would do something.

        Less than a block that reaches no boundary waits: it would make nothing due.
        """
        return bool(self._items) or self._intake.buffered_ticks >= self._wake_ticks

    def advance(self) -> list[ChannelWindow]:
        """Process the backlog up to the next boundary; none due: there may be more of it."""
        windows: list[ChannelWindow] = []
        for _ in range(_MAX_BLOCKS):
            if not self.has_backlog:
                break
            if not self._items:
                self._read_block()
            is_due = False
            if self._items:
                is_due = self._process_item(windows)
            self._set_wake()
            # Windows are to be answered before more is advanced through: results keep their order.
            if is_due:
                break
        return self._with_markers(windows)

    def listen(self) -> list[tuple[SileroDetector, FloatArray]]:
        """Return detectors and the audio that :meth:`advance` will push to them next.

        They may be heard together with those of other sessions; see
        :func:`~ser_engine.timeline.silero.hear_together`.
        """
        if self._is_finished or self.withheld is not None or not self.has_backlog:
            return []
        if not self._items:
            self._read_block()
        if not self._items or isinstance(item := self._items[0], NoAudio):
            return []
        rows = zip(self.decoded, item, strict=True)
        return [(self._neural[index], row) for index, row in rows if index in self._neural]

    def flush(self) -> list[ChannelWindow]:
        """Make everything due that is here; ``flushed`` comes back when it is published.

        Raises:
            ProtocolError: too many marks and flushes wait.
        """
        self._check_running()
        # Noted before it is processed: a flush of silence is due at once.
        self._log.mark(self._intake.end_sample, None)
        return self._flush(ChannelStream.flush)

    def pause(self) -> list[ChannelWindow]:
        """Flush, and let no audio come until :meth:`resume`.

        Raises:
            ProtocolError: the stream is paused already.
        """
        self._check_running()
        if self.is_paused:
            raise unexpected_message("got 'pause' while paused, expected 'resume'")
        self.is_paused = True
        return self._flush(ChannelStream.flush)

    def resume(self, num_source_samples: int, *, is_counted: bool = True) -> list[ChannelWindow]:
        """Go on after a pause of that many samples at the client's rate.

        Args:
            is_counted: the client told the length and counts on from there; False: it was
                measured here.

        Raises:
            ProtocolError: the stream is not paused, or the number is negative.
        """
        self._check_running()
        if not self.is_paused:
            raise unexpected_message("got 'resume' without a pause, expected 'pause' first")
        windows = self._gap("paused", num_source_samples)
        # The client of a measured pause counts on as if there had been none, the clock does not.
        if not is_counted:
            self._uncounted_ticks += num_source_samples
        self.is_paused = False
        return windows

    def discard(self, num_source_samples: int) -> list[ChannelWindow]:
        """Take note that the client left audio out; it becomes a gap, ``discarded``."""
        return self._gap("discarded", num_source_samples)

    def lose(self, num_source_samples: int) -> list[ChannelWindow]:
        """Go on after audio that never came, on all channels; it becomes a gap, ``lost``."""
        return self._gap("lost", num_source_samples)

    def rejoin(self, next_sample: int) -> list[ChannelWindow]:
        """Go on after a reconnect, at :attr:`received_samples`.

        Where the client has nothing before ``next_sample`` any more, by its count, what is missing
        is lost.

        Raises:
            ProtocolError: the number is negative.
        """
        self._check_running()
        _check_count("next_sample", next_sample)
        # The rest of a sample that came in part went down with the former connection.
        self._intake.drop_partial_tick()
        return self.lose(max(0, next_sample - self.received_samples))

    def settle(self, withheld: GapReason | None) -> list[ChannelWindow]:
        """Process what came, then treat what comes as ``withheld`` says."""
        self._check_running()
        if withheld == self.withheld:
            return []
        windows = self._with_markers(self._drain(self._intake.flush()))
        self.withheld = withheld
        return windows

    def finish(self) -> list[ChannelWindow]:
        """End the audio. Answer what is pending, then call :meth:`close`."""
        self._check_running()
        self._is_finished = True
        return self._flush(ChannelStream.finish)

    # -- answers and results -----------------------------------------------------------------------

    def answer(self, channel: int, window: Window, outcome: WindowResult | WindowError) -> None:
        """Take the answer to a window; earlier ones of its channel are given up.

        After :meth:`close`, or for a window that was given up, it changes nothing.

        Raises:
            ValueError: the result has another frame hop or other classes than this stream.
        """
        if not self._is_closed:
            holder = self._channels[channel]
            holder.publish(holder.stream.accept(window, outcome))
            self._release_flushed()
            self._with_markers([])

    def skip(self, channel: int, window: Window) -> None:
        """Give a window up; a later one covers its audio, as far as it reaches back."""
        if not self._is_closed:
            holder = self._channels[channel]
            holder.publish(holder.stream.skip(window))
            self._release_flushed()
            self._with_markers([])

    def take_pieces(self) -> list[tuple[int, VoicePiece]]:
        """Return the pieces of speech whose voice is to be heard, and their channels, once."""
        return [
            (channel.index, piece)
            for channel in self._channels.values()
            for piece in channel.take_pieces()
        ]

    def answer_voice(self, channel: int, piece: VoicePiece, vector: FloatArray | None) -> None:
        """Take the vector of a piece, in any order; None: there will be none."""
        if not self._is_closed:
            self._channels[channel].accept_voice(piece, vector)
            self._release_flushed()
            self._with_markers([])

    def leave_out(self, channel: int, speaker: str, is_left_out: bool) -> bool:
        """Leave a speaker out from here on, or no longer; return False if there is none such."""
        holder = self._channels.get(channel)
        return holder is not None and holder.leave_out(speaker, is_left_out)

    def mark(self, name: str) -> None:
        """Have ``name`` come back at the position of the audio received so far.

        Raises:
            ProtocolError: too many marks and flushes wait.
        """
        self._check_running()
        self._log.mark(self._intake.end_sample, name)
        self._with_markers([])

    def opened(self, at: float, continues: str | None = None) -> None:
        """Publish ``stream_opened``, the first result.

        Args:
            at: seconds since 1970, UTC.
        """
        if self._log.next_seq:
            raise RuntimeError(f"opened() called after {self._log.next_seq} results, call it first")
        model = self.model
        self._log.publish(
            StreamOpened,
            name=self.spec.name,
            channels=self.channels,
            model=ModelNotice(name=model.name, licence=model.licence, notice=model.notice),
            labels=model.labels.names,
            metadata=self.spec.metadata,
            sample_rate=self.spec.format.sample_rate_hz,
            encoding=self.spec.format.told_encoding,
            step_ms=self._step_ms,
            opened_at=at,
            team=self.spec.team,
            continues=continues,
            model_sha256=model.sha256,
        )
        for index in self.analysed:
            is_agent_left_out = self._speakers.get(index) == "agent_first"
            if self.channels[index].role == MIXED_ROLE and not is_agent_left_out:
                self._log.publish(
                    Warning, code="mixed_speakers", channel=index, message=MIXED_MESSAGE, at_s=0.0
                )

    def publish(self, kind: type[R], found: msgspec.Struct | None = None, **fields: Any) -> R:
        return self._log.publish(kind, found, **fields)

    def take_results(self) -> list[Result]:
        """Return the results since the last call, in order of ``seq``."""
        return self._log.take()

    def take_errors(self) -> list[ProtocolError]:
        """Return the errors of audio since the last call, for the client: samples like NaN."""
        return self._intake.take_errors()

    def close(self, reason: CloseReason, at: float, *, alerts: int = 0) -> None:
        """Publish what is open, ``summary`` and ``stream_closed``. Closing again does nothing.

        Audio that was not processed yet is accounted for; speech without an answer is a gap:
        ``error`` where the engine failed, else ``overload``.

        Args:
            at: seconds since 1970, UTC.
        """
        if self._is_closed:
            return
        if not self._is_finished:
            self.finish()
        # From here on marks and flushes are due wherever they are: nothing more comes before them.
        self._is_closed = True
        gap: GapReason = "error" if reason == "engine_failed" else "overload"
        if reason != "objected":
            for channel in self._channels.values():
                channel.publish_findings(self._intake.format_check, is_over=True)
        # Of somebody who objected nothing more is said.
        summaries: tuple[ChannelSummary, ...] = ()
        if reason != "objected":
            summaries = tuple([each.close(gap) for each in self._channels.values()])
        self._with_markers([])
        measures = None
        if self._conversation is not None and reason != "objected":
            self._conversation.finish()
            measures = self._measures(self._conversation)
        self._log.publish(
            Summary,
            reason=reason,
            duration_s=samples_to_s(self.clock_samples),
            received_samples=self.received_samples,
            channels=summaries,
            alerts=alerts,
            measures=measures,
        )
        self._log.publish(StreamClosed, reason=reason, closed_at=at)

    # -- inside ------------------------------------------------------------------------------------

    def _until_due(self) -> int:
        """Return the samples until something may fall due on any channel."""
        return min(each.stream.audio.until_due for each in self._channels.values())

    def _until_boundary(self) -> int:
        return self._channels[self.analysed[0]].stream.audio.until_boundary

    def _set_wake(self) -> None:
        """Compute how much has to be buffered until there is something to do."""
        # Cached, for every message of 20 ms is compared with it and most of them only wait.
        lag = _RESAMPLER_LAG_SAMPLES if self._intake.is_resampling else 0
        # Not where a loss ends: it may go on with the next message.
        boundary = self.clock_samples + self._until_boundary()
        to_boundary = self._intake.to_source(boundary + lag) - self._intake.read_ticks
        self._wake_ticks = max(1, min(self._block_ticks, to_boundary))

    def _read_block(self) -> None:
        # What is resampled comes out late and in other portions: it is cut afterwards.
        ticks = self._block_ticks
        if not self._intake.is_resampling:
            ticks = min(ticks, self._until_boundary())
        self._items += self._intake.read(ticks)
        self._publish_format()

    def _publish_format(self) -> None:
        """Say once what the audio is like, where it is not what was told."""
        message = self._intake.format_check.finding
        if message is not None and not self._has_told_format:
            self._has_told_format = True
            at_s = samples_to_s(self.clock_samples)
            self._log.publish(Warning, code="noisy", channel=None, message=message, at_s=at_s)

    def _process_item(self, windows: list[ChannelWindow]) -> bool:
        """Let the channels take the next item, audio only until something may fall due.

        Add the windows that became due to ``windows``; return whether it came as far as that.
        """
        if self._is_release_due:
            # As of that boundary, with everything answered that was asked for until then: in which
            # order results come does not depend on how the audio was split.
            self._is_release_due = False
            self._release()
        self._flushed_at = None
        item = self._items.popleft()
        if self.withheld is not None and not isinstance(item, NoAudio):
            item = NoAudio(self.withheld, item.shape[1])
        if isinstance(item, NoAudio):
            windows += self._pass_time(item)
            return True
        # All channels up to the same sample, the least that makes one of them due: so results come
        # in the same order however the audio was split.
        until_due = self._until_due()
        if item.shape[1] > until_due:
            self._items.appendleft(item[:, until_due:])
            item = item[:, :until_due]
        for index, row in zip(self.decoded, item, strict=True):
            channel = self._channels.get(index)
            if channel is not None:
                windows += channel.due(channel.stream.push(row, of_16_bits=self._is_of_16_bits))
                channel.publish_findings(self._intake.format_check)
            elif index in self._others:
                self._others[index].push(row)
            if self._tap is not None:
                self._tap(index, row)
        is_due = len(item[0]) == until_due
        if is_due:
            self._is_release_due = bool(self._speakers)
            self._publish_measures()
        return is_due

    def _publish_measures(self) -> None:
        """Publish what the conversation is like, every few seconds."""
        # Only where something may fall due: there it is the same however the audio was split.
        if self._conversation is None or self.clock_samples < self._measures_at:
            return
        every = MEASURES_EVERY_S * SAMPLE_RATE_HZ
        self._measures_at = (self.clock_samples // every + 1) * every
        self._log.publish(Measures, self._measures(self._conversation))

    def _measures(self, conversation: Conversation) -> schema.Measures:
        measures = conversation.measures()
        if not self._speakers:
            return measures
        channels = [
            self._channels[each.channel].with_speakers(each)
            if each.channel in self._channels
            else each
            for each in measures.channels
        ]
        return msgspec.structs.replace(measures, channels=tuple(channels))

    def _release(self) -> None:
        for channel in self._channels.values():
            channel.release()

    def _release_flushed(self) -> None:
        """Publish what a flush waits for: no audio may come that would."""
        if self._flushed_at is not None:
            self._release()

    def _pass_time(self, gap: NoAudio) -> list[ChannelWindow]:
        windows: list[ChannelWindow] = []
        for channel in self._channels.values():
            windows += channel.due(channel.stream.gap(gap.reason, gap.num_samples))
        self._is_release_due = bool(self._speakers)
        for listener in self._others.values():
            listener.skip(gap.num_samples)
        self._publish_measures()
        if self._tap is not None:
            # In pieces: a gap may last for hours.
            for start in range(0, gap.num_samples, _ZEROS_SAMPLES):
                zeros = np.zeros(min(_ZEROS_SAMPLES, gap.num_samples - start), dtype=np.float32)
                for index in self.decoded:
                    self._tap(index, zeros)
        return windows

    def _drain(self, items: Iterable[FloatArray | NoAudio]) -> list[ChannelWindow]:
        self._items += items
        self._publish_format()
        windows: list[ChannelWindow] = []
        while self._items:
            self._process_item(windows)
        self._set_wake()
        return windows

    def _flush(self, end: Callable[[ChannelStream], list[Window]]) -> list[ChannelWindow]:
        windows = self._drain(self._intake.flush())
        for channel in self._channels.values():
            windows += channel.due(end(channel.stream))
            channel.flush_speakers()
        if self._speakers:
            self._flushed_at = self.clock_samples
            self._release_flushed()
        return self._with_markers(windows)

    def _gap(self, reason: GapReason, num_source_samples: int) -> list[ChannelWindow]:
        self._check_running()
        _check_count(f"{reason} samples", num_source_samples)
        if num_source_samples == 0:
            return []  # Not even a flush: nothing interrupts the audio.
        return self._with_markers(self._drain(self._intake.gap(reason, num_source_samples)))

    def _with_markers(self, windows: list[ChannelWindow]) -> list[ChannelWindow]:
        """Publish the marks and flushes that became due; return ``windows``."""
        self._log.publish_markers(self._is_accounted)
        return windows

    def _is_accounted(self, sample: int) -> bool:
        return self._is_closed or all(each.is_accounted(sample) for each in self._channels.values())

    def _check_running(self) -> None:
        if self._is_finished:
            raise RuntimeError("session already finished")


def _check_count(name: str, count: int) -> None:
    if count < 0:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"got {count} {name}, expected 0 or more")
