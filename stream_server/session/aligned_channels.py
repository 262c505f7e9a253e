"""The channels of a session on one clock: audio and gaps in, windows out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray
from stream_server.audio.intake import AudioBlock, Intake, NoAudio
from stream_server.protocol.audio_format import AudioFormat
from stream_server.protocol.dialect import LostSpan
from stream_server.session.channel import AnalysedChannel
from stream_server.session.lost_time import LostTime
from stream_server.session.windows import ChannelWindow

__all__ = ["BLOCK_MS", "AlignedChannels", "Tap"]

Tap = Callable[[int, FloatArray], None]
"""Is given the audio of every channel, float32 ``(samples,)`` at 16 kHz: index, samples. Gaps come
as zeros, so that a position in it is one on the clock."""

BLOCK_MS = 500
"""Audio that is decoded at once, where no boundary is nearer: many short messages then cost little
more than few long ones."""

_MAX_BLOCKS = 10
"""Blocks of one :meth:`AlignedChannels.advance`: where steps are long, a caller gets to do other
things in between."""

_RESAMPLER_LAG_SAMPLES = 980
"""Most that soxr's LQ holds back, 61 ms, from 8 kHz: that much after a boundary it is sure that
the boundary's audio comes out."""

_ZEROS_SAMPLES = SAMPLE_RATE_HZ


