"""Every stream that runs: how it begins, how many there may be, who may resume it, until when."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import structlog

from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.errors import CheckpointError, ConfigError, EngineDeadError, SerEngineError
from ser_engine.schema import MIXED_ROLE, CloseReason, LabelName, ModelNotice
from stream_server.access import Who
from stream_server.alerts.evaluator import AlertEvaluator
from stream_server.config import LimitsConfig, ServerConfig
from stream_server.decoding.process import AudioDecoder
from stream_server.decoding.tracks import TrackDecoders
from stream_server.engines import EngineSource
from stream_server.metrics import Metrics
from stream_server.recording import Recordings
from stream_server.rights import Rights
from stream_server.streams.hearing import SharedHearing, Voices
from stream_server.streams.runner import StreamRunner, objected
from stream_server.streams.session import Session
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import PROTOCOL_VERSION, Limits, Ready
from stream_server.wire.results import Result
from stream_server.wire.start import SpeakersAsked, StreamSpec

_log = structlog.get_logger(__name__)


class StreamFactory:
    """Begins streams: an engine is lent, the session is made, the runner starts.

    Args:
        recordings: keeps the audio of streams; None: it is not kept.
        now: seconds since 1970.
        rights: whose analysis is allowed; None: by the settings alone.
    """

    def __init__(
        self,
        *,
        engines: EngineSource,
        config: ServerConfig,
        metrics: Metrics,
        publish: Callable[[Result], None],
        recordings: Recordings | None = None,
        now: Callable[[], float] = time.time,
        rights: Rights | None = None,
    ) -> None:
        self._engines = engines
        self._rights = rights or Rights(config.rights)
        self._config = config
        self._metrics = metrics
        self._publish = publish
        self._recordings = recordings
        self._now = now
        self._hearing = SharedHearing()
        self._voices: Voices | None = None

    def __call__(
        self, stream_id: str, spec: StreamSpec, continues: str | None = None
    ) -> StreamRunner:
        """Begin a stream.

        Args:
            continues: id of the stream that the client was in before, which is gone.

        Raises:
            ProtocolError: no engine is alive, or no channel has a role that is analysed.
        """
        self._rights.check_start(spec.standing)
        spec = replace(spec, metadata=self._rights.pseudonymised(spec.metadata))
        try:
            lease = self._engines.acquire()
        except EngineDeadError as error:
            raise ProtocolError(ErrorCode.ENGINE_FAILED, str(error)) from None
        recording = None
        try:
            decoder: AudioDecoder | TrackDecoders | None = None
            if spec.format.codec:
                make_decoder = TrackDecoders if spec.format.per_track else AudioDecoder
                decoder = make_decoder(spec.format, stream_id)
            if self._recordings is not None:
                recording = self._recordings.record(stream_id)
            engine = lease.engine
            config = replace(
                engine.config, timeline=timeline_asked_for(spec, engine.config.timeline)
            )
            apart = self._told_apart(spec, config)
            session = Session(
                stream_id=stream_id,
                spec=spec,
                model=engine.info,
                engine_config=config,
                analyse_roles=self._config.streams.analyse_roles,
                measures=self._config.streams.measures,
                tap=recording.tap if recording else None,
                speakers=apart,
            )
            evaluator = AlertEvaluator(
                self._config.alerts.rules, stream_id, engine.info.labels.names
            )
            return StreamRunner(
                session=session,
                timeline=config.timeline,
                lease=lease,
                evaluator=evaluator,
                metrics=self._metrics,
                publish=self._publish,
                limits=self._config.limits,
                recording=recording,
                continues=continues,
                now=self._now,
                rights=self._rights,
                decoder=decoder,
                hearing=self._hearing,
                voices=self._voices if apart else None,
            )
        except BaseException as error:
            # No runner owns them yet, which would give them back.
            lease.release()
            if recording is not None:
                recording.close()
            if isinstance(error, SerEngineError):
                raise ProtocolError(ErrorCode.INTERNAL, str(error)) from error
            raise

    def _told_apart(self, spec: StreamSpec, config: EngineConfig) -> dict[int, SpeakersAsked]:
        """Return the channels whose speakers are told apart.

        Raises:
            ProtocolError: the client asks for it, and this server does not do it.
        """
        allowed = config.speakers.live
        analysed = self._config.streams.analyse_roles
        apart: dict[int, SpeakersAsked]
        if spec.speakers:
            if allowed == "off":
                raise ProtocolError(
                    ErrorCode.BAD_START,
                    f"got speakers {spec.speakers}, but this server does not separate speakers"
                    " (ser_engine.speakers.live is off)",
                )
            apart = {
                index: spec.speakers
                for index, channel in enumerate(spec.channels)
                if channel.role in analysed
            }
        elif allowed in ("mixed", "agent_first"):
            by_setting: SpeakersAsked = "agent_first" if allowed == "agent_first" else "apart"
            apart = {
                index: by_setting
                for index, channel in enumerate(spec.channels)
                if channel.role == MIXED_ROLE and MIXED_ROLE in analysed
            }
        else:
            return {}
        if apart and self._voices is None:
            voices = Voices(config)
            try:
                voices.check()
            except CheckpointError as error:
                if spec.speakers:
                    raise ProtocolError(ErrorCode.BAD_START, str(error)) from None
                _log.warning("speakers_not_told_apart", reason=str(error))
                return {}
            self._voices = voices
        return apart


def _profile(spec: StreamSpec, timeline: TimelineConfig) -> str:
    if spec.window_ms is not None or spec.step_ms is not None:
        return "asked"
    # An engine that could not measure leaves the windows as they were set.
    return "live" if timeline.profile == "auto" else timeline.profile


_SHORTEST_STEP_MS, _LONGEST_WINDOW_MS = 500, 4000
"""What a client may ask for, beside what the server does anyway: a shorter step or a longer window
would let one stream take the place of several."""


def timeline_asked_for(spec: StreamSpec, timeline: TimelineConfig) -> TimelineConfig:
    """Return the windows of a stream: the server's, or those its client asks for.

    Raises:
        ProtocolError: the client asks for more than it may have, or for what does not go together.
    """
    if spec.window_ms is None and spec.step_ms is None:
        return timeline
    window_ms = timeline.window_ms if spec.window_ms is None else spec.window_ms
    step_ms = timeline.step_ms if spec.step_ms is None else spec.step_ms
    shortest_ms = min(_SHORTEST_STEP_MS, timeline.step_ms)
    longest_ms = max(_LONGEST_WINDOW_MS, timeline.window_ms)
    if step_ms < shortest_ms or window_ms > longest_ms:
        raise ProtocolError(
            ErrorCode.BAD_START,
            f"got step_ms {step_ms} and window_ms {window_ms}, expected a step of at least"
            f" {shortest_ms} and a window of at most {longest_ms}",
        )
    try:
        return replace(
            timeline,
            profile="live",
            window_ms=window_ms,
            step_ms=step_ms,
            min_new_speech_ms=0,
        )
    except ConfigError as error:
        raise ProtocolError(ErrorCode.BAD_START, str(error)) from None


# A platform's id of a call: not a text for people, and not a telephone number.
_CALL_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._:-]{8,64}")


def _counted(who: Who, address: str) -> str:
    """Return the address whose share a stream is of; "": of none."""
    # A platform's calls all come from its few addresses, or through a proxy; they are signed.
    return address if who.kind in ("token", "user") else ""


# Hint for clients of a full server: when to try again.
_RETRY_AFTER_S = 5.0


class ResumeTokens:
    """Makes the secrets that resume streams, and tells which stream one was made for.

    A token is the stream's id and its HMAC (RFC 2104). So a token is recognised that the server has
    no stream for any more, even one of before it was killed: what its client begins anew is then
    known to continue that stream.

    Attributes:
        key: of the HMAC. A server with a store keeps it there, to know its tokens again.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)

    def make(self, stream_id: str) -> str:
        mac = hmac.new(self.key, stream_id.encode(), hashlib.sha256).hexdigest()
        return f"{stream_id}.{mac[:48]}"

    def stream_of(self, token: str) -> str | None:
        """Return the id of the stream that a token was made for; None: it is not one of ours."""
        stream_id = token.partition(".")[0]
        expected, got = self.make(stream_id).encode(), token.encode(errors="surrogateescape")
        return stream_id if stream_id and hmac.compare_digest(expected, got) else None


