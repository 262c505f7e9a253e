"""One stream while it runs: requests of its client in, windows to the engine, results out.

The runner outlives connections: a client that drops and comes back goes on with the same one, which
keeps the latest results for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import msgspec
import structlog

from ser_engine import schema
from ser_engine.config import TimelineConfig
from ser_engine.errors import EngineDeadError
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import CloseReason, StreamWarningCode
from stream_server import tracing
from stream_server.alerts.evaluator import AlertEvaluator, Cooldown
from stream_server.config import LimitsConfig
from stream_server.decoding.process import AudioDecoder
from stream_server.decoding.tracks import TrackDecoders
from stream_server.engines import EngineLease
from stream_server.metrics import Metrics
from stream_server.recording import Recording
from stream_server.rights import Rights
from stream_server.streams.hearing import SharedHearing, VoiceLane, Voices
from stream_server.streams.lane import Lane
from stream_server.streams.pace import Pace
from stream_server.streams.session import Session, stream_key
from stream_server.streams.session_results import ChannelWindow
from stream_server.tracks.track import ChannelTrack, TrackStats
from stream_server.wire.dialect import AudioData, CodedAudio, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import (
    ConsentTold,
    Discarded,
    Flush,
    Heartbeat,
    KeepAlive,
    Mark,
    Objection,
    Pause,
    Resume,
    SpeakerTold,
    Told,
)
from stream_server.wire.results import (
    NOTHING_TOLD,
    Alert,
    Consent,
    Measures,
    Point,
    Result,
    Warning,
)


@dataclass(frozen=True, slots=True)
class Unread:
    """Results a reader has not read yet.

    Attributes:
        results: in order of ``seq``; of a stream that has ended empty only where all was read.
        num_dropped: results before them that were dropped because the reader was too slow.
    """

    results: tuple[Result, ...]
    num_dropped: int


class KeptResults:
    """Keeps the last ``capacity`` results; any number of readers, each with its own place.

    Results are appended in order of ``seq`` without holes.
    """

    def __init__(self, capacity: int) -> None:
        self._results: deque[Result] = deque(maxlen=capacity)
        self._next_seq = 0
        self._changed = asyncio.Event()
        self.is_closed = False

    def append(self, result: Result) -> None:
        assert result.seq == self._next_seq, "results come in order of seq"
        self._results.append(result)
        self._next_seq += 1
        self.wake()

    def close(self) -> None:
        """The stream has ended: no more results come."""
        self.is_closed = True
        self.wake()

    async def read(self, from_seq: int) -> Unread:
        """Return the results from ``from_seq`` on.

        Wait for them, for the end of the stream, or for :meth:`wake`: there may be none.
        """
        if from_seq >= self._next_seq and not self.is_closed:
            await self._changed.wait()
        first = self._next_seq - len(self._results)
        start = max(from_seq - first, 0)
        results = tuple(self._results[index] for index in range(start, len(self._results)))
        return Unread(results, max(first - from_seq, 0))

    def wake(self) -> None:
        """Let readers that wait go on."""
        # A new event each time: one that several readers share has no right moment to be cleared.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


_log = structlog.get_logger(__name__)

LOST_SHARE = 0.03
"""Share of a channel's packets whose loss makes a warning: more harms every sentence."""
MIN_PACKETS = 250
"""Packets sent before a share counts: 5 s of 20 ms."""
DRIFT_PPM = 500
"""Drift that makes a warning. Crystals are off by 100 parts in a million at most; more is a rate
that is not what the platform says, or times that are wrong."""


