"""One analysed channel of a session."""

from __future__ import annotations

from collections.abc import Iterable

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.events import Event, GapReason, Point
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES
from ser_engine.quality import Finding, QualityMonitor
from ser_engine.streaming import ChannelStream, make_detector
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult
from stream_server.protocol.results import ChannelSummary, Warning
from stream_server.session.result_log import ResultLog
from stream_server.session.tally import Tally
from stream_server.session.windows import ChannelWindow, stream_key

__all__ = ["AnalysedChannel"]


class AnalysedChannel:
    """Audio in, windows out; answers in, results into the log.

    Args:
        index: of the channel in its stream.
        role: of the channel.
        stream_id: of the stream.
        sample_rate_hz: of the client's audio.
        model: what scores it.
        config: windows, smoothing, detector.
        details: give points their frames.
        log: where results go.
    """

    def __init__(
        self,
        *,
        index: int,
        role: str,
        stream_id: str,
        sample_rate_hz: int,
        model: ModelInfo,
        config: EngineConfig,
        details: bool,
        log: ResultLog,
    ) -> None:
        self.index = index
        self.role = role
        self._stream_id = stream_id
        self._log = log
        self._quality = QualityMonitor(make_detector(config.vad), sample_rate_hz)
        self._stream = ChannelStream(
            config.timeline,
            config.smoothing,
            model.labels,
            self._quality,
            stream_key(stream_id, index),
            details=details,
            min_silence_ms=config.vad.min_silence_ms,
        )
        self._tally = Tally()

    @property
    def clock_samples(self) -> int:
        """Stream time up to which audio and gaps were taken."""
        return self._stream.clock_samples

    @property
    def accounted_samples(self) -> int:
        """Stream time up to which everything is published."""
        return self._stream.accounted_samples

    @property
    def pending_windows(self) -> int:
        """Windows without an answer."""
        return self._stream.pending_windows

    def is_accounted(self, sample: int) -> bool:
        """Whether all frames before ``sample`` are published that were complete there."""
        return self._stream.accounted_samples + RECEPTIVE_FIELD_SAMPLES > sample

    def push(self, samples: FloatArray, *, is_lost: bool = False) -> list[ChannelWindow]:
        """Take audio, or what stands for lost audio; return the windows that became due."""
        windows = self._stream.push(samples, is_lost=is_lost)
        self._publish(self._stream.take_events())
        for finding in self._quality.take_findings():
            self._warn(finding)
        return self._named(windows)

    def flush(self) -> list[ChannelWindow]:
        """Make every complete frame due."""
        windows = self._stream.flush()
        self._publish(self._stream.take_events())
        return self._named(windows)

    def mark_gap(
        self, reason: GapReason, num_samples: int, *, to_boundary: int | None = None
    ) -> list[ChannelWindow]:
        """Let time pass without audio; see :meth:`ChannelStream.mark_gap`."""
        windows = self._stream.mark_gap(reason, num_samples, to_boundary=to_boundary)
        self._quality.skip(num_samples)
        self._publish(self._stream.take_events())
        return self._named(windows)

    def finish(self) -> list[ChannelWindow]:
        """End the audio."""
        windows = self._stream.finish()
        self._publish(self._stream.take_events())
        return self._named(windows)

    def answer(self, window: Window, outcome: WindowResult | WindowError) -> None:
        """Take the answer to a window."""
        self._publish(self._stream.accept(window, outcome))

    def skip(self, window: Window) -> None:
        """Give a window up."""
        self._publish(self._stream.skip(window))

    def close(self, reason: GapReason) -> ChannelSummary:
        """Publish what is open; speech without an answer is a gap with ``reason``."""
        self._publish(self._stream.close(reason))
        return self._tally.summary(self.index, self.role)

    def _publish(self, events: Iterable[Event]) -> None:
        for event in events:
            self._tally.add(event)
            narrow = isinstance(event, Point) and self._quality.narrow_band_at(event.end_sample)
            self._log.event(self.index, self.role, event, narrow_band=narrow)

    def _warn(self, finding: Finding) -> None:
        self._log.publish(
            lambda seq: Warning(
                stream_id=self._stream_id,
                seq=seq,
                code=finding.code,
                channel=self.index,
                message=finding.message,
                at_s=finding.at_s,
            )
        )

    def _named(self, windows: list[Window]) -> list[ChannelWindow]:
        return [ChannelWindow(self.index, window) for window in windows]
