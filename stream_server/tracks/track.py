"""One channel: packets in, contiguous runs of audio and of lost time out.

A packet's **place** follows from the count of samples before it; its **time** is noisy and only
checks that. ::

    place   |--1--|--2--|           |--5--|--6--|        numbers 3 and 4 are missing, or
    time    |--1--|  |--2--|        |--5--||--6--|       the time of 5 is far from its place

Far means more than the *tolerance*: three quarters of a packet, at least 10 ms, for times of the
media; the whole wait for times of arrival, where delays are usual. A packet whose number or time
leaves a hole waits until the missing packets come, or until ``wait`` of audio has come, on this
channel or another. If by then every packet that came is as far off, it is a hole; if one of them is
in its place, it was noise. A smaller but lasting deviation is drift, see :mod:`.drift`: it is
corrected by controlled slips of single samples.

**What makes no sense** is bounded. A hole is at most :data:`MAX_HOLE_S` long; a time further ahead
is ignored, and the packet follows the last at once. Times or numbers that lie back are those of
late packets and duplicates, which are dropped; when nothing else has come for :data:`MAX_LATE_S` of
audio, the channel resumes from there with new times. Each of these is counted as a jump.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol, runtime_checkable

from stream_server.tracks.drift import OffsetFilter, TickSource
from stream_server.tracks.order import MAX_HELD_PACKETS, Order, Packet
from stream_server.wire.audio_format import AudioFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTrack:
    """The packets of one channel.

    Attributes:
        packets: that came, whatever became of them.
        lost: that never came, as far as numbers or times tell.
        late: that came when their time was given up already, and were dropped.
        duplicate: that came again, and were dropped.
        reordered: that came after a later one, in time.
        jumps: times the packets' times or numbers made no sense and were taken up anew.
        slips: single samples put in or left out against drift.
        received_ms: audio of the packets.
        lost_ms: time of the channel without audio, for whatever reason: what the
            :class:`~stream_server.wire.dialect.LostSpan` of the channel add up to, also before
            its first packet and after its last.
        drift_ppm: how much faster the channel's samples come than its times say; negative: slower.
            None: it had no times, or not for long enough.
    """

    packets: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    jumps: int = 0
    slips: int = 0
    received_ms: int = 0
    lost_ms: int = 0
    drift_ppm: float | None = None

    @property
    def lost_share(self) -> float:
        """Share of the packets sent that never came or came too late, 0 to 1."""
        # Sent are those that came once and those that never came; late ones are among the former.
        return (self.lost + self.late) / max(self.packets - self.duplicate + self.lost, 1)


@dataclass(frozen=True, slots=True)
class TrackStats:
    """The packets of a stream."""

    channels: tuple[ChannelTrack, ...]

    @property
    def packets(self) -> int:
        """Packets of all channels that came."""
        return sum(channel.packets for channel in self.channels)

    @property
    def lost(self) -> int:
        """Packets of all channels that never came."""
        return sum(channel.lost for channel in self.channels)


@runtime_checkable
class ReportsTracks(Protocol):
    """A dialect whose audio comes in packets; others need not have this.

    While the stream runs, warnings follow from what it says; at its end metrics and a line of the
    log do.
    """

    @property
    def tracks(self) -> TrackStats | None:
        """What became of the packets so far; None: no audio is expected yet."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive audio, or time without.

    Attributes:
        data: encoded samples; None: lost.
    """

    num_samples: int
    data: bytes | None


def take(runs: deque[Run], num_samples: int, sample_bytes: int) -> list[Run]:
    """Remove and return the first ``num_samples`` of ``runs``, which must hold as many."""
    taken: list[Run] = []
    while num_samples > 0:
        run = runs.popleft()
        if run.num_samples > num_samples:
            cut = num_samples * sample_bytes
            head, rest = (None, None) if run.data is None else (run.data[:cut], run.data[cut:])
            runs.appendleft(Run(run.num_samples - num_samples, rest))
            run = Run(num_samples, head)
        taken.append(run)
        num_samples -= run.num_samples
    return taken


DEAD_BAND_MS = 3
"""Offset at which slips begin; they end when a third of it is left."""


class Slip:
    """Corrects the drift of one channel by controlled slips.

    A controlled slip (ITU-T G.822) repeats or drops audio in a known place; here it
    is one sample a packet. At 50 packets a second of 8 kHz that corrects up to 6250 parts in a
    million; a quartz is off by less than 100.
    """

    def __init__(self, rate_hz: int, sample_bytes: int, source: TickSource) -> None:
        self.offsets = OffsetFilter(rate_hz, source)
        self.count = 0
        self._sample_bytes = sample_bytes
        self._band = DEAD_BAND_MS * rate_hz / 1000
        self._balance = 0  # samples inserted, less those deleted
        self._is_active = False

    @property
    def off(self) -> float:
        """Estimate of how far times are from places, in samples."""
        return 0.0 if self.offsets.offset is None else self.offsets.offset - self._balance

    def observe(self, position: int, off: int) -> None:
        """Add a packet whose time is ``off`` samples from its place."""
        # The filter must see the drift itself, so the corrections made so far are taken out.
        self.offsets.add(position, off + self._balance)

    def apply(self, payload: bytes) -> bytes:
        """Return ``payload``, a sample longer or shorter while the channel is off."""
        off = self.off
        # Hysteresis: between the two limits it goes on as it was, or noise would toggle it.
        self._is_active = abs(off) > (self._band / 3 if self._is_active else self._band)
        if not self._is_active or len(payload) <= self._sample_bytes:
            return payload
        self.count += 1
        if off > 0:
            self._balance += 1
            # Repeating a sample keeps the waveform continuous, and needs no decoding of G.711.
            return payload + payload[-self._sample_bytes :]
        self._balance -= 1
        return payload[: -self._sample_bytes]


MAX_HOLE_S = 300
"""Longest hole that the time of a packet may open."""
MAX_LATE_S = 1
"""Audio that comes too late, with none in time between, before the channel resumes where it is."""

_MIN_TOLERANCE_MS = 10
# Holes that late packets are told from duplicates by.
_MAX_LOST_SPANS = 32


class Track:
    """The packets of one channel. All positions count samples of the channel.

    Args:
        audio_format: of the stream; its number of channels is not used.
        wait_samples: audio that may come before something missing is given up.

    Attributes:
        position: of the next packet; None until one was placed.
        filled: end of the audio and lost time so far; None until the clock begins.
        latest_start: position of the packet that was placed last.
    """

    def __init__(self, audio_format: AudioFormat, wait_samples: int, source: TickSource) -> None:
        self.position: int | None = None
        self.filled: int | None = None
        self.latest_start: int | None = None
        self._runs: deque[Run] = deque()  # before ``filled``, not taken yet
        self._rate_hz = audio_format.sample_rate_hz
        self._sample_bytes = audio_format.bytes_per_sample
        self._wait = wait_samples
        self._is_arrival = source == "arrival"
        self._order = Order(by_time=source == "media")
        self._slip = Slip(self._rate_hz, self._sample_bytes, source)
        self._others_at: int | None = None  # position of the other channels
        self._time_shift = 0  # a packet's position is its time plus this
        self._packet_samples = 0  # of the last packet, which the missing ones are taken to have
        self._late_samples = 0  # late in a row
        self._lost_spans: deque[range] = deque(maxlen=_MAX_LOST_SPANS)
        self._packets = self._received = self._lost_samples = 0
        self._late = self._jumps = self._lost_by_time = 0

    @property
    def start(self) -> int | None:
        """Start of what was not taken yet; None until the clock begins."""
        if self.filled is None:
            return None
        return self.filled - sum(run.num_samples for run in self._runs)

    @property
    def is_waiting(self) -> bool:
        """Whether packets are held that cannot be placed yet."""
        return bool(self._order.held)

    @property
    def stats(self) -> ChannelTrack:
        order, rate_khz = self._order, self._rate_hz / 1000
        return ChannelTrack(
            packets=self._packets,
            lost=order.lost + self._lost_by_time,
            late=order.late + self._late,
            duplicate=order.duplicate,
            reordered=order.reordered,
            jumps=self._jumps + order.restarts,
            slips=self._slip.count,
            received_ms=round(self._received / rate_khz),
            lost_ms=round(self._lost_samples / rate_khz),
            drift_ppm=self._slip.offsets.drift_ppm,
        )

    def put(
        self, payload: bytes, at_tick: int | None, number: int | None, others_at: int | None
    ) -> None:
        """Take a packet.

        Args:
            payload: whole samples.
            at_tick: its time, in samples.
            others_at: position of the other channels, for a packet that has neither time nor
                number to place it by; None before they have one.
        """
        self._others_at = others_at
        num_samples = len(payload) // self._sample_bytes
        self._packets += 1
        self._received += num_samples
        packet = Packet(payload, num_samples, at_tick, 0)
        if self._packet_samples == 0:
            self._packet_samples = num_samples
        if self.position is None and not self.is_waiting:
            self._begin(packet)
        if number is None and self._is_old(packet):
            return
        if self._is_in_place(packet) and self._order.pass_next(number):
            # As nearly all packets: nothing is missing before it, so it need not be held at all.
            packet.number = number or 0
            self._place(packet)
            return
        if self._order.put(packet, number):
            # A new count of numbers: they do not compare with those held, which are placed first.
            while self.is_waiting:
                self._resolve()
            self._order.restart(packet)
        self._release()
        while self.is_waiting and (
            self._order.held_samples >= self._wait or len(self._order.held) >= MAX_HELD_PACKETS
        ):
            self._resolve()
            self._release()

    def reaches(self, limit: int) -> bool:
        """Whether nothing is missing before ``limit``, so that :meth:`force` would do nothing."""
        if self.position is None or self.filled is None or self.filled < limit:
            return False
        return self.position >= limit or not self._order.held

    def force(self, limit: int) -> None:
        """Give up what is missing before ``limit``: it is lost."""
        if self.position is None:
            self._others_at = limit
        while self.is_waiting and (self.position is None or self.position < limit):
            self._resolve()
            self._release()
        self.fill(limit)

    def flush(self, others_at: int | None) -> None:
        """Place everything that is held; ``others_at`` as in :meth:`put`."""
        self._others_at = others_at
        while self.is_waiting:
            self._resolve()
            self._release()

    def begin(self, origin: int) -> None:
        if self.filled is None:
            self.filled = origin
            return
        start = self.start
        if start is not None and start > origin:
            self._runs.appendleft(Run(start - origin, None))
            self._lost_samples += start - origin

    def take(self, num_samples: int) -> list[Run]:
        """Remove and return runs of what is before ``filled``."""
        return take(self._runs, num_samples, self._sample_bytes)

    def fill(self, end: int) -> None:
        """Make everything from ``filled`` to ``end`` lost."""
        if self.filled is None or end <= self.filled:
            return
        length = end - self.filled
        self._lost_spans.append(range(self.filled, end))
        self._lost_samples += length
        self._runs.append(Run(length, None))
        self.filled = end

    # -- order ------------------------------------------------------------------------------------

    def _begin(self, packet: Packet) -> None:
        if packet.at_tick is None:
            known = [tick for tick in (self._others_at, self.filled) if tick is not None]
            self.position = max(known, default=0)
        elif not self._is_arrival:
            self._begin_at(packet.at_tick)
        # The first time of arrival may be delayed more than others, so the packet is held and
        # _resolve() begins with the least delayed of several.

    def _begin_at(self, position: int) -> None:
        self.position = position
        others_at = self._others_at
        # Some platforms count each track from an origin of its own.
        if others_at is not None and abs(position - others_at) > MAX_HOLE_S * self._rate_hz:
            self._resume_at(others_at)

    def _is_old(self, packet: Packet) -> bool:
        """Whether the time of a packet without a number shows that it is late or a duplicate."""
        # A connection delivers in order (TCP), so by arrival nothing is ever old.
        if self._is_arrival or packet.at_tick is None or self.position is None:
            return False
        start = packet.at_tick + self._time_shift
        if start - self.position > -self._tolerance(packet.num_samples):
            return False
        self._late_samples += packet.num_samples
        if self._late_samples > MAX_LATE_S * self._rate_hz:
            # A second of nothing but old packets is a clock that was set back.
            self._late_samples = 0
            self._jumps += 1
            self.flush(self._others_at)
            self._time_shift += self.position - start
            return False
        # In a hole it was missing. Its centre counts: noise moves its ends into the neighbours.
        centre = start + packet.num_samples // 2
        if any(centre in span for span in self._lost_spans):
            self._late += 1
        else:
            self._order.duplicate += 1
        return True

    def _release(self) -> None:
        """Place the held packets that leave no hole."""
        held = self._order.held
        while held and self.position is not None:
            in_place = self._num_in_place()
            if in_place == 0:
                return
            for _ in range(in_place):
                self._order.give_up_missing(are_lost=False)
                self._place(self._order.pop())

    def _is_in_place(self, packet: Packet) -> bool:
        """Whether a packet, if it is the next one, follows the last: none is held before it."""
        if self._order.held or self.position is None:
            return False
        if packet.at_tick is None:
            return True
        off = packet.at_tick + self._time_shift - self.position
        return off <= self._tolerance(self._packet_samples)

    def _num_in_place(self) -> int:
        """Return how many of the packets held can be placed without a hole before them."""
        missing, tolerance = self._order.num_missing, self._tolerance(self._packet_samples)
        assert self.position is not None, "no packet has a place before the first"
        if missing:
            # Numbers say that something is missing; only a time that shows the opposite, closely,
            # outweighs them. Times of arrival never do.
            if self._is_arrival:
                return 0
            tolerance = self._packet_samples // 4
        for index, off in enumerate(self._deviations(self.position)):
            if off is None:
                # Without a time the number decides.
                return 0 if missing else index + 1
            if off <= tolerance:
                return index + 1
            if missing:
                return 0
        return 0

    def _deviations(self, position: int) -> list[int | None]:
        """Return how far times are off, for the packets held up to the next missing number."""
        off: list[int | None] = []
        number = self._order.held[0].number
        for packet in self._order.held:
            # 0: a channel without numbers, whose packets are consecutive.
            if packet.number not in (number, 0):
                break
            off.append(
                None if packet.at_tick is None else packet.at_tick + self._time_shift - position
            )
            position += packet.num_samples
            number = packet.number + 1
        return off

    def _resolve(self) -> None:
        """Give up what is missing before the first packet held, and decide how long that is."""
        if self.position is None:
            # Times of arrival: the packet that was delayed least shows where the first belongs.
            self._begin_at(min(off for off in self._deviations(0) if off is not None))
            return
        missing = self._order.num_missing
        hole = missing * self._packet_samples
        known = [off for off in self._deviations(self.position) if off is not None]
        if known:
            # Media times err to both sides, arrival to one: a network only delays.
            off = min(known) if self._is_arrival else median_low(known)
            if self._is_arrival and known[0] - known[-1] > self._order.held_samples // 2:
                # A burst after a stall: the delay shrinks with every packet. After a hole it stays.
                off = hole
            if abs(off - hole) > self._tolerance(self._packet_samples):
                hole = self._whole_packets(max(0, off))
        if hole > MAX_HOLE_S * self._rate_hz:
            # Times are read anew instead, so that this packet follows the last.
            self._jumps += 1
            hole = 0
            if known:
                self._time_shift -= known[0]
        if not missing and hole:
            self._lost_by_time += max(1, round(hole / max(self._packet_samples, 1)))
        self._order.give_up_missing(are_lost=hole > 0)
        self.position += hole
        self._place(self._order.pop())

    def _whole_packets(self, hole: int) -> int:
        """Return ``hole`` rounded to whole packets if it is within a quarter of one."""
        if self._is_arrival:
            return hole
        usual = max(self._packet_samples, 1)
        whole = round(hole / usual) * usual
        return whole if abs(hole - whole) * 4 <= usual else hole

    def _tolerance(self, num_samples: int) -> int:
        """Return how far a packet's time may be from its place, in samples."""
        if self._is_arrival:
            return self._wait
        least = _MIN_TOLERANCE_MS * self._rate_hz // 1000
        return min(max(num_samples * 3 // 4, least), max(self._wait, least))

    # -- place ------------------------------------------------------------------------------------

    def _place(self, packet: Packet) -> None:
        assert self.position is not None, "no packet has a place before the first"
        has_time = packet.at_tick is not None
        filled = self.position if self.filled is None else self.filled
        if self.position + packet.num_samples <= filled and packet.num_samples:
            # All of it lies in time that was given up, by force() or by another channel's lead.
            self._late_samples += packet.num_samples
            # Without times a channel that fell behind never catches up, so it resumes sooner.
            patience = MAX_LATE_S * self._rate_hz if has_time else self._wait
            if self._late_samples <= patience:
                self._late += 1
                self._observe(packet)
                self.position += packet.num_samples
                return
            self._resume_at(filled if self._others_at is None else max(self._others_at, filled))
        self._late_samples = 0
        self._observe(packet)
        if self.filled is None:
            self.filled = self.position
        self.fill(self.position)
        self.latest_start = self.position
        data = packet.payload
        if has_time:
            self._check_times()
            data = self._slip.apply(data)
        # The part before ``filled`` came too late; the rest still fits.
        cut = (self.filled - self.position) * self._sample_bytes
        self.position += len(data) // self._sample_bytes
        if len(data) > cut:
            data = data[cut:] if cut else data
            self._runs.append(Run(len(data) // self._sample_bytes, data))
            self.filled = self.position
        self._packet_samples = packet.num_samples or self._packet_samples

    def _observe(self, packet: Packet) -> None:
        if packet.at_tick is not None and self.position is not None:
            off = packet.at_tick + self._time_shift - self.position
            self._slip.observe(self.position, off)

    def _check_times(self) -> None:
        """Shift the times if they lastingly contradict the count of samples.

        By slips that would take minutes. Times of arrival are late, not wrong, and are kept.
        """
        off = round(self._slip.off)
        if abs(off) > self._wait and not self._is_arrival:
            self._jumps += 1
            self._time_shift -= off
            self._slip.offsets.shift(-off)

    def _resume_at(self, position: int) -> None:
        """Continue at ``position`` and shift all later times to agree with it."""
        assert self.position is not None, "nothing to resume before the first packet"
        self._jumps += 1
        self._time_shift += position - self.position
        self.position = position