class StreamRunner:
    """Runs one session on one engine.

    Args:
        session: the stream's state, not opened yet.
        lease: the engine the stream keeps until its end.
        publish: is given every result, in order.
        recording: of the stream's audio, if there is one; closed with the stream.
        now: seconds since 1970.
        rights: whether it may be analysed; None: by the default settings.
        decoder: of what the client sends, where that is not samples; ended with the stream.
        hearing: of all streams of the process; None: the stream hears for itself.
        voices: hears who speaks; None: nobody is told apart.

    Attributes:
        standing: what is known of consent and notice by now.
        received_controls: requests other than audio and keep-alive messages that were dealt with.
        close_reason: why the stream ended or is about to; None while it runs.
    """

    def __init__(
        self,
        *,
        session: Session,
        timeline: TimelineConfig,
        lease: EngineLease,
        evaluator: AlertEvaluator,
        metrics: Metrics,
        publish: Callable[[Result], None],
        limits: LimitsConfig,
        recording: Recording | None = None,
        continues: str | None = None,
        now: Callable[[], float] = time.time,
        rights: Rights | None = None,
        decoder: AudioDecoder | TrackDecoders | None = None,
        hearing: SharedHearing | None = None,
        voices: Voices | None = None,
    ) -> None:
        self.session = session
        self._decoder = decoder
        self._hearing = hearing
        self.standing = session.spec.standing
        self._rights = rights or Rights()
        self._now = now
        self.results = KeptResults(limits.max_kept_results)
        self.received_controls = 0
        self.close_reason: CloseReason | None = None
        self._lease = lease
        self._evaluator = evaluator
        self.continues = continues
        self.metrics = metrics
        self._publish_result = publish
        self._limits = limits
        self._recording = recording
        started_s = asyncio.get_running_loop().time()
        spec = session.spec
        self._pace = Pace(
            is_live=spec.live, rate_hz=spec.format.sample_rate_hz, started_s=started_s
        )
        self._is_handling = False
        self._is_processing = False  # audio that has come, with nothing before it left to handle
        self._paused_at_s: float | None = None  # on the loop's clock
        self._counted_samples = 0  # of the stream's clock, in the metrics
        self._arrived_ns = 0  # when the last request came that was handled, as of time.time_ns
        self._dead: EngineDeadError | None = None  # why the engine answers no more
        self.timeline = timeline
        self._step_s = self.timeline.step_ms / 1000
        self._lanes = {
            channel: Lane(
                session=session,
                channel=channel,
                engine=lease.engine,
                metrics=metrics,
                step_s=self._step_s,
                on_answer=self._publish,
                on_dead=self._engine_died,
            )
            for channel in session.analysed
        }
        self._voices = None if voices is None else VoiceLane(session, voices, self._publish)
        self._opened_at = now()
        self._started_s = started_s
        session.opened(self._opened_at, continues)
        self._hold = session.withheld = self._rights.withheld(self.standing)
        if self._hold is not None or self.standing != NOTHING_TOLD:
            self._publish_consent()
        self._publish()

    # -- requests of the client, one at a time ----------------------------------------------------

    def take_at_once(self, requests: Sequence[Inbound]) -> bool:
        """Take requests if they are audio from which nothing follows yet; return whether they were.

        Most messages of 20 ms only wait to become a block. False: :meth:`handle` has to take them.
        """
        if not requests:
            return True
        # What is no audio, and what :meth:`handle` notices before it takes any.
        if len(requests) > 1 or type(request := requests[0]) is not AudioData or request.lost:
            return False
        if self._is_handling and not self._is_processing:
            return False  # The session may not have got what came before.
        if self._decoder is not None or self._dead is not None or self.has_ended():
            return False
        return self._hold == self.session.withheld and self.session.take_at_once(
            request.data, is_processing=self._is_processing
        )

    async def handle(self, request: Inbound) -> None:
        """Act on a request; return when there is room for more.

        Raises:
            ProtocolError: the client has to be told; the code says whether the stream ends.
        """
        self._is_handling = True
        self._arrived_ns = time.time_ns()
        inlet = self.session.inlet
        inlet.shut()
        try:
            await self._handle(request)
        finally:
            self._is_handling = False
            # What was let in meanwhile came on top of what was processed.
            inlet.shut()

    async def _handle(self, request: Inbound) -> None:
        self._check_engine()
        if self._hold != self.session.withheld:
            # Told elsewhere: what came until now was not to be analysed.
            await self._put(self.session.settle(self._hold))
        if isinstance(request, CodedAudio):
            assert isinstance(self._decoder, TrackDecoders), "its format says so"
            async for audio in self._decoder.decode(request, self.session.decoded):
                self.session.receive(audio.data, audio.lost)
                if self.session.has_backlog:
                    await self._process()
            return
        if isinstance(request, AudioData):
            if isinstance(self._decoder, AudioDecoder):
                await self._take(self._decoder.decode(request.data))
            else:
                self.session.receive(request.data, request.lost)
                if self.session.has_backlog:
                    self._is_processing = True
                    try:
                        await self._process()
                    finally:
                        self._is_processing = False
            return
        if not isinstance(request, KeepAlive | ConsentTold | SpeakerTold | Objection):
            self.received_controls += 1
        match request:
            case Flush():
                await self._put(self.session.flush())
            case Pause():
                self._paused_at_s = asyncio.get_running_loop().time()
                await self._put(self.session.pause())
            # The length is checked first: a pause of years must not become a gap of the timeline.
            case Resume(paused_samples=None):
                await self._anchor()
                length = self._checked_length(self._measured_pause_samples())
                await self._put(self.session.resume(length, is_counted=False))
            case Resume(paused_samples=int() as samples):
                await self._anchor()
                await self._put(self.session.resume(self._checked_length(samples)))
            case Discarded(samples=samples):
                await self._anchor()
                await self._put(self.session.discard(self._checked_length(samples)))
            case ConsentTold():
                self._tell(request)
                await self._put(self.session.settle(self._hold))
            case SpeakerTold():
                self.session.leave_out(request.channel, request.speaker, request.left_out)
            case Objection():
                raise objected()
            case Mark(key=key) if key and key == self._rights.config.objection_key:
                raise objected()
            case Mark(name=name):
                self.session.mark(name)
            case KeepAlive():
                pass  # That a message came has been noticed where it was received.
            case _:
                raise TypeError(f"got {type(request).__name__}, expected a request within a stream")
        self._publish()

    def tell(self, told: Told) -> None:
        """Take note of what is told from elsewhere than by the client; it holds at once."""
        if self.has_ended():
            return
        if isinstance(told, SpeakerTold):
            self.session.leave_out(told.channel, told.speaker, told.left_out)
            return
        self._tell(told)
        self._hold_at_once()

    def cool(self, cooldowns: Iterable[Cooldown]) -> None:
        """Let alerts cool down that were cleared in the stream that this one continues."""
        self._evaluator.cool(cooldowns)

    def reconsider(self) -> None:
        """Take note that the policy may decide otherwise now."""
        hold = self._rights.withheld(self.standing)
        self.session.inlet.shut()
        if hold != self._hold and not self.has_ended():
            self._hold = hold
            self._publish_consent()
            self._hold_at_once()

    def _tell(self, told: ConsentTold) -> None:
        self.session.inlet.shut()
        self.standing = self.standing.changed(msgspec.structs.asdict(told))
        self._hold = self._rights.withheld(self.standing)
        self._publish_consent()

    def _hold_at_once(self) -> None:
        if self._hold is not None:
            self.session.withheld = self._hold
        self._publish()

    def _publish_consent(self) -> None:
        self.session.publish(
            Consent,
            **asdict(self.standing),
            withheld=self._hold,
            at_s=self.session.received_s,
            told_at=self._now(),
        )

    async def rejoin(self, next_sample: int) -> None:
        """Go on after a lost connection; what the client has no more is lost.

        Args:
            next_sample: position of the oldest audio the client can still send, at its rate. Of a
                stream that is decoded it says nothing: bytes do.

        Raises:
            ProtocolError: the client says it is further than the stream may become.
        """
        self._check_engine()
        self.session.inlet.shut()
        if self._decoder is None:
            self._checked_length(next_sample - self.session.received_samples)
            await self._put(self.session.rejoin(next_sample))
        self.metrics.resumed.inc()
        self._publish()

    @property
    def received_bytes(self) -> int | msgspec.UnsetType:
        """How much of a stream that is decoded was taken; of other streams samples say it."""
        return msgspec.UNSET if self._decoder is None else self._decoder.received_bytes

    def has_ended(self) -> bool:
        """Whether the stream ended or is about to."""
        return self.close_reason is not None

    async def finish(self, reason: CloseReason) -> None:
        """Answer what is left and end the stream. Ending it again does nothing."""
        if self.close_reason is not None:
            return
        self.close_reason = reason
        self.session.inlet.shut()
        # The client's 'stop' is a control message too; it ends the stream instead of being handled.
        self.received_controls += reason == "stopped"
        try:
            # What is not answered in time becomes a gap. Of who objected nothing more is scored.
            with contextlib.suppress(TimeoutError, ProtocolError):
                async with asyncio.timeout(self._limits.drain_timeout_s):
                    if isinstance(self._decoder, AudioDecoder) and reason != "objected":
                        await self._take(self._decoder.finish())
            with contextlib.suppress(TimeoutError, ProtocolError):
                async with asyncio.timeout(self._limits.drain_timeout_s):
                    windows = self.session.finish()
                    if reason != "objected":
                        await self._put(windows)
                        await asyncio.gather(*(lane.drain() for lane in self._lanes.values()))
                        if self._voices is not None:
                            await self._voices.drain()
        finally:
            try:
                # No answer may come after the session is closed.
                for lane in self._lanes.values():
                    await lane.aclose()
                if self._voices is not None:
                    await self._voices.aclose()
                if self._decoder is not None:
                    await self._decoder.aclose()
            finally:
                self._end()

    # -- messages for the client -------------------------------------------------------------------

    def heartbeat(self) -> Heartbeat:
        """Return the message of every second: how the stream is doing; its lag is counted."""
        heartbeat = self.state()
        self.metrics.lag_s.observe(heartbeat.lag_ms / 1000)
        return heartbeat

    def state(self) -> Heartbeat:
        session, lanes = self.session, [lane.stats for lane in self._lanes.values()]
        engine_s = sum(each.engine_s for each in lanes)
        audio_s = sum(each.audio_s for each in lanes)
        due_s = sum(each.due_s for each in lanes)
        windows = sum(each.windows for each in lanes)
        lag_s = max(session.received_s - session.published_s, 0.0)
        return Heartbeat(
            stream_id=session.stream_id,
            received_samples=session.received_samples,
            received_controls=self.received_controls,
            received_s=round(session.received_s, 3),
            published_s=round(session.published_s, 3),
            lag_ms=round(lag_s * 1000, 1),
            real_time_factor=round(engine_s / audio_s, 4) if audio_s else 0.0,
            # Until windows were answered, the engine's step counts as the effective one.
            effective_step_ms=round(1000 * (due_s / windows if windows else self._step_s), 1),
            unrecorded_s=None if self._recording is None else round(self._recording.silent_s, 3),
            received_bytes=self.received_bytes,
        )

    def warn(self, code: StreamWarningCode, message: str, channel: int | None = None) -> None:
        """Warn the client. After the last result nothing can be published."""
        if self.results.is_closed:
            return  # The sender may be slow still when the stream has ended.
        self._warn(code, message, channel)
        self._publish()

    # -- inside -----------------------------------------------------------------------------------

    async def _take(self, decoded: AsyncIterator[bytes | int]) -> None:
        """Process what comes of a message: samples, and how many of them never came."""
        async for piece in decoded:
            if self.session.is_paused:
                # Of before the pause, and late: as audio that comes within one.
                continue
            if isinstance(piece, int):
                await self._put(self.session.lose(self._checked_length(piece)))
                self._publish()
            else:
                self.session.receive(piece)
                if self.session.has_backlog:
                    await self._process()

    async def _anchor(self) -> None:
        """Have the decoder read the times of its stream anew: what passed becomes a gap here."""
        if isinstance(self._decoder, AudioDecoder):
            await self._decoder.anchor()

    async def _process(self) -> None:
        """Process the audio that was received, as far as there is something to do."""
        clock = self.session.clock_samples
        while self.session.has_backlog:
            if self._hearing is not None and not self._is_patient():
                await self._hearing.turn(self.session)
            # Without a backlog, where it was ended meanwhile, that does nothing.
            await self._put(self.session.advance())
            self._publish()
            # A message may hold minutes: other streams have their turn in between.
            await asyncio.sleep(0)
        now_s = asyncio.get_running_loop().time()
        if (warning := self._pace.take(self.session.received_s, now_s)) is not None:
            self._warn(*warning)
            self._publish()
        if self.session.clock_samples == clock:
            return  # All of it is in the resampler still: nothing can have gone wrong with it yet.
        self._count_audio()
        if self.session.clock_samples > self._limits.max_stream_s * SAMPLE_RATE_HZ:
            raise ProtocolError(
                ErrorCode.TOO_LONG,
                f"got more than {self._limits.max_stream_s:g} s of audio, the limit of a stream",
            )
        # One of them is enough for a client: the others are of the same message.
        if errors := self.session.take_errors():
            raise errors[0]

    def _count_audio(self) -> None:
        clock = self.session.clock_samples
        self.metrics.audio_s.inc(samples_to_s(clock - self._counted_samples) * len(self._lanes))
        self._counted_samples = clock

    async def _put(self, windows: Sequence[ChannelWindow]) -> None:
        if self._voices is not None:
            for channel, piece in self.session.take_pieces():
                await self._voices.put(channel, piece, patient=self._is_patient())
        if not windows:
            return
        # Decided once for all windows, or channels of one boundary could be treated differently.
        patient = self._is_patient()
        for channel, window in windows:
            await self._lanes[channel].put(window, patient=patient, arrived_ns=self._arrived_ns)
            self._check_engine()

    def _is_patient(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        return self._pace.can_wait(self.session.received_s, now_s)

    def _measured_pause_samples(self) -> int:
        if self._paused_at_s is None:
            return 0  # The session refuses a 'resume' without a pause.
        paused_s = asyncio.get_running_loop().time() - self._paused_at_s
        return round(paused_s * self.session.spec.format.sample_rate_hz)

    def _checked_length(self, num_samples: int) -> int:
        length_s = num_samples / self.session.spec.format.sample_rate_hz
        if self.session.received_s + length_s > self._limits.max_stream_s:
            raise ProtocolError(
                ErrorCode.TOO_LONG,
                f"got a gap of {length_s:.0f} s at {self.session.received_s:.0f} s, expected a"
                f" stream of at most {self._limits.max_stream_s:g} s",
            )
        return num_samples

    def _publish(self) -> None:
        """Publish what is due, and the alerts it raises."""
        # A loop, for the alerts that points raise are results themselves.
        while results := self.session.take_results():
            for result in results:
                self.results.append(result)
                tracing.publishing(result)
                self._publish_result(result)
                if isinstance(result, Point):
                    self._alert(self._evaluator.feed(result))
                elif isinstance(result, Measures):
                    self._evaluator.measure(result)

    def _alert(self, alerts: Iterable[schema.Alert]) -> None:
        for alert in alerts:
            self.session.publish(Alert, alert)

    def _warn(self, code: StreamWarningCode, message: str, channel: int | None = None) -> None:
        at_s = self.session.received_s
        self.session.publish(Warning, code=code, channel=channel, message=message, at_s=at_s)

    def _end(self) -> None:
        assert self.close_reason is not None, "_end() follows finish()"
        try:
            self._count_audio()
            # Before the session is closed: its summary counts alerts, and comes last.
            self._alert(self._evaluator.finish())
            # By the monotonic clock: the time of day may be set while the stream runs.
            closed_at = self._opened_at + asyncio.get_running_loop().time() - self._started_s
            self.session.close(self.close_reason, closed_at, alerts=self._evaluator.num_raised)
            self._publish()
        finally:
            # Whatever failed above: the client must not wait, and the engine must be given back.
            self.results.close()
            for channel in self._lanes:
                self._lease.engine.forget(stream_key(self.session.stream_id, channel))
            self._lease.release()
            if self._recording is not None:
                self._recording.close()

    def _engine_died(self, error: EngineDeadError) -> None:
        # Called in a lane's task: the client's next request raises it, where it can be answered.
        self._dead = error
        self.session.inlet.shut()

    def _check_engine(self) -> None:
        if self._dead is not None:
            raise ProtocolError(ErrorCode.ENGINE_FAILED, "the engine of this stream has failed")


def objected() -> ProtocolError:
    return ProtocolError(ErrorCode.OBJECTED, "a person in the stream objected to its analysis")


class TrackReport:
    """What became of the packets of one stream: warnings while it runs; metrics, a log line."""

    def __init__(self, runner: StreamRunner) -> None:
        self._runner = runner
        self._warned_of: set[tuple[StreamWarningCode, int]] = set()
        self._has_ended = False

    def check(self, stats: TrackStats) -> None:
        """Warn of what is bad by now, once a channel."""
        for channel, track in enumerate(stats.channels):
            if track.packets + track.lost >= MIN_PACKETS and track.lost_share >= LOST_SHARE:
                self._warn("packet_loss", channel, _loss(track))
            if track.drift_ppm is not None and abs(track.drift_ppm) >= DRIFT_PPM:
                pace = "fast" if track.drift_ppm > 0 else "slow"
                self._warn(
                    "clock_drift",
                    channel,
                    f"audio comes {abs(track.drift_ppm):.0f} parts in a million too {pace} for its"
                    " times; it is corrected",
                )

    def end(self, stats: TrackStats) -> None:
        """Warn for the last time, count and log; later calls do nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        self.check(stats)
        self._runner.metrics.tracks(stats)
        for channel, track in enumerate(stats.channels):
            _log.info(
                "track_ended",
                stream_id=self._runner.session.stream_id,
                channel=channel,
                packets=track.packets,
                lost=track.lost,
                late=track.late,
                duplicate=track.duplicate,
                reordered=track.reordered,
                jumps=track.jumps,
                slips=track.slips,
                lost_ms=track.lost_ms,
                drift_ppm=None if track.drift_ppm is None else round(track.drift_ppm, 1),
            )

    def _warn(self, code: StreamWarningCode, channel: int, message: str) -> None:
        if (code, channel) not in self._warned_of:
            self._warned_of.add((code, channel))
            self._runner.warn(code, message, channel)


def _loss(track: ChannelTrack) -> str:
    text = (
        f"{track.lost_share:.1%} of the packets did not come or came too late"
        f" ({track.lost} and {track.late} of {track.packets + track.lost})"
    )
    # A hole after every packet, as long as the packet itself, is none of the network's.
    if abs(track.lost_ms - track.received_ms) < 0.1 * track.received_ms and not track.late:
        text += (
            "; likely each packet holds half of the samples that its time says: G.711 told as"
            " 16-bit audio, or 8 kHz told as 16 kHz"
        )
    return text
