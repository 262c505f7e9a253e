"""RTP (RFC 3550) of one media line: datagrams in, numbered and timed payloads out; without I/O.

What comes out is for :mod:`stream_server.tracks`, which orders the packets, waits for those that
are late, and names what never came. Here sequence numbers and timestamps are unwrapped, and what
only RTP can tell is told:

* **Silence that was not sent.** Where time passes between two packets of consecutive numbers, the
  sender had nothing to send: silence suppression, or an event in place of audio. It is silence and
  not a loss, and is filled in::

      number     1     2     3           4         nothing is missing
      timestamp  |--1--|--2--|--3--|     |--4--|   silence between 3 and 4

* **Events** (RFC 4733), i.e. keys, and comfort noise (RFC 3389), which says that silence follows,
  have numbers of their own among those of the audio.
* **Drift.** Each line's timestamps are a clock of their own, and say nothing of each other. What
  they share is this machine's clock: how fast each runs shows in the times of arrival, and the
  samples' times follow it, so that after an hour the two sides still lie as they were spoken.
* **Another source** (SSRC) after a transfer or a failover counts anew. It is believed at its
  second packet in order (RFC 3550, appendix A.1), and goes on where the time of arrival puts it,
  not before what the last one sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stream_server.rtp import RtpCodec
from stream_server.rtp.reports import Reception, is_control
from stream_server.tracks.drift import OffsetFilter

HEADER_BYTES = 12
MAX_SILENCE_S = 30
"""Longest silence that is filled in; more is a clock that was set anew."""
COMFORT_NOISE = 13
"""Payload type of noise to put in the place of silence (RFC 3551, section 6)."""
MAX_DRIFT_PPM = 1000
"""Drift that is followed; a clock is off by less, and what is more is not sent in real time."""
_PACKETS_BETWEEN_LOOKS = 100
_QUIET_MS = 60
"""Silence is made in pieces of so much at least."""
KEYS = "0123456789*#ABCD"
"""Of the events 0 to 15 (RFC 4733, section 3.2)."""

_WRAP_NUMBER, _WRAP_TIME = 1 << 16, 1 << 32


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One packet.

    Attributes:
        payload_type: 0 to 127.
        number: modulo 65536.
        timestamp: modulo 2 ** 32.
        source: SSRC.
        payload: without padding.
    """

    payload_type: int
    number: int
    timestamp: int
    source: int
    payload: bytes = field(repr=False)