class Holder(Protocol):
    """The connection of a stream."""

    async def end(self, error: ProtocolError) -> None:
        """End the connection; return when its stream is free."""
        ...


@dataclass(slots=True, eq=False)
class RunningStream:
    """A stream and the connection that holds it."""

    runner: StreamRunner
    who: Who  # begun it
    resume_token: str  # secret that resumes it
    holder: Holder | None = None  # None: its connection is gone
    route: str = "/"  # where it came in
    address: str = ""  # of the client; "": not known
    expiry: asyncio.Task[None] | None = field(default=None, repr=False)  # ends it, if not resumed

    @property
    def token_name(self) -> str:
        """Name of the token or person that began it; "" where none was needed."""
        return self.who.name

    @property
    def stream_id(self) -> str:
        return self.runner.session.stream_id

    def ready(self, limits: LimitsConfig, *, resumed: bool) -> Ready:
        """Return the message that says audio may come."""
        session, timeline = self.runner.session, self.runner.timeline
        model = session.model
        return Ready(
            version=PROTOCOL_VERSION,
            stream_id=self.stream_id,
            resume_token=self.resume_token,
            resumed=resumed,
            continues=self.runner.continues,
            received_samples=session.received_samples,
            received_bytes=self.runner.received_bytes,
            received_controls=self.runner.received_controls,
            paused=session.is_paused,
            model=ModelNotice(name=model.name, licence=model.licence, notice=model.notice),
            labels=tuple(
                LabelName(name=label.name, name_zh=label.name_zh) for label in model.labels.labels
            ),
            channels=session.channels,
            window_ms=timeline.window_ms,
            step_ms=timeline.step_ms,
            look_ahead_ms=timeline.look_ahead_ms,
            frame_hop_ms=timeline.frame_hop_ms,
            profile=_profile(session.spec, timeline),
            # By name: those of the settings that a client has to know.
            limits=msgspec.convert(limits, Limits, from_attributes=True),
        )


