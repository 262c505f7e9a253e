"""One channel: packets in, a contiguous run of audio and of lost time out.

A packet's **place** follows from the count of samples before it; its **time** is noisy and only
checks that. ::

    place   |--1--|--2--|           |--5--|--6--|        numbers 3 and 4 are missing, or
    time    |--1--|  |--2--|        |--5--||--6--|       the time of 5 is far off its place

What is far off is more than the *tolerance*: three quarters of a packet, 10 ms at least, for times
of the media; the whole wait for times of arrival, as a delay is nothing unusual there. A packet
whose number or time leaves a hole waits until what is missing comes, or ``wait`` of audio has come
since, on this channel or another. If every packet that came by then is as far off, it is a hole;
if one is in its place, it was noise. What is less far off, but lastingly, is drift: see
:mod:`~stream_server.tracks.track`.

**What makes no sense.** A hole is at most :data:`MAX_HOLE_S` long; a time further ahead is not
believed, and the packet follows the last at once. Times or numbers that lie back are those of late
packets and duplicates, which are dropped; when nothing else has come for :data:`MAX_LATE_S` of
audio, the count is taken up anew from there. Each of these is counted as a jump.

Drift made up for by single samples, put in or left out: a controlled slip.

The idea is that of ITU-T G.822, whose slips are whole frames. At most one sample a packet: at 50
packets a second of 8 kHz that makes up for 6250 parts in a million.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low

from stream_server.tracks.drift import OffsetFilter, TickSource
from stream_server.tracks.order import MAX_HELD_PACKETS, Order, Packet
from stream_server.tracks.stats import ChannelTrack
from stream_server.wire.audio_format import AudioFormat


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive audio, or time without.

    Attributes:
        num_samples: length.
        data: encoded samples; None: lost.
    """

    num_samples: int
    data: bytes | None


def take(runs: deque[Run], num_samples: int, sample_bytes: int) -> list[Run]:
    """Take the first ``num_samples`` out of ``runs``, which has as many."""
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
"""Offset from which on samples are put in or left out, until a third of it is left."""


class Slip:
    """Of one channel.

    Args:
        rate_hz: of the channel.
        sample_bytes: of a sample.
        source: of the packets' times.

    Attributes:
        offsets: what is known of drift.
        count: samples put in or left out.
    """

    def __init__(self, rate_hz: int, sample_bytes: int, source: TickSource) -> None:
        self.offsets = OffsetFilter(rate_hz, source)
        self.count = 0
        self._sample_bytes = sample_bytes
        self._band = DEAD_BAND_MS * rate_hz / 1000
        self._balance = 0  # samples put in, less those left out
        self._is_active = False

    @property
    def off(self) -> float:
        """How far times are believed to be from places, in samples."""
        return 0.0 if self.offsets.offset is None else self.offsets.offset - self._balance

    def observe(self, position: int, off: int) -> None:
        """Take how far a packet's time is from its place."""
        self.offsets.add(position, off + self._balance)

    def apply(self, payload: bytes) -> bytes:
        """Return ``payload``, a sample longer or shorter where the channel is off."""
        off = self.off
        self._is_active = abs(off) > (self._band / 3 if self._is_active else self._band)
        if not self._is_active or len(payload) <= self._sample_bytes:
            return payload
        self.count += 1
        if off > 0:
            self._balance += 1
            return payload + payload[-self._sample_bytes :]
        self._balance -= 1
        return payload[: -self._sample_bytes]


MAX_HOLE_S = 300
"""Longest hole that one packet's time is believed."""
MAX_LATE_S = 1
"""Audio that comes too late without any in between before the channel is taken up where it is."""

_MIN_TOLERANCE_MS = 10
_MAX_LOST_SPANS = 32