def parse_packet(data: bytes) -> RtpPacket | None:
    """Return a packet (RFC 3550, section 5.1); None: it is none."""
    if len(data) < HEADER_BYTES or data[0] >> 6 != 2:
        return None
    if is_control(data):
        return None
    start = HEADER_BYTES + 4 * (data[0] & 15)
    if data[0] & 0x10:
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data)
    if data[0] & 0x20:
        end -= data[-1]
    if end < start:
        return None
    return RtpPacket(
        data[1] & 127,
        int.from_bytes(data[2:4], "big"),
        int.from_bytes(data[4:8], "big"),
        int.from_bytes(data[8:12], "big"),
        data[start:end],
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """What a packet holds, and its place.

    Attributes:
        silence: samples of silence that come first.
        payload: as it came; b"": no audio.
        at_tick: time of its first sample, in samples from the start of the call.
        number: counts the packets, without a wrap.
        key: that was pressed; "": none.
    """

    silence: int
    payload: bytes = field(repr=False)
    at_tick: int
    number: int
    key: str = field(default="", repr=False)


class RtpTrack:
    """The packets of one media line.

    Args:
        rate_hz: of the samples, a multiple of the codec's clock.
        samples_of: returns how many samples a payload holds; 0: it is damaged.
        event_type: payload type of events; None: it has none.
    """

    def __init__(
        self,
        codec: RtpCodec,
        rate_hz: int,
        samples_of: Callable[[bytes], int],
        event_type: int | None,
    ) -> None:
        self._rate_hz = rate_hz
        self._samples_of = samples_of
        self._codec = codec
        # The clock of G.722 is half the rate of its samples (RFC 3551, section 4.5.2).
        self._scale = rate_hz // codec.clock_hz
        self._event_type = event_type
        self.source: int | None = None  # SSRC of the packets that are heard
        self._candidate: tuple[RtpPacket, int] | None = None  # of another source, and when it came
        self._number = -1  # the highest, without a wrap
        self._number_shift = 0  # from the numbers of this source to those of the track
        self._timestamp = 0  # of the highest, without a wrap
        self._shift = 0  # from a timestamp to a tick
        self._end_tick = 0  # of what came last in order
        self._is_new = True  # the next packet begins a count
        self._arrivals = OffsetFilter(rate_hz, "arrival")
        self._drift_ppm = 0.0
        self._drifted = 0.0  # samples, of ``_shift`` since the count began
        self._num_observed = 0
        self._base = 0  # number of the first of this count
        self._received = 0  # since then
        self._transit = 0  # of the last packet, by both clocks, in samples
        self._jitter = 0.0
        self._is_quiet = False  # the last packet said that silence follows
        self._event_time: int | None = None
        self._event_length = 0
        self.malformed = 0
        """Datagrams that are no RTP, or not of what was agreed on."""

    @property
    def reception(self) -> Reception | None:
        """What came of the source; None: nothing did."""
        if self.source is None:
            return None
        return Reception(
            self.source,
            self._number,
            self._number - self._base + 1,
            self._received,
            round(self._jitter / self._scale),
        )

    def end_source(self, source: int) -> None:
        """Take the next source at once: this one has said that it is over."""
        if self.source == source:
            self.source, self._is_new = None, True

    def restart(self) -> None:
        """Take the next packet as the first of a count, after a pause."""
        self._is_new = True

    def change(
        self, codec: RtpCodec, samples_of: Callable[[bytes], int], event_type: int | None
    ) -> None:
        """Take over what another answer says of the line, at the same clock and rate."""
        self._codec, self._samples_of, self._event_type = codec, samples_of, event_type

    def put(self, data: bytes, now_tick: int) -> list[Timed]:
        """Take a datagram.

        Args:
            now_tick: when it came, in samples from the start of the call.
        """
        packet = parse_packet(data)
        if packet is None or packet.payload_type not in (
            self._codec.payload_type,
            self._event_type,
            COMFORT_NOISE,
        ):
            self.malformed += 1
            return []
        if packet.payload and packet.payload_type == self._codec.payload_type:
            if not self._samples_of(packet.payload):
                # Its number is missing now, so its time is lost.
                self.malformed += 1
                return []
        if self.source is None:
            self.source = packet.source
        before = self._candidate
        if packet.source == self.source:
            # It is alive, so the other one does not take its place: two that take turns would
            # make twice the audio that there is.
            self.malformed += before is not None
            self._candidate = None
            return [self._take(packet, now_tick)]
        # One stray packet changes nothing; a second that follows it does.
        self._candidate = packet, now_tick
        if (
            before is None
            or before[0].source != packet.source
            or (packet.number - before[0].number) % _WRAP_NUMBER != 1
        ):
            self.malformed += before is not None
            return []
        self.source, self._candidate, self._is_new = packet.source, None, True
        return [self._take(*before), self._take(packet, now_tick)]

    def _take(self, packet: RtpPacket, now_tick: int) -> Timed:
        if self._is_new:
            self._begin(packet, now_tick)
        self._received += 1
        step = _signed(packet.number - self._number, _WRAP_NUMBER)
        number = self._number + step
        timestamp = self._timestamp + _signed(packet.timestamp - self._timestamp, _WRAP_TIME)
        time = timestamp * self._scale
        if packet.payload_type == self._event_type:
            timed = self._event(packet, number, time, is_next=step == 1)
        else:
            is_noise = packet.payload_type == COMFORT_NOISE
            payload = b"" if is_noise else packet.payload
            timed = self._audio(payload, number, time, now_tick, step)
            if step > 0:
                self._is_quiet = is_noise
        if step > 0:
            self._number, self._timestamp = number, timestamp
        return timed

    def _begin(self, packet: RtpPacket, now_tick: int) -> None:
        """Begin a count, so that this packet is the next one."""
        self._is_new = False
        self._arrivals = OffsetFilter(self._rate_hz, "arrival")
        self._drifted = 0.0
        self._number_shift += self._number + 1 - packet.number
        self._number = packet.number - 1
        self._base, self._received, self._jitter = packet.number, 0, 0.0
        self._transit = now_tick - packet.timestamp * self._scale
        self._timestamp = packet.timestamp
        self._end_tick = max(self._end_tick, now_tick)
        self._shift = self._end_tick - packet.timestamp * self._scale
        if packet.payload_type == self._event_type:
            # The time of an event is its beginning.
            self._shift -= int.from_bytes(packet.payload[2:4], "big") * self._scale
        self._event_time = None
        self._is_quiet = False

    def _audio(self, payload: bytes, number: int, time: int, now_tick: int, step: int) -> Timed:
        length, silence = self._samples_of(payload) if payload else 0, 0
        if step > 0:
            self._observe(time, now_tick)
        tick = time + self._shift + round(self._drifted)
        if step == 1 and length:
            unsent = tick - self._end_tick
            if not -length < unsent <= MAX_SILENCE_S * self._rate_hz:
                # The numbers go on and the time does not: a clock that was set anew.
                tick = max(self._end_tick, now_tick)
                self._shift, self._drifted = tick - time, 0.0
                self._arrivals = OffsetFilter(self._rate_hz, "arrival")
            elif unsent >= length // 2:
                # Less is a coarse clock, which the track evens out.
                silence, tick = unsent, self._end_tick
        if step > 0 and length:
            self._end_tick = tick + silence + length
        return Timed(silence, payload, tick, number + self._number_shift)

    def quiet_until(self, tick: int) -> list[Timed]:
        """Return the silence that a sender of comfort noise stands for, up to a time.

        The other side's audio would otherwise wait for this one's, which does not come.
        """
        silence = tick - self._end_tick
        if not self._is_quiet or silence < self._rate_hz * _QUIET_MS // 1000:
            return []
        # In a number of its own, after which those that come go on.
        self._number_shift += 1
        at_tick, self._end_tick = self._end_tick, tick
        return [Timed(silence, b"", at_tick, self._number + self._number_shift)]

    def _observe(self, time: int, now_tick: int) -> None:
        """Compare the line's clock with this machine's, and follow it."""
        self._arrivals.add(time, now_tick - time)
        # RFC 3550, appendix A.8.
        self._jitter += (abs(now_tick - time - self._transit) - self._jitter) / 16
        self._transit = now_tick - time
        self._num_observed += 1
        if self._num_observed % _PACKETS_BETWEEN_LOOKS == 0:
            drift_ppm = self._arrivals.drift_ppm
            if drift_ppm is not None:
                self._drift_ppm = drift_ppm if abs(drift_ppm) <= MAX_DRIFT_PPM else 0.0
        self._drifted -= self._drift_ppm * 1e-6 * (time - self._timestamp * self._scale)

    def _event(self, packet: RtpPacket, number: int, time: int, *, is_next: bool) -> Timed:
        key, silence = "", 0
        if len(packet.payload) < 4:
            return Timed(0, b"", self._end_tick, number + self._number_shift)
        if self._event_time is None or time > self._event_time:
            self._event_time, self._event_length = time, 0
            key = KEYS[packet.payload[0]] if packet.payload[0] < len(KEYS) else ""
        tick = self._end_tick
        if time == self._event_time:
            # Up to the packet before: whether audio comes, too, is known of that time.
            unsent = time + self._shift + round(self._drifted) + self._event_length - tick
            if is_next and 0 < unsent <= MAX_SILENCE_S * self._rate_hz:
                silence = unsent
                self._end_tick += silence
            length = int.from_bytes(packet.payload[2:4], "big") * self._scale
            self._event_length = max(self._event_length, length)
        return Timed(silence, b"", tick, number + self._number_shift, key)


def _signed(difference: int, wrap: int) -> int:
    """Return a difference of two wrapping counts as the least step between them."""
    return (difference + wrap // 2) % wrap - wrap // 2
