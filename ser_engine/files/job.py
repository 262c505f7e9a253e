"""One file's analysis without an engine: windows are taken out, answers are put in.

::

    file.blocks() ─▶ channels ─▶ take_windows ─▶ (some engine, in any order) ─▶ answer ─▶ finish

Audio is read as windows are asked for, so whoever asks decides how much is in memory: a block of
the file, some 30 s of each channel, and the windows that are not answered. Nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from ser_engine.config import EngineConfig
from ser_engine.errors import AudioError, SerEngineError, WindowError
from ser_engine.files.granularities import ChannelWork, make_channel_work
from ser_engine.files.options import AnalysisOptions, options_in_effect
from ser_engine.files.passes import Ask, Outcome
from ser_engine.files.results import ChannelAnalysis, FileAnalysis
from ser_engine.files.source import AudioSource
from ser_engine.files.voices import Voices
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ, samples_to_s
from ser_engine.speakers.campplus import SpeakerEmbedder, embedder_for
from ser_engine.types import FloatArray, ModelInfo, Window


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow:
    """A window that was taken out and waits for its answer.

    Attributes:
        window: for the engine.
        channel: of the file, from 0.
    """

    window: Window
    channel: int
    ask: Ask = field(repr=False)


class AnalysisJob:
    """See the module's text. For one thread at a time.

    Errors of the file or of the engine end the job, and :meth:`finish` raises them. Their messages
    begin with the file's path or name.

    Args:
        file: an open one, read to the end here and left by :meth:`close`; for ``stream`` one that
            resamples ``as_streamed``.
        name: of the file, for results.
        info: the model that scores.
        config: lengths, detector, smoothing, and what the engine was made for.
        options: what to give.
        embedder: tells speakers apart where that is asked for; None: the model the settings name.

    Raises:
        RuntimeUnavailableError, CheckpointError: speakers are to be told apart, and the model for
            it cannot be had.
    """

    def __init__(
        self,
        file: AudioSource,
        name: str,
        info: ModelInfo,
        config: EngineConfig,
        options: AnalysisOptions,
        *,
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
        # A stream's windows fall due faster than they are answered, and hold their audio.
        piece_s = 1 if options.granularity == "stream" else 16
        self._piece_samples = piece_s * SAMPLE_RATE_HZ
        self._voices = [
            Voices(info, config, embedder) if options.speakers and embedder else None
            for _ in range(file.channels)
        ]
        self._channels = tuple(
            make_channel_work(info, config, self.options, file.rate_hz, voices)
            for voices in self._voices
        )
        self._pending: set[PendingWindow] = set()
        self._progress = 0.0
        self._stream_keys: set[str] = set()
        self._error: SerEngineError | None = None

    def take_windows(
        self, max_windows: int, *, max_read_s: float = math.inf
    ) -> list[PendingWindow]:
        """Return windows to be scored, at most so many; reads on in the file as far as needed.

        An empty list means: what is pending has to be answered first, or the job is done; or so
        much was read and nothing in it asks for a window.

        Args:
            max_windows: how many.
            max_read_s: audio after which to come back, s, for those who have other things to do:
                hours of silence ask for nothing.
        """
        taken: list[PendingWindow] = []
        read_to = self._heard_samples + max_read_s * SAMPLE_RATE_HZ
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
        """Take what the engine says of a window.

        Raises:
            ValueError: the window is not one of this job's that waits for an answer.
        """
        if pending not in self._pending:
            raise ValueError("got an answer to a window that does not wait for one, expected one")
        self._pending.remove(pending)
        if self._error is None:
            try:
                pending.ask.deliver(outcome)
            except WindowError as error:
                self._error = WindowError(f"{self.name}: {error}")

    @property
    def num_pending(self) -> int:
        """Windows that were taken out and wait for an answer."""
        return len(self._pending)

    @property
    def is_done(self) -> bool:
        """Whether :meth:`finish` may be called: all is answered, or something went wrong."""
        if self._error is not None:
            return True
        asked = self._pending or any(channel.asks for channel in self._channels)
        return self._blocks is None and not asked

    @property
    def progress(self) -> float:
        """How much of the audio is answered, 0 to 1. An estimate where the length is one."""
        if self.is_done:
            return 1.0
        total = self._file.header_s * SAMPLE_RATE_HZ
        windows = [pending.window for pending in self._pending]
        windows += [ask.window for channel in self._channels for ask in channel.asks]
        first = min((window.start_sample for window in windows), default=self._heard_samples)
        share = first / total if total else 0.0
        self._progress = max(self._progress, min(share, 0.99))
        return self._progress

    @property
    def stream_keys(self) -> frozenset[str]:
        """Keys under which the engine may keep something of this file: let it forget them."""
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
            raise RuntimeError("got a job with windows to be answered, expected one that is done")
        channels = tuple(map(_analysis, self._channels, self._voices))
        return FileAnalysis(
            name=self.name,
            model=self.info,
            options=self.options,
            duration_s=samples_to_s(self._heard_samples),
            rate_hz=self._file.rate_hz,
            channels=channels,
        )

    def close(self) -> None:
        """Leave the file. A second time does nothing."""
        self._blocks = self._block = None
        if isinstance(self._file, AbstractContextManager):
            self._file.__exit__(None, None, None)

    @property
    def _heard_samples(self) -> int:
        return self._channels[0].listener.heard_samples

    def _next(self) -> PendingWindow | None:
        for number, channel in enumerate(self._channels):
            if channel.asks:
                ask = channel.asks.popleft()
                pending = PendingWindow(ask.window, number, ask)
                self._pending.add(pending)
                if ask.window.stream_key is not None:
                    self._stream_keys.add(ask.window.stream_key)
                return pending
        return None

    def _read_on(self) -> bool:
        """Give every channel its next audio; return whether that could be done."""
        if self._blocks is None or not all(channel.wants_audio for channel in self._channels):
            return False
        if self._block is None:
            self._block = next(self._blocks, None)
        if self._block is None:
            self._blocks = None
            self._check_length()
            for channel, voices in zip(self._channels, self._voices, strict=True):
                channel.end()
                if voices is not None:
                    voices.end()
            return True
        piece = self._block[:, : self._piece_samples]
        rest = self._block[:, self._piece_samples :]
        self._block = rest if rest.shape[1] else None
        for channel, voices, samples in zip(self._channels, self._voices, piece, strict=True):
            channel.push(samples)
            if voices is not None:
                voices.hear(samples)
        return True

    def _check_length(self) -> None:
        num_samples = self._heard_samples
        if num_samples < RECEPTIVE_FIELD_SAMPLES:
            raise AudioError(
                f"{self.name}: got {num_samples} samples at 16 kHz ({num_samples / 16:.1f} ms),"
                f" expected at least {RECEPTIVE_FIELD_SAMPLES} (25 ms)"
            )


def _analysis(channel: ChannelWork, voices: Voices | None) -> ChannelAnalysis:
    result, overall, pieces = channel.result()
    if voices is not None:
        pieces = tuple(
            replace(each, speaker=voices.speaker_of(each.start_sample, each.end_sample))
            for each in pieces
        )
    return ChannelAnalysis(
        result=result,
        overall=overall,
        pieces=pieces,
        warnings=channel.listener.warnings(),
        speakers=() if voices is None else voices.results(),
    )