class Track:
    """See the module's text.

    Args:
        audio_format: of the stream; its channels are of no interest here.
        wait_samples: audio that comes before something missing is given up.
        source: of the packets' times.

    Attributes:
        position: where the next packet belongs; None: nothing was placed yet.
        filled: where audio and lost time end; None: nothing is decided yet.
        latest_start: where the packet placed last begins.
    """

    def __init__(self, audio_format: AudioFormat, wait_samples: int, source: TickSource) -> None:
        self.position: int | None = None
        self.filled: int | None = None
        self.latest_start: int | None = None
        self._runs: deque[Run] = deque()  # what is before ``filled`` and was not taken yet
        self._rate_hz = audio_format.sample_rate_hz
        self._sample_bytes = audio_format.bytes_per_sample
        self._wait = wait_samples
        self._is_arrival = source == "arrival"
        self._order = Order(by_time=source == "media")
        self._slip = Slip(self._rate_hz, self._sample_bytes, source)
        self._beside: int | None = None  # where other channels are
        self._shift = 0  # from the platform's times to positions
        self._usual = 0  # samples of a packet
        self._late_samples = 0  # in a row
        self._lost_spans: deque[range] = deque(maxlen=_MAX_LOST_SPANS)
        self._packets = self._received = self._lost_samples = 0
        self._late = self._jumps = self._lost_by_time = 0

    @property
    def start(self) -> int | None:
        """Where what was not taken yet begins; None: nothing is decided yet."""
        if self.filled is None:
            return None
        return self.filled - sum(run.num_samples for run in self._runs)

    @property
    def is_waiting(self) -> bool:
        """Whether packets are held that cannot be placed yet."""
        return bool(self._order.held)

    @property
    def stats(self) -> ChannelTrack:
        """What became of the packets so far."""
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
        self, payload: bytes, at_tick: int | None, number: int | None, beside: int | None
    ) -> None:
        """Take a packet.

        Args:
            payload: whole samples.
            at_tick: its time.
            number: in the channel.
            beside: where other channels are, for a packet whose place nothing else tells; None:
                nowhere yet.
        """
        self._beside = beside
        num_samples = len(payload) // self._sample_bytes
        self._packets += 1
        self._received += num_samples
        packet = Packet(payload, num_samples, at_tick, 0)
        if self._usual == 0:
            self._usual = num_samples
        if self.position is None and not self.is_waiting:
            self._begin(packet)
        if number is None and self._is_old(packet):
            return
        if self._order.put(packet, number):
            while self.is_waiting:
                self._resolve()
            self._order.restart(packet)
        self._release()
        while self.is_waiting and (
            self._order.held_samples >= self._wait or len(self._order.held) >= MAX_HELD_PACKETS
        ):
            self._resolve()
            self._release()

    def force(self, limit: int) -> None:
        """Wait no more for anything before ``limit``: what is missing there is lost."""
        if self.position is None:
            self._beside = limit
        while self.is_waiting and (self.position is None or self.position < limit):
            self._resolve()
            self._release()
        self.fill(limit)

    def flush(self, beside: int | None) -> None:
        """Place everything that is held; ``beside`` is that of :meth:`put`."""
        self._beside = beside
        while self.is_waiting:
            self._resolve()
            self._release()

    def begin(self, origin: int) -> None:
        """Let the clock begin at ``origin``, which is not after any packet placed so far."""
        if self.filled is None:
            self.filled = origin
            return
        start = self.start
        if start is not None and start > origin:
            self._runs.appendleft(Run(start - origin, None))
            self._lost_samples += start - origin

    def take(self, num_samples: int) -> list[Run]:
        """Take that much of what is before ``filled``."""
        return take(self._runs, num_samples, self._sample_bytes)

    def fill(self, end: int) -> None:
        """Let everything up to ``end`` that is not there be lost."""
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
            known = [tick for tick in (self._beside, self.filled) if tick is not None]
            self.position = max(known, default=0)
        elif not self._is_arrival:
            self._begin_at(packet.at_tick)
        # Of times of arrival the first may be delayed more than others: it waits for some.

    def _begin_at(self, position: int) -> None:
        self.position = position
        beside = self._beside
        if beside is not None and abs(position - beside) > MAX_HOLE_S * self._rate_hz:
            self._take_up(beside)

    def _is_old(self, packet: Packet) -> bool:
        """Whether the time of a packet without a number says that it is late or came already."""
        if self._is_arrival or packet.at_tick is None or self.position is None:
            return False
        start = packet.at_tick + self._shift
        if start - self.position > -self._tolerance(packet.num_samples):
            return False
        self._late_samples += packet.num_samples
        if self._late_samples > MAX_LATE_S * self._rate_hz:
            self._late_samples = 0
            self._jumps += 1
            self.flush(self._beside)
            self._shift += self.position - start
            return False
        centre = start + packet.num_samples // 2
        if any(centre in span for span in self._lost_spans):
            self._late += 1
        else:
            self._order.duplicate += 1
        return True

    def _release(self) -> None:
        """Place what is in its place."""
        held = self._order.held
        while held and self.position is not None:
            in_place = self._num_in_place()
            if in_place == 0:
                return
            for _ in range(in_place):
                self._order.give_up_missing(are_lost=False)
                self._place(self._order.pop())

    def _num_in_place(self) -> int:
        """Return how many of the packets held can be placed without a hole before them."""
        missing, tolerance = self._order.num_missing, self._tolerance(self._usual)
        assert self.position is not None, "there is no place before the first"
        if missing:
            if self._is_arrival:
                return 0
            tolerance = self._usual // 4
        for index, off in enumerate(self._deviations(self.position)):
            if off is None:
                # Without a time there is the number only.
                return 0 if missing else index + 1
            if off <= tolerance:
                return index + 1
            if missing:
                return 0
        return 0

    def _deviations(self, position: int) -> list[int | None]:
        """Return how far times are off, of the packets held up to the next number missing."""
        off: list[int | None] = []
        number = self._order.held[0].number
        for packet in self._order.held:
            if packet.number not in (number, 0):
                break
            off.append(None if packet.at_tick is None else packet.at_tick + self._shift - position)
            position += packet.num_samples
            number = packet.number + 1
        return off

    def _resolve(self) -> None:
        """Wait no more for what is missing before the first packet held: make the hole."""
        if self.position is None:
            # Times of arrival: the packet that was delayed least says where the first belongs.
            self._begin_at(min(off for off in self._deviations(0) if off is not None))
            return
        missing = self._order.num_missing
        hole = missing * self._usual
        known = [off for off in self._deviations(self.position) if off is not None]
        if known:
            off = min(known) if self._is_arrival else median_low(known)
            if self._is_arrival and known[0] - known[-1] > self._order.held_samples // 2:
                # What was delayed comes all at once: the delay shrinks, a hole would stay.
                off = hole
            if abs(off - hole) > self._tolerance(self._usual):
                hole = self._whole_packets(max(0, off))
        if hole > MAX_HOLE_S * self._rate_hz:
            self._jumps += 1
            hole = 0
            if known:
                self._shift -= known[0]
        if not missing and hole:
            self._lost_by_time += max(1, round(hole / max(self._usual, 1)))
        self._order.give_up_missing(are_lost=hole > 0)
        self.position += hole
        self._place(self._order.pop())

    def _whole_packets(self, hole: int) -> int:
        """Return ``hole`` without its noise, where it is about a number of packets long."""
        if self._is_arrival:
            return hole
        usual = max(self._usual, 1)
        whole = round(hole / usual) * usual
        return whole if abs(hole - whole) * 4 <= usual else hole

    def _tolerance(self, num_samples: int) -> int:
        if self._is_arrival:
            return self._wait
        least = _MIN_TOLERANCE_MS * self._rate_hz // 1000
        return min(max(num_samples * 3 // 4, least), max(self._wait, least))

    # -- place ------------------------------------------------------------------------------------

    def _place(self, packet: Packet) -> None:
        assert self.position is not None, "there is no place before the first"
        has_time = packet.at_tick is not None
        filled = self.position if self.filled is None else self.filled
        if self.position + packet.num_samples <= filled and packet.num_samples:
            self._late_samples += packet.num_samples
            patience = MAX_LATE_S * self._rate_hz if has_time else self._wait
            if self._late_samples <= patience:
                self._late += 1
                self._observe(packet)
                self.position += packet.num_samples
                return
            self._take_up(filled if self._beside is None else max(self._beside, filled))
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
        cut = (self.filled - self.position) * self._sample_bytes
        self.position += len(data) // self._sample_bytes
        if len(data) > cut:
            data = data[cut:] if cut else data
            self._runs.append(Run(len(data) // self._sample_bytes, data))
            self.filled = self.position
        self._usual = packet.num_samples or self._usual

    def _observe(self, packet: Packet) -> None:
        if packet.at_tick is not None and self.position is not None:
            off = packet.at_tick + self._shift - self.position
            self._slip.observe(self.position, off)

    def _check_times(self) -> None:
        """Read times differently where they lastingly contradict the numbers.

        Single samples would take too long for it. Times of arrival are late, not wrong.
        """
        off = round(self._slip.off)
        if abs(off) > self._wait and not self._is_arrival:
            self._jumps += 1
            self._shift -= off
            self._slip.offsets.shift(-off)

    def _take_up(self, position: int) -> None:
        """Go on at ``position``, whatever times say: they are read differently from now on."""
        assert self.position is not None, "there is nothing to take up before the first"
        self._jumps += 1
        self._shift += position - self.position
        self.position = position
