"""The analysis of one file, without an engine: windows are taken out, outcomes are put in.

::

    file.blocks() ─▶ channels ─▶ take_windows ─▶ (an engine, in any order) ─▶ answer ─▶ finish

Audio is read as windows are taken, so the caller decides how much is in memory: a block of the
file, some 30 s of each channel, and the windows whose outcome is missing. Nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from ser_engine.config import EngineConfig
from ser_engine.errors import AudioError, SerEngineError, WindowError
from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.granularities import ChannelAnalyser, ChannelSetup, make_analyser
from ser_engine.files.monitor import ChannelMonitor
from ser_engine.files.options import AnalysisOptions, options_in_effect
from ser_engine.files.passes import Outcome, WindowRequest
from ser_engine.files.results import ChannelAnalysis
from ser_engine.files.source import AudioSource, Warns
from ser_engine.files.speakers import ChannelSpeakers
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import MIXED_MESSAGE, MIXED_ROLE, Warning
from ser_engine.speakers.campplus import SpeakerEmbedder, embedder_for
from ser_engine.timeline import make_detector
from ser_engine.timeline.conversation import Conversation
from ser_engine.types import FloatArray, ModelInfo, Window


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow:
    """A window that was taken and whose outcome is missing."""

    window: Window
    channel: int
    request: WindowRequest = field(repr=False)


class AnalysisJob:
    """One file, all channels. For one thread at a time.

    Errors of the file or of the engine end the job, and :meth:`finish` raises them. Their messages
    begin with the file's path or name.

    Args:
        file: an open one, which the job owns: :meth:`close` leaves it. For ``stream`` one that
            resamples ``as_streamed``.
        config: lengths, detector, smoothing, and what the engine was made for.
        embedder: tells speakers apart if the options say so; None: the model the settings name.

    Raises:
        RuntimeUnavailableError, CheckpointError: speakers are to be told apart, and the model for
            it is not available.
        AudioError: no channel has a role that is analysed, or the roles are of another number of
            channels.
    """

    def __init__(
        self,
        *,
        file: AudioSource,
        name: str,
        info: ModelInfo,
        config: EngineConfig,
        options: AnalysisOptions,
        embedder: SpeakerEmbedder | None = None,
    ) -> None:
        if options.speakers and embedder is None:
            embedder = embedder_for(config)
        self.name = name
        self.info = info
        effective = options_in_effect(options, config)
        self.options = replace(options, frame_hop_ms=effective.frame_hop_ms)
        self._file = file
        self._blocks: Iterator[FloatArray] | None = file.blocks()
        self._block: FloatArray | None = None
        # A stream's windows fall due faster than they are scored, and hold their audio.
        chunk_s = 1 if options.granularity == "stream" else 16
        self._chunk_samples = chunk_s * SAMPLE_RATE_HZ
        self._analysed = options.analysed_channels(file.channels)
        self._speakers = tuple(
            ChannelSpeakers(info, config, embedder) if options.speakers and embedder else None
            for _ in self._analysed
        )
        # Without a detector everything is speech, and nothing to be measured.
        self._conversation = Conversation() if config.vad.detector != "off" else None
        self._channels = tuple(
            make_analyser(
                ChannelSetup(info, config, self.options, self._monitor(config, index), speakers)
            )
            for index, speakers in zip(self._analysed, self._speakers, strict=True)
        )
        self._pending: set[PendingWindow] = set()
        self._progress = 0.0
        self._stream_keys: set[str] = set()
        self._error: SerEngineError | None = None

    def _monitor(self, config: EngineConfig, channel: int) -> ChannelMonitor:
        detector = make_detector(config.vad)
        if self._conversation is not None:
            role = self.options.role_of(channel)
            detector = self._conversation.listen(channel, detector, role=role)
        return ChannelMonitor(config.vad, self._file.rate_hz, detector)

    def take_windows(
        self, max_windows: int, *, max_read_s: float = math.inf
    ) -> list[PendingWindow]:
        """Return windows to be scored, reading as much of the file as they need.

        The list is empty if pending windows need their outcomes first, if the job is done, or if
        ``max_read_s`` was read without a window.

        Args:
            max_read_s: audio after which to return in any case, s: hours of silence need no
                window, and other jobs may be waiting.
        """
        taken: list[PendingWindow] = []
        read_to = self._heard_samples + max_read_s * SAMPLE_RATE_HZ
        # An error ends the job, not the caller's loop over jobs; finish() raises it.
        try:
            while len(taken) < max_windows and self._error is None:
                pending = self._next()
                if pending is not None:
                    taken.append(pending)
                elif self._heard_samples >= read_to or not self._read_on():
                    break
        except SerEngineError as error:
            self._error = error
        return taken

    def answer(self, pending: PendingWindow, outcome: Outcome) -> None:
        """Take the outcome of a window, in any order.

        Raises:
            ValueError: the window is not of this job, or has its outcome already.
        """
        if pending not in self._pending:
            raise ValueError("the window is not pending in this job: answer each taken window once")
        self._pending.remove(pending)
        # After an error the outcomes of windows that were under way are of no use.
        if self._error is None:
            try:
                pending.request.deliver(outcome)
            except WindowError as error:
                self._error = WindowError(f"{self.name}: {error}")

    @property
    def num_pending(self) -> int:
        """Windows that were taken and whose outcome is missing."""
        return len(self._pending)

    @property
    def is_done(self) -> bool:
        """Whether :meth:`finish` may be called: all is scored, or there is an error."""
        if self._error is not None:
            return True
        open_windows = self._pending or any(channel.requests for channel in self._channels)
        return self._blocks is None and not open_windows

    @property
    def progress(self) -> float:
        """How much of the audio is scored, 0 to 1. An estimate where the length is one."""
        if self.is_done:
            return 1.0
        total = self._file.header_s * SAMPLE_RATE_HZ
        windows = [pending.window for pending in self._pending]
        windows += [each.window for channel in self._channels for each in channel.requests]
        first = min((window.start_sample for window in windows), default=self._heard_samples)
        # WebM as browsers record it names no length: no share is known then.
        share = first / total if total else 0.0
        # Where no window was open all that was read counted; the next one may start before that.
        self._progress = max(self._progress, min(share, 0.99))
        return self._progress

    @property
    def stream_keys(self) -> frozenset[str]:
        """Keys under which the engine may have cached features of this file, for ``forget``."""
        return frozenset(self._stream_keys)

    def finish(self) -> FileAnalysis:
        """Return the result of a job that is done.

        Raises:
            AudioError: the file is damaged, or has less than 25 ms.
            WindowError: the engine could not score it; a ``stream`` has a gap there instead.
            RuntimeError: the job is not done.
        """
        if self._error is not None:
            raise self._error
        if not self.is_done:
            raise RuntimeError("the job is not done: windows are left to take or to answer")
        of_file = self._file.warnings() if isinstance(self._file, Warns) else ()
        channels = tuple(
            _channel_result(channel, speakers, self._of_role(index) + of_file)
            for index, channel, speakers in zip(
                self._analysed, self._channels, self._speakers, strict=True
            )
        )
        measures = None
        if self._conversation is not None:
            self._conversation.finish()
            measures = self._conversation.measures()
        return FileAnalysis(
            name=self.name,
            model=self.info,
            options=self.options,
            duration_s=samples_to_s(self._heard_samples),
            rate_hz=self._file.rate_hz,
            channels=channels,
            measures=measures,
            analysed=self._analysed,
        )

    def _of_role(self, channel: int) -> tuple[Warning, ...]:
        if self.options.role_of(channel) != MIXED_ROLE:
            return ()
        return (Warning(code="mixed_speakers", message=MIXED_MESSAGE, at_s=0.0),)

    def close(self) -> None:
        """Close the file, if it can be closed. May be called again."""
        self._blocks = self._block = None
        # Arrays are sources, too, and have nothing to close.
        if isinstance(self._file, AbstractContextManager):
            self._file.__exit__(None, None, None)

    @property
    def _heard_samples(self) -> int:
        return self._channels[0].monitor.num_samples

    def _next(self) -> PendingWindow | None:
        for number, channel in enumerate(self._channels):
            if channel.requests:
                request = channel.requests.popleft()
                pending = PendingWindow(request.window, self._analysed[number], request)
                self._pending.add(pending)
                if request.window.stream_key is not None:
                    self._stream_keys.add(request.window.stream_key)
                return pending
        return None

    def _read_on(self) -> bool:
        """Give every channel its next audio, or its end; return whether there was either."""
        # Channels stay level: a block is released only when all of them have taken it.
        if self._blocks is None or not all(channel.wants_audio for channel in self._channels):
            return False
        if self._block is None:
            self._block = next(self._blocks, None)
        if self._block is None:
            self._blocks = None
            # Only now: what the header says of the length may be wrong.
            self._check_length()
            for channel, speakers in zip(self._channels, self._speakers, strict=True):
                channel.end()
                if speakers is not None:
                    speakers.finish()
            return True
        chunk = self._block[:, : self._chunk_samples]
        rest = self._block[:, self._chunk_samples :]
        self._block = rest if rest.shape[1] else None
        # The audio of the other channels goes no further than this.
        chosen = [chunk[index] for index in self._analysed]
        for channel, speakers, samples in zip(self._channels, self._speakers, chosen, strict=True):
            channel.push(samples)
            if speakers is not None:
                speakers.push(samples)
        return True

    def _check_length(self) -> None:
        num_samples = self._heard_samples
        if num_samples < RECEPTIVE_FIELD_SAMPLES:
            raise AudioError(
                f"{self.name}: got {num_samples} samples at 16 kHz ({num_samples / 16:.1f} ms),"
                f" expected at least {RECEPTIVE_FIELD_SAMPLES} (25 ms)"
            )


def _channel_result(
    channel: ChannelAnalyser, speakers: ChannelSpeakers | None, of_file: tuple[Warning, ...]
) -> ChannelAnalysis:
    result, overall, pieces = channel.result()
    if speakers is not None:
        pieces = tuple(
            replace(each, speaker=speakers.speaker_of(each.start_sample, each.end_sample))
            for each in pieces
        )
    return ChannelAnalysis(
        result=result,
        overall=overall,
        pieces=pieces,
        warnings=channel.monitor.warnings() + of_file,
        speakers=() if speakers is None else speakers.results(),
    )