class AlignedChannels:
    """Feeds every analysed channel the same time: audio, gaps of all, and gaps of a channel alone.

    Where a channel alone has lost audio it has a gap while others take theirs, bridged at first:
    see :mod:`~stream_server.session.lost_time`. Of what is not it is told at boundaries and where
    the span ends, so that it does not matter how the audio is split, and its boundaries stay those
    of the others.

    Args:
        audio_format: of the bytes.
        lanes: the analysed channels.
        step_samples: between boundaries.
        tap: is given all audio; without one only analysed channels are decoded.
    """

    def __init__(
        self,
        audio_format: AudioFormat,
        lanes: Sequence[AnalysedChannel],
        step_samples: int,
        tap: Tap | None,
    ) -> None:
        self._lanes = lanes
        self._lane_of = {lane.index: lane for lane in lanes}
        self._step = step_samples
        self._tap = tap
        every = range(audio_format.num_channels)
        self._decoded = tuple(every) if tap else tuple(lane.index for lane in lanes)
        self.intake = Intake(audio_format, self._decoded)
        self._block_ticks = audio_format.sample_rate_hz * BLOCK_MS // 1000
        self._items: deque[AudioBlock | NoAudio] = deque()
        self._lost: dict[int, LostTime] = {}
        self._has_lost = False  # any is to come or to be told of: the way without is shorter
        self._boundary = step_samples  # where windows fall due next
        self.clock_samples = 0  # stream time the channels have taken
        self._set_wake()

    def receive(self, data: bytes, lost: Sequence[LostSpan] = ()) -> None:
        """Take encoded bytes, any number, and where in them channels have nothing."""
        start = self.intake.end_ticks
        for span in lost:
            if span.channel in self._decoded:
                self._lost.setdefault(span.channel, LostTime()).add(
                    self.intake.to_clock(start + span.start_tick),
                    self.intake.to_clock(start + span.end_tick),
                )
                self._has_lost = True
        self.intake.receive(data, lost)

    @property
    def has_backlog(self) -> bool:
        """Whether :meth:`advance` would do something."""
        return bool(self._items) or self.intake.buffered_ticks >= self._wake_ticks

    def advance(self) -> list[ChannelWindow]:
        """Process the backlog up to the next boundary."""
        windows: list[ChannelWindow] = []
        for _ in range(_MAX_BLOCKS):
            if windows or not self.has_backlog:
                break
            if not self._items:
                self._items += self.intake.read(self._ticks_at_once())
            if self._items:
                boundary = self._boundary
                windows += self._take_item()
                if self._boundary != boundary:
                    break
            self._set_wake()
        self._set_wake()
        return windows

    def drain(self, items: Iterable[AudioBlock | NoAudio]) -> list[ChannelWindow]:
        """Process what was read, ``items`` included."""
        self._items += items
        windows: list[ChannelWindow] = []
        while self._items:
            windows += self._take_item()
        self._set_wake()
        return windows

    def flush(self) -> list[ChannelWindow]:
        """Process everything that was received, and make every complete frame due."""
        windows = self.drain(self.intake.flush())
        windows += self._tell_lost()
        for lane in self._lanes:
            windows += lane.flush()
        return windows

    def finish(self) -> list[ChannelWindow]:
        """The same, for the last time."""
        windows = self.drain(self.intake.flush())
        windows += self._tell_lost()
        for lane in self._lanes:
            windows += lane.finish()
        return windows

    def _set_wake(self) -> None:
        """Compute how much has to be buffered until there is something to do."""
        lag = _RESAMPLER_LAG_SAMPLES if self.intake.is_resampling else 0
        to_boundary = self.intake.to_source(self._boundary + lag) - self.intake.read_ticks
        self._wake_ticks = max(1, min(self._block_ticks, to_boundary))

    def _ticks_at_once(self) -> int:
        if self.intake.is_resampling:
            return self._block_ticks
        return min(self._block_ticks, self._boundary - self.clock_samples)

    def _take_item(self) -> list[ChannelWindow]:
        """Let the channels take the next item, audio up to the next boundary or border only."""
        item = self._items.popleft()
        if isinstance(item, NoAudio):
            return self._pass_time(item)
        samples, to_cut = item.samples, self._boundary - self.clock_samples
        if self._has_lost:
            to_cut = self._to_border(to_cut)
        if samples.shape[1] > to_cut:
            self._items.appendleft(AudioBlock(samples[:, to_cut:]))
            samples = samples[:, :to_cut]
        start = self.clock_samples
        self.clock_samples += samples.shape[1]
        if self.clock_samples == self._boundary:
            self._boundary += self._step
        if self._has_lost:
            return self._take_with_lost(samples, start)
        windows: list[ChannelWindow] = []
        for index, row in zip(self._decoded, samples, strict=True):
            if index in self._lane_of:
                windows += self._lane_of[index].push(row)
            if self._tap is not None:
                self._tap(index, row)
        return windows

    def _to_border(self, to_cut: int) -> int:
        """Return how far it is to where a channel's audio ends or goes on, ``to_cut`` at most."""
        for lost in self._lost.values():
            border = lost.next_border(self.clock_samples)
            if border is not None:
                to_cut = min(to_cut, border - self.clock_samples)
        return to_cut

    def _take_with_lost(self, samples: FloatArray, start: int) -> list[ChannelWindow]:
        """Let the channels take audio that lies within a span, or between two, of every channel."""
        windows: list[ChannelWindow] = []
        # Before any channel goes on: what a boundary makes due comes after it, however it is split.
        for index in sorted(self._lost):
            if self._lost[index].leaves_bridge_at(start) and index in self._lane_of:
                windows += self._lane_of[index].flush()
        for index, row in zip(self._decoded, samples, strict=True):
            lost, lane = self._lost.get(index), self._lane_of.get(index)
            if lost is None or not lost.covers(start):
                windows += [] if lane is None else lane.push(row)
            else:
                row = np.zeros_like(row)
                windows += self._lose(index, lost, row, start)
            if self._tap is not None:
                self._tap(index, row)
        self._forget_lost()
        return windows

    def _lose(
        self, index: int, lost: LostTime, zeros: FloatArray, start: int
    ) -> list[ChannelWindow]:
        """Let a channel have lost time instead of audio."""
        windows: list[ChannelWindow] = []
        if not lost.is_bridged(start):
            lost.held += len(zeros)
        elif index in self._lane_of:
            windows = self._lane_of[index].push(zeros, is_lost=True)
        lost.pass_to(self.clock_samples)
        is_boundary = self.clock_samples + self._step == self._boundary
        if is_boundary or not lost.covers(self.clock_samples):
            windows += self._tell_lost_of(index)
        return windows

    def _tell_lost(self) -> list[ChannelWindow]:
        """Let every channel have had the lost time that has passed."""
        windows: list[ChannelWindow] = []
        for index in sorted(self._lost):
            windows += self._tell_lost_of(index)
        return windows

    def _tell_lost_of(self, index: int) -> list[ChannelWindow]:
        lost, lane = self._lost[index], self._lane_of.get(index)
        num_samples, lost.held = lost.held, 0
        if lane is None or num_samples == 0:
            return []
        to_boundary = self._boundary - self.clock_samples
        return lane.mark_gap("lost", num_samples, to_boundary=to_boundary)

    def _forget_lost(self) -> None:
        """Forget lost time that has passed."""
        for lost in self._lost.values():
            lost.pass_to(self.clock_samples)
        self._has_lost = any(lost.is_ahead for lost in self._lost.values())

    def _pass_time(self, gap: NoAudio) -> list[ChannelWindow]:
        if gap.num_samples == 0:
            return []
        windows = self._tell_lost()
        for lane in self._lanes:
            windows += lane.mark_gap(gap.reason, gap.num_samples)
        self.clock_samples += gap.num_samples
        self._forget_lost()
        # After a gap there is no left context: boundaries count from its end.
        self._boundary = self.clock_samples + self._step
        if self._tap is not None:
            for start in range(0, gap.num_samples, _ZEROS_SAMPLES):
                zeros = np.zeros(min(_ZEROS_SAMPLES, gap.num_samples - start), dtype=np.float32)
                for index in self._decoded:
                    self._tap(index, zeros)
        return windows
