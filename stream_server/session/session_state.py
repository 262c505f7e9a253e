"""What a session consists of, and what is known of its stream."""

from __future__ import annotations

from collections.abc import Collection

from ser_engine.config import EngineConfig
from ser_engine.frames import samples_to_s
from ser_engine.types import ModelInfo
from stream_server.protocol.stream_spec import StreamSpec
from stream_server.session.aligned_channels import AlignedChannels, Tap
from stream_server.session.channel import AnalysedChannel
from stream_server.session.framing import Framing, stream_channels
from stream_server.session.notes import Notes
from stream_server.session.result_log import ResultLog

__all__ = ["SessionState"]


class SessionState:
    """The parts of a :class:`~stream_server.session.Session`; its arguments are these.

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
