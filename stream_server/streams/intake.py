"""From bytes in a stream's format to audio and gaps on the 16 kHz clock.

How the bytes are split into messages does not matter: a sample that came in part waits for the
rest. Samples are handled in ticks, one sample of every channel.

**Bad audio.** A tick that holds NaN, infinity or a value that no sound has, beyond
±:data:`LARGEST_SAMPLE`, begins a gap, ``error``, for all channels. The gap ends with the
:data:`HOLD_OFF_MS` of good audio that follow the last such tick, so that a client that sends much
nonsense causes few gaps. Gaps keep the clock true.

**Lost audio** of single channels is silence, whatever the bytes are there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.raw_audio import ALAW, MULAW, SCALE, FormatCheck
from ser_engine.resample import Resampler, to_clock
from ser_engine.schema import GapReason
from ser_engine.types import FloatArray
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import LostSpan
from stream_server.wire.errors import ErrorCode, ProtocolError

LARGEST_SAMPLE = 1e6
"""Full scale is 1, and 32768 where a client forgot to scale: that is reported as clipping. From
1e17 on powers would overflow."""

HOLD_OFF_MS = 100
"""Good audio after bad that is left out along with it."""

_MIN_EVIDENCE_BYTES, _MAX_EVIDENCE_BYTES = 64, 4096
"""Of a message, to tell whether it begins within a sample."""
_SMALLEST_LIKELY = 1e-10


def decode(data: bytes, audio_format: AudioFormat) -> FloatArray:
    """Return interleaved whole ticks as float32 ``(samples, channels)``, full scale ±1.

    Floating point samples come as they are: they may lie beyond, or be NaN or infinite.
    """
    samples: FloatArray
    match audio_format.encoding:
        case "pcm_s16le":
            samples = np.frombuffer(data, dtype="<i2") * SCALE
        case "pcm_f32le":
            samples = np.frombuffer(data, dtype="<f4").astype(np.float32)
        case "mulaw":
            samples = MULAW[np.frombuffer(data, dtype=np.uint8)]
        case "alaw":
            samples = ALAW[np.frombuffer(data, dtype=np.uint8)]
    return samples.reshape(-1, audio_format.num_channels)


@dataclass(frozen=True, slots=True)
class NoAudio:
    """Time without audio, of all channels."""

    reason: GapReason
    num_samples: int  # on the 16 kHz clock


LET_IN_TOGETHER = 16
"""Messages that an inlet lets in before it is asked again, at most."""


class Inlet:
    """Where audio goes in that nothing follows from, without asking for each message.

    Who takes a message may leave room for the next ones; whatever may change what is to be done
    with them closes it.

    Args:
        waiting: bytes that came and were not read yet.
        sample_bytes: messages that would cut a sample are not let in.

    Attributes:
        room_bytes: a message with fewer bytes may be added to them; 0: it is closed.
        messages_left: so many messages may be.
    """

    __slots__ = ("messages_left", "room_bytes", "sample_bytes", "waiting")

    def __init__(self, waiting: bytearray, sample_bytes: int) -> None:
        self.waiting = waiting
        self.sample_bytes = sample_bytes
        self.room_bytes = 0
        self.messages_left = LET_IN_TOGETHER

    def open(self, room_bytes: int) -> None:
        """Leave room for messages that have fewer bytes together."""
        self.room_bytes = room_bytes

    def limit(self, message_bytes: int) -> None:
        """Let nothing in that is longer."""
        self.room_bytes = min(self.room_bytes, message_bytes + 1)

    def shut(self) -> None:
        """Let nothing in until :meth:`open`."""
        self.room_bytes = 0

    def take_count(self) -> int:
        """Shut it; return how many messages were let in since the last call."""
        self.room_bytes = 0
        count, self.messages_left = LET_IN_TOGETHER - self.messages_left, LET_IN_TOGETHER
        return count


# Column of the channel, start and end.
_Spans = deque[tuple[int, int, int]]


class Intake:
    """Takes the bytes of one stream; returns audio and gaps, in order.

    Audio is float32 ``(channels, samples)`` at 16 kHz.

    Args:
        channels: indices of the channels that are wanted, in the order of the audio's rows.

    Attributes:
        format_check: looks at what was read for another format than the one told.
        inlet: lets audio in without a call, while there is room as :meth:`add` found.
    """

    def __init__(self, audio_format: AudioFormat, channels: Sequence[int]) -> None:
        self._format = audio_format
        self._sample_bytes = audio_format.bytes_per_sample
        self._tick_bytes = audio_format.bytes_per_tick
        self._columns = list(channels)
        self._takes_all = self._columns == list(range(audio_format.num_channels))
        self._resampler = Resampler(audio_format.sample_rate_hz, len(self._columns))
        self._bytes = bytearray()  # not read yet; may end within a tick
        self.inlet = Inlet(self._bytes, self._sample_bytes)
        self._lost: _Spans = deque()  # in ticks
        self._lost_output: _Spans = deque()  # in samples of the clock, where resampled
        self.read_ticks = 0  # ticks taken from the buffer or given up
        self._returned = 0  # samples of the clock
        self._hold_off = 0  # ticks that are left out still
        self._hold_off_ticks = audio_format.sample_rate_hz * HOLD_OFF_MS // 1000
        self._errors: list[ProtocolError] = []
        self.format_check = FormatCheck(audio_format.encoding, audio_format.num_channels)

    @property
    def buffered_ticks(self) -> int:
        """Whole ticks that were not read."""
        return len(self._bytes) // self._tick_bytes

    @property
    def end_ticks(self) -> int:
        """Position in source samples up to which audio came, gaps included."""
        return self.read_ticks + self.buffered_ticks

    @property
    def end_sample(self) -> int:
        """The same on the 16 kHz clock."""
        return self.to_clock(self.end_ticks)

    @property
    def is_of_16_bits(self) -> bool:
        """Whether every sample is a number of 16 bits: all but floats and what is resampled."""
        return self._format.encoding != "pcm_f32le" and not self.is_resampling

    @property
    def is_resampling(self) -> bool:
        """Whether audio comes out later than it goes in."""
        return not self._resampler.is_free

    def to_clock(self, source_samples: int) -> int:
        """Return the position on the 16 kHz clock of a source sample."""
        return to_clock(source_samples, self._format.sample_rate_hz)

    def to_source(self, sample: int) -> int:
        """Return the first source position that lies at ``sample`` of the 16 kHz clock or after."""
        return -(-sample * self._format.sample_rate_hz // SAMPLE_RATE_HZ)

    def receive(self, data: bytes, lost: Sequence[LostSpan] = ()) -> list[tuple[int, int, int]]:
        """Take bytes, any number.

        Args:
            lost: where channels have nothing, whatever ``data`` holds there.

        Returns:
            Channel, start and end on the 16 kHz clock of what is lost, of wanted channels.
        """
        spans: list[tuple[int, int, int]] = []
        for span in lost:
            if span.channel in self._columns:
                column, at = self._columns.index(span.channel), self.end_ticks
                start, end = at + span.start_tick, at + span.end_tick
                self._lost.append((column, start, end))
                spans.append((span.channel, self.to_clock(start), self.to_clock(end)))
                if self.is_resampling:
                    self._lost_output.append((column, *spans[-1][1:]))
        if self._is_shifted(data):
            self.drop_partial_tick()
        self._bytes += data
        return spans

    def add(self, data: bytes, fewer_than_ticks: int) -> bool:
        """Take bytes if so many ticks are not reached with them; return whether they were taken.

        False, too, where :meth:`receive` has to look at how samples are cut.
        """
        is_cut = len(self._bytes) % self._sample_bytes
        room_bytes = fewer_than_ticks * self._tick_bytes - len(self._bytes) - len(data)
        if is_cut or room_bytes <= 0:
            return False
        self._bytes += data
        if not len(data) % self._sample_bytes:
            self.inlet.open(room_bytes)
        return True

    def _is_shifted(self, data: bytes) -> bool:
        """Whether ``data`` begins with a sample, though one is incomplete.

        Bytes that are no audio, an odd number of them, would make noise of all that follows. A
        message that does complete the sample stays as it is, and so does one that is silent: the
        next one with sound decides.
        """
        missing = -len(self._bytes) % self._sample_bytes
        if not missing:
            return False
        whole = _wildness(data, self._format)
        # Half: noise is as wild either way, and speech a hundred times wilder where it is shifted.
        return whole is not None and 2 * whole < (_wildness(data[missing:], self._format) or 0.0)

    def drop_partial_tick(self) -> None:
        """Forget the bytes of a tick that did not come whole: the rest of it will not come."""
        del self._bytes[self.buffered_ticks * self._tick_bytes :]

    def read(self, max_ticks: int) -> list[FloatArray | NoAudio]:
        """Return what comes of up to ``max_ticks`` buffered ticks."""
        ticks = min(max_ticks, self.buffered_ticks)
        if ticks <= 0:
            return []
        num_bytes = ticks * self._tick_bytes
        data = bytes(self._bytes[:num_bytes])
        self.format_check.push(data)
        samples = decode(data, self._format)
        del self._bytes[:num_bytes]
        if not self._takes_all:
            samples = samples[:, self._columns]
        if self._lost:
            # Before the check for bad audio: lost bytes may be anything.
            _silence(samples, self.read_ticks, self._lost)
        # Integers and G.711 cannot be NaN, or beyond full scale.
        if self._format.encoding != "pcm_f32le":
            return self._audio(samples)
        return self._checked(samples)

    def flush(self) -> list[FloatArray | NoAudio]:
        """Read everything, and let what the resampler holds back come out."""
        # A partial tick stays: the next message may bring the rest of it.
        items = self.read(self.buffered_ticks)
        return items + self._block(self._resampler.finish())

    def gap(self, reason: GapReason, num_ticks: int) -> list[FloatArray | NoAudio]:
        """Flush, then let ``num_ticks`` pass for which there is no audio."""
        return self.flush() + self._no_audio(reason, num_ticks)

    def take_errors(self) -> list[ProtocolError]:
        """Return the errors since the last call; none of them ends the stream."""
        errors, self._errors = self._errors, []
        return errors

    def _audio(self, samples: FloatArray) -> list[FloatArray | NoAudio]:
        self.read_ticks += len(samples)
        return self._block(self._resampler.push(samples))

    def _no_audio(self, reason: GapReason, num_ticks: int) -> list[FloatArray | NoAudio]:
        before = self.read_ticks
        self.read_ticks += num_ticks
        self._resampler.begin(self.read_ticks)
        gap = NoAudio(reason, self.to_clock(self.read_ticks) - self.to_clock(before))
        self._returned += gap.num_samples
        return [gap]

    def _checked(self, samples: FloatArray) -> list[FloatArray | NoAudio]:
        """Cut out the ticks that are no audio, and the hold-off after them."""
        # In this sense, for NaN compares as False.
        bad = np.flatnonzero(~np.all(np.abs(samples) <= LARGEST_SAMPLE, axis=1))
        if not len(bad) and not self._hold_off:
            return self._audio(samples)
        items: list[FloatArray | NoAudio] = []
        at = 0
        for start, end in _spans(bad, self._hold_off, self._hold_off_ticks):
            if start > at:
                items += self._audio(samples[at:start])
            # A span that goes on from the last read began there, and was reported.
            if start or not self._hold_off:
                items += self._block(self._resampler.finish())
                self._errors.append(self._error())
            at = min(end, len(samples))
            items += self._no_audio("error", at - start)
            # The rest of the hold-off is left out of the next read.
            self._hold_off = end - at
        if at < len(samples):
            items += self._audio(samples[at:])
        return items

    def _error(self) -> ProtocolError:
        return ProtocolError(
            ErrorCode.BAD_AUDIO,
            "got samples that are NaN, infinite or far beyond full scale at"
            f" {self.read_ticks / self._format.sample_rate_hz:.3f} s, expected -1 to 1",
        )

    def _block(self, samples: FloatArray) -> list[FloatArray | NoAudio]:
        if not len(samples):
            return []
        if self._lost_output:
            # Again, for the filter lets the neighbours of lost audio ring into it.
            _silence(samples, self._returned, self._lost_output)
        self._returned += len(samples)
        return [np.ascontiguousarray(samples.T)]


def _wildness(data: bytes, audio_format: AudioFormat) -> float | None:
    """Return how little the bytes look like whole samples; None: too few to tell."""
    if len(data) < _MIN_EVIDENCE_BYTES:
        return None
    width, count = audio_format.bytes_per_sample, audio_format.num_channels
    data = data[: min(len(data), _MAX_EVIDENCE_BYTES) // width * width]
    if width == 2:
        samples = np.frombuffer(data, "<i2").astype(np.float32)
        # The size, too: a constant does not jump, shifted or not.
        return float(np.mean(np.abs(samples[count:] - samples[:-count])) + np.mean(np.abs(samples)))
    # A float cut elsewhere has a random exponent: most are far too large, or too small to be heard.
    samples = np.abs(np.frombuffer(data, "<f4"))
    with np.errstate(invalid="ignore"):
        is_likely = (samples == 0) | ((samples > _SMALLEST_LIKELY) & (samples < LARGEST_SAMPLE))
    return float(1 - np.mean(is_likely))


def _silence(samples: FloatArray, at: int, spans: _Spans) -> None:
    """Silence ``spans`` in ``(samples, channels)``, which begin at ``at``; forget what ended."""
    end = at + len(samples)
    # Spans come in order of time, but those of each message channel by channel.
    for _ in range(len(spans)):
        span = column, start, stop = spans.popleft()
        samples[max(start - at, 0) : max(stop - at, 0), column] = 0
        if stop > end:
            spans.append(span)


def _spans(bad: Collection[int], left: int, hold_off: int) -> list[tuple[int, int]]:
    """Return the spans of ticks to leave out; the last may reach past the end.

    Args:
        bad: indices of the bad ticks, increasing.
        left: ticks to leave out at the start, because of bad ones before.
        hold_off: good ticks to leave out after a bad one.
    """
    spans: list[tuple[int, int]] = [(0, left)] if left else []
    for tick in bad:
        index = int(tick)
        if spans and index < spans[-1][1]:
            spans[-1] = (spans[-1][0], index + 1 + hold_off)
        else:
            spans.append((index, index + 1 + hold_off))
    return spans
