"""Messages with every field set, and a model of a server for the client's core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ser_engine.schema import ChannelSummary, Frames, LabelName, ModelNotice
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, Inbound
from stream_server.wire.messages import (
    ChannelSpec,
    Discarded,
    Error,
    Heartbeat,
    KeepAlive,
    Limits,
    Mark,
    Pause,
    Ready,
    Resume,
    ServerMessage,
    Stop,
)
from stream_server.wire.native import NativeDialect
from stream_server.wire.results import (
    Alert,
    Consent,
    Flushed,
    Gap,
    Marked,
    Measures,
    Point,
    Result,
    Segment,
    StreamChannel,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
)
from stream_server.wire.start import StreamSpec

MODEL = ModelNotice(name="compact", licence="CC-BY-NC-SA-4.0", notice="weaker")
CHANNEL = StreamChannel(index=0, role="customer", name="Ann", analysed=True)
SPEC = StreamSpec(
    format=AudioFormat(encoding="pcm_s16le", sample_rate_hz=8000),
    channels=(ChannelSpec(role="customer"),),
)


def ready(**changes: Any) -> Ready:
    return Ready(
        **{
            "version": 1,
            "stream_id": "s1",
            "resume_token": "token-1",
            "resumed": False,
            "received_samples": 0,
            "model": MODEL,
            "labels": (LabelName(name="angry", name_zh="生气"),),
            "channels": (CHANNEL,),
            "window_ms": 4000,
            "step_ms": 500,
            "look_ahead_ms": 240,
            "frame_hop_ms": 20,
            "limits": Limits(
                max_message_bytes=1 << 20,
                max_messages_per_s=500,
                idle_timeout_s=60.0,
                max_stream_s=14400.0,
                resume_window_s=30.0,
            ),
            **changes,
        }
    )


def heartbeat(**changes: Any) -> Heartbeat:
    return Heartbeat(
        **{
            "stream_id": "s1",
            "received_samples": 0,
            "received_s": 0.0,
            "published_s": 0.0,
            "lag_ms": 0.0,
            "real_time_factor": 0.1,
            "effective_step_ms": 500.0,
            **changes,
        }
    )


def span(seq: int = 1) -> dict[str, Any]:
    return {
        "stream_id": "s1",
        "seq": seq,
        "channel": 0,
        "role": "customer",
        "start_sample": 0,
        "end_sample": 8000,
        "start_s": 0.0,
        "end_s": 0.5,
    }


def point(seq: int = 1, *, frames: Frames | None = None) -> Point:
    return Point(
        **span(seq),
        posteriors=(0.75, 0.25),
        label="angry",
        confidence=0.75,
        speech_share=0.5,
        provisional=True,
        widened=False,
        narrow_band=True,
        model="compact",
        frames=frames,
    )


FRAMES = Frames(
    start_samples=(0, 320), hop_samples=320, posteriors=((0.5, 0.5),) * 2, labels=("angry",) * 2
)


def results() -> list[Result]:
    """One of every kind."""
    return [
        StreamOpened(
            stream_id="s1",
            seq=0,
            name="call",
            channels=(CHANNEL,),
            model=MODEL,
            labels=("angry",),
            metadata={"queue": "sales"},
            sample_rate=8000,
            encoding="mulaw",
            step_ms=500,
            opened_at=1.5,
        ),
        point(frames=FRAMES),
        Segment(**span(2), label="angry", confidence=0.5, final=True),
        Gap(**span(3), reason="silence", final=False),
        Marked(stream_id="s1", seq=4, name="here", at_sample=16, at_s=0.001),
        Flushed(stream_id="s1", seq=5, at_sample=16, at_s=0.001),
        Alert(
            stream_id="s1",
            seq=6,
            alert_id="a1",
            rule="angry_customer",
            state="raised",
            severity="critical",
            channel=0,
            role="customer",
            labels=("angry",),
            posterior=0.9,
            since_sample=0,
            at_sample=16000,
            since_s=0.0,
            at_s=1.0,
        ),
        Consent(
            stream_id="s1",
            seq=9,
            consent="given",
            source="ivr",
            notice_version="3",
            notice_language="en",
            notice_how="spoken",
            withheld="halted",
            at_s=1.0,
            told_at=1_800_000_000.0,
        ),
        Measures(
            stream_id="s1",
            seq=7,
            at_sample=16_000,
            silence_s=0.25,
            overlap_s=0.0,
            missing_s=0.0,
            channels=(),
        ),
        Warning(stream_id="s1", seq=7, code="clipping", channel=None, message="loud", at_s=1.0),
        Summary(
            stream_id="s1",
            seq=8,
            reason="stopped",
            duration_s=1.0,
            received_samples=8000,
            channels=(
                ChannelSummary(
                    channel=0,
                    role="customer",
                    scored_s=0.5,
                    label_s={"angry": 0.5},
                    gap_s={"silence": 0.5},
                    points=1,
                ),
            ),
            alerts=1,
        ),
        StreamClosed(stream_id="s1", seq=9, reason="stopped", closed_at=2.5),
    ]


def server_messages() -> list[ServerMessage]:
    """One of every kind."""
    error = Error(
        code="idle", message="got nothing", remedy="send", close_code=4408, retry_after_s=1.5
    )
    return [ready(), heartbeat(), error, *results()]


class ModelStream:
    """What a server knows of one stream: its position, and what filled it.

    Audio samples are 16-bit values; ``timeline`` has one entry a position: the value, or the
    reason of a gap.
    """

    def __init__(self) -> None:
        self.timeline: list[int | str] = []
        self.marks: list[tuple[str, int]] = []
        self.num_controls = 0
        self.paused = False
        self.stopped = False
        self.results: list[Result] = []

    def handle(self, inbound: Inbound) -> None:
        if isinstance(inbound, KeepAlive | StreamSpec):
            return
        if isinstance(inbound, AudioData):
            assert not self.paused
            values = memoryview(inbound.data).cast("h")
            self.timeline += values
            self._publish_point()
            return
        self.num_controls += 1
        match inbound:
            case Discarded(samples=samples):
                self.timeline += ["discarded"] * samples
            case Pause():
                self.paused = True
            case Resume(paused_samples=samples):
                self.paused = False
                self.timeline += ["paused"] * (samples or 0)
            case Mark(name=name):
                self.marks.append((name, len(self.timeline)))
                self.results.append(
                    Marked(
                        stream_id="s1",
                        seq=len(self.results),
                        name=name,
                        at_sample=len(self.timeline),
                        at_s=0.0,
                    )
                )
            case Stop():
                self.stopped = True

    def lose(self, num_samples: int) -> None:
        self.timeline += ["lost"] * num_samples

    def _publish_point(self) -> None:
        self.results.append(point(len(self.results)))


class ModelServer:
    """A server that the client reaches over one connection at a time."""

    def __init__(self) -> None:
        self.streams: list[ModelStream] = []
        self._dialect = NativeDialect()
        self._num_sent = 0

    @property
    def stream(self) -> ModelStream:
        return self.streams[-1]

    def connect(self, start: str) -> list[str | bytes]:
        """Take the first message of a new connection and return the answers."""
        self._dialect = NativeDialect()
        (spec,) = self._dialect.receive(start)
        assert isinstance(spec, StreamSpec)
        resumed = spec.resume is not None and spec.resume.token == self._token()
        if resumed:
            assert spec.resume is not None
            self.stream.lose(max(0, spec.resume.next_sample - len(self.stream.timeline)))
            self._num_sent = spec.resume.last_seq + 1
        else:
            self.streams.append(ModelStream())
            self._num_sent = 0
        answer = ready(
            resume_token=self._token(),
            resumed=resumed,
            received_samples=len(self.stream.timeline),
            received_controls=self.stream.num_controls,
            paused=self.stream.paused,
        )
        return [*self._dialect.send(answer), *self.take_results()]

    def receive(self, messages: Sequence[str | bytes]) -> None:
        for message in messages:
            for inbound in self._dialect.receive(message):
                self.stream.handle(inbound)

    def take_results(self) -> list[str | bytes]:
        new = self.stream.results[self._num_sent :]
        self._num_sent = len(self.stream.results)
        return [text for result in new for text in self._dialect.send(result)]

    def heartbeat(self) -> list[str | bytes]:
        return self._dialect.send(
            heartbeat(
                received_samples=len(self.stream.timeline),
                received_controls=self.stream.num_controls,
            )
        )

    def give_up_stream(self) -> None:
        """Forget the stream, as after the resume window."""
        self._forgotten = len(self.streams)

    _forgotten = 0

    def _token(self) -> str:
        return f"token-{len(self.streams)}" if len(self.streams) > self._forgotten else "gone"