class Held(msgspec.Struct, frozen=True):
    """Streams, as the limits count them.

    Attributes:
        streams: those with a connection.
        waiting: those that wait for a lost client.
        of_token, of_address: those with a connection, by the name of a token, by an address.
    """

    streams: int = 0
    waiting: int = 0
    of_token: dict[str, int] = {}
    of_address: dict[str, int] = {}

    def __add__(self, other: Held) -> Held:
        return Held(
            self.streams + other.streams,
            self.waiting + other.waiting,
            dict(Counter(self.of_token) + Counter(other.of_token)),
            dict(Counter(self.of_address) + Counter(other.of_address)),
        )


class StreamRegistry:
    """Admits streams, keeps them while their client is gone, and ends them.

    A stream whose connection is lost waits for its client, and keeps its place meanwhile. It gives
    the place up, the one that has waited longest first, when a new stream finds no other, and when
    one client has too many of them. Its client may come back all the same, to a new stream that
    says which one it continues.

    Args:
        make_runner: begins a stream with the given id, which continues another, or None; or raises
            ProtocolError.

    Attributes:
        elsewhere: what other processes of this server hold of the limits, as last heard.
    """

    def __init__(
        self,
        limits: LimitsConfig,
        make_runner: Callable[[str, StreamSpec, str | None], StreamRunner],
        tokens: ResumeTokens | None = None,
    ) -> None:
        self._limits = limits
        self._make_runner = make_runner
        self._tokens = tokens if tokens is not None else ResumeTokens()
        self.elsewhere = Held()
        self._streams: dict[str, RunningStream] = {}  # by resume token
        self._undelivered: dict[str, RunningStream] = {}  # ended, with results a client lacks
        self._of_token: Counter[str] = Counter()  # streams that run, by name of the token
        self._of_address: Counter[str] = Counter()
        # Without a connection, though not ended: longest first. A dict, for its order.
        self._waiting: dict[RunningStream, None] = {}
        self._closing: set[asyncio.Task[None]] = set()  # those that gave their place up

    def __len__(self) -> int:
        """Return how many streams run, those without a connection included."""
        return len(self._streams)

    @property
    def num_waiting(self) -> int:
        """How many of the running streams wait for a lost client."""
        return len(self._waiting)

    def held(self) -> Held:
        """Return what this registry holds of the limits."""
        waiting = list(self._waiting)
        token_names = Counter(one.token_name for one in waiting)
        addresses = Counter(_counted(one.who, one.address) for one in waiting)
        return Held(
            len(self._streams) - len(waiting),
            len(waiting),
            dict(self._of_token - token_names),
            dict(self._of_address - addresses),
        )

    def running(self) -> list[RunningStream]:
        return list(self._streams.values())

    async def give_up_continued(self, stream_id: str) -> None:
        """End a stream that waits for its client, which is in another one by now."""
        stream = self.find(stream_id)
        if stream is not None and stream in self._waiting:
            await self.close(stream, "client_lost")

    def reconsider(self) -> None:
        """Have every stream ask again whether it may be analysed."""
        for stream in list(self._streams.values()):
            stream.runner.reconsider()

    async def object(self, stream_id: str) -> bool:
        """End a stream because somebody in it objects; return False if it does not run here."""
        stream = self.find(stream_id)
        if stream is None:
            return False
        if stream.holder is not None:
            await stream.holder.end(objected())
        # Its connection has ended it, unless it was lost before.
        await self.close(stream, "objected")
        return True

    def find(self, stream_id: str) -> RunningStream | None:
        running = (one for one in self._streams.values() if one.stream_id == stream_id)
        return next(running, None)

    def check_capacity(self, token_name: str, address: str = "") -> None:
        """Refuse another stream where there is no room for it, nor a place that waits.

        Args:
            token_name: "" for a client without one.
            address: of the client; "": not known.

        Raises:
            ProtocolError: SERVER_FULL or TOO_MANY_STREAMS, with a hint when to try again.
        """
        limits = self._limits
        elsewhere = self.elsewhere
        here = len(self._streams) - len(self._waiting)
        if here + elsewhere.streams >= limits.max_streams:
            raise ProtocolError(
                ErrorCode.SERVER_FULL,
                f"stream limit of this server ({limits.max_streams}) reached",
                retry_after_s=_RETRY_AFTER_S,
            )
        waiting_there = sum(one.address == address for one in self._waiting)
        of_address = self._of_address[address] - waiting_there
        of_address += elsewhere.of_address.get(address, 0)
        if token_name and address and of_address >= limits.max_streams_per_address:
            raise ProtocolError(
                ErrorCode.TOO_MANY_STREAMS,
                f"stream limit of this address ({limits.max_streams_per_address}) reached",
                retry_after_s=_RETRY_AFTER_S,
            )
        # Without a name no token was needed: clients cannot be told apart, so none has a share.
        num_waiting = sum(one.token_name == token_name for one in self._waiting)
        of_token = self._of_token[token_name] - num_waiting
        of_token += elsewhere.of_token.get(token_name, 0)
        if token_name and of_token >= limits.max_streams_per_token:
            raise ProtocolError(
                ErrorCode.TOO_MANY_STREAMS,
                f"stream limit of this token ({limits.max_streams_per_token}) reached",
                retry_after_s=_RETRY_AFTER_S,
            )

    def open(
        self,
        spec: StreamSpec,
        who: Who,
        holder: Holder,
        *,
        route: str = "/",
        address: str = "",
    ) -> RunningStream:
        """Begin a stream.

        Args:
            route: where it came in, for the log: first part of the path, or another port's name.
            address: of the client; "": not known.

        Raises:
            ProtocolError: there is no room, or the stream cannot be begun.
        """
        self.check_capacity(who.name, address)
        stream_id = secrets.token_hex(8)
        continues = None if spec.resume is None else self._tokens.stream_of(spec.resume.token)
        runner = self._make_runner(stream_id, spec, continues)
        self._make_room(who.name, address)
        resume_token = self._tokens.make(stream_id)
        stream = RunningStream(runner, who, resume_token, holder, route, address)
        # By its secret: an id is in feeds and logs, and must not be enough to take a stream over.
        self._streams[stream.resume_token] = stream
        self._of_token[who.name] += 1
        self._of_address[_counted(who, address)] += 1
        _log.info(
            "stream_opened",
            stream_id=stream.stream_id,
            route=route,
            encoding=spec.format.told_encoding,
            sample_rate_hz=spec.format.sample_rate_hz,
            channels=spec.format.num_channels,
            window_ms=runner.timeline.window_ms,
            step_ms=runner.timeline.step_ms,
            **({} if continues is None else {"continues": continues}),
            **({"call_id": spec.call_id} if _CALL_ID.fullmatch(spec.call_id) else {}),
        )
        return stream

    async def resume(self, spec: StreamSpec, who: Who, holder: Holder) -> RunningStream | None:
        """Resume the stream that ``spec.resume`` names; None: it is gone.

        Raises:
            ProtocolError: the stream is another token's, or had another format.
        """
        request = spec.resume
        if request is None:
            return None
        stream = self._streams.get(request.token) or self._undelivered.get(request.token)
        if stream is None:
            return None
        if (stream.who.kind, stream.who.name) != (who.kind, who.name):
            raise ProtocolError(
                ErrorCode.UNAUTHORIZED, "the stream was begun with another access token"
            )
        session = stream.runner.session
        if (spec.format, spec.channels) != (session.spec.format, session.spec.channels):
            raise ProtocolError(
                ErrorCode.BAD_START,
                "the stream was begun with another format or other channels",
            )
        # The server may not know yet that the former connection is lost. A loop, for a third one
        # may resume the stream while this one waits.
        while (former := stream.holder) is not None:
            await former.end(
                ProtocolError(ErrorCode.REPLACED, "another connection has resumed the stream")
            )
            self.detach(stream, former)
        received_bytes = stream.runner.received_bytes
        if isinstance(received_bytes, int) and (request.next_byte or 0) > received_bytes:
            # Nothing can be decoded after bytes that are missing: the client begins anew.
            await self.close(stream, "client_lost")
            return None
        if not stream.runner.has_ended():
            stream.holder = holder
            self._waiting.pop(stream, None)
            self._stop_expiry(stream)
            try:
                await stream.runner.rejoin(request.next_sample)
            except BaseException:
                self.detach(stream, holder)
                raise
        elif request.token not in self._undelivered:
            # It ended while this connection waited for the former one, and all was delivered.
            return None
        return stream

    def detach(self, stream: RunningStream, holder: Holder) -> None:
        """Let a stream be without its connection; it ends unless it is resumed in time.

        One that has ended keeps its results as long, for a client that was lost before it had the
        last of them; of no more streams than may run. Does nothing for a stream that another
        connection holds.
        """
        if stream.holder is not holder:
            return
        stream.holder = None
        if stream.runner.has_ended():
            if len(self._undelivered) >= self._limits.max_streams:
                self._stop_expiry(self._undelivered.pop(next(iter(self._undelivered))))
            self._undelivered[stream.resume_token] = stream
        else:
            self._waiting[stream] = None
            self._bound_waiting(stream)
        stream.expiry = asyncio.create_task(self._expire(stream), name="expiry")

    async def close(self, stream: RunningStream, reason: CloseReason) -> None:
        if self._remove(stream):
            await self._finish(stream, reason)

    def _remove(self, stream: RunningStream) -> bool:
        """Free a stream's place; return False if that has been done."""
        if self._streams.pop(stream.resume_token, None) is None:
            return False
        self._of_token[stream.token_name] -= 1
        self._of_address[_counted(stream.who, stream.address)] -= 1
        self._waiting.pop(stream, None)
        # The expiry itself may be what closes the stream: it must not cancel itself.
        if stream.expiry is not asyncio.current_task():
            self._stop_expiry(stream)
        return True

    @staticmethod
    async def _finish(stream: RunningStream, reason: CloseReason) -> None:
        try:
            await stream.runner.finish(reason)
        finally:
            _log.info(
                "stream_closed",
                stream_id=stream.stream_id,
                route=stream.route,
                reason=reason,
                audio_s=round(stream.runner.session.received_s, 3),
            )

    async def aclose(self) -> None:
        for stream in self._undelivered.values():
            self._stop_expiry(stream)
        self._undelivered.clear()
        streams = list(self._streams.values())
        await asyncio.gather(
            *(self.close(stream, "server_stopped") for stream in streams), *self._closing
        )

    def _make_room(self, token_name: str, address: str) -> None:
        """Have waiting streams give their places up until there is one for a new stream."""
        # None waits here where those that do are in other processes: they keep their memory, and
        # their client's time.
        limits, elsewhere = self._limits, self.elsewhere
        if len(self._streams) + elsewhere.streams >= limits.max_streams:
            for stream in list(itertools.islice(self._waiting, 1)):
                self._give_up(stream, "server_full")
        of_token = self._of_token[token_name] + elsewhere.of_token.get(token_name, 0)
        if token_name and of_token >= limits.max_streams_per_token:
            waiting = (one for one in self._waiting if one.token_name == token_name)
            for stream in list(itertools.islice(waiting, 1)):
                self._give_up(stream, "token_full")
        at_address = self._of_address[address] + elsewhere.of_address.get(address, 0)
        if token_name and at_address >= limits.max_streams_per_address:
            of_address = (one for one in self._waiting if one.address == address)
            # None waits where the address holds streams of platforms too, which do not count.
            for stream in itertools.islice(of_address, 1):
                self._give_up(stream, "address_full")

    def _bound_waiting(self, latest: RunningStream) -> None:
        """Have the oldest of one client's streams give up where too many of them wait."""
        limits = self._limits
        # Clients without a token share no number of streams but that of the server.
        of_address = limits.max_streams_per_address if latest.token_name else limits.max_streams
        for same, may_have in (
            (
                [one for one in self._waiting if one.token_name == latest.token_name != ""],
                limits.max_streams_per_token,
            ),
            ([one for one in self._waiting if one.address == latest.address != ""], of_address),
        ):
            most = limits.max_waiting_streams_per_client or may_have
            for stream in same[: max(len(same) - most, 0)]:
                self._give_up(stream, "too_many_waiting")

    def _give_up(self, stream: RunningStream, why: str) -> None:
        """End a waiting stream before its time; its place is free at once."""
        if not self._remove(stream):
            return
        stream.runner.metrics.given_up.labels(why).inc()
        _log.info("stream_given_up", stream_id=stream.stream_id, route=stream.route, reason=why)
        closing = asyncio.create_task(self._finish(stream, "client_lost"), name="giving up")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _expire(self, stream: RunningStream) -> None:
        await asyncio.sleep(self._limits.resume_window_s)
        self._undelivered.pop(stream.resume_token, None)
        await self.close(stream, "client_lost")

    @staticmethod
    def _stop_expiry(stream: RunningStream) -> None:
        if stream.expiry is not None:
            stream.expiry.cancel()
            stream.expiry = None
