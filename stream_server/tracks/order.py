"""The packets of one channel that are not placed yet, in the order they were sent: a jitter buffer.

How numbers are judged follows RFC 3550, appendix A.1, with one difference: numbers here do not wrap
around, so a number far off is a new count and not the next cycle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MAX_NUMBERS_AHEAD = 3000
"""Numbers that may be missing in a row (MAX_DROPOUT); a greater jump is a new count, if the next
packet agrees."""
MAX_NUMBERS_BEHIND = 100
"""Numbers that a late packet may be behind (MAX_MISORDER); more is a new count, if the next packet
agrees."""
MAX_HELD_PACKETS = 256
"""Packets that may wait for an earlier one, however little audio they hold."""

# Runs of numbers given up that are remembered, to tell a late packet from a duplicate.
_MAX_MISSING_SPANS = 64


@dataclass(slots=True)
class Packet:
    """One packet.

    Attributes:
        payload: whole samples.
        at_tick: its time, in samples, by the platform or of its arrival.
        number: in its channel; 0 in a channel without numbers.
    """

    payload: bytes
    num_samples: int
    at_tick: int | None
    number: int


class Order:
    """Orders packets by number, or by time where there are no numbers.

    The first packet decides whether a channel has numbers. A later packet without one is taken to
    follow the last.

    Args:
        by_time: order packets without numbers by their times.

    Attributes:
        next_number: of the packet to be placed next.
        late, duplicate, reordered, lost, restarts: counts of packets, and of new counts.
    """

    def __init__(self, *, by_time: bool) -> None:
        self.held: list[Packet] = []
        self.held_samples = 0
        self.next_number = 0
        self.late = self.duplicate = self.reordered = self.lost = self.restarts = 0
        self._by_time = by_time
        self._is_numbered: bool | None = None
        self._highest = 0
        self._new_count: int | None = None  # the number that would confirm a new count
        self._missing: deque[range] = deque(maxlen=_MAX_MISSING_SPANS)

    @property
    def num_missing(self) -> int:
        """How many numbers are missing before the first packet held."""
        return self.held[0].number - self.next_number if self._is_numbered else 0

    def put(self, packet: Packet, number: int | None) -> bool:
        """Hold a packet; return whether its number begins a new count.

        In that case it is not held: the caller places what is held and calls :meth:`restart`. A
        late packet or a duplicate is counted instead.
        """
        if self._is_numbered is None:
            self._is_numbered = number is not None
            self.next_number = number or 0
            self._highest = self.next_number - 1
        if not self._is_numbered:
            self._insert_by_time(packet)
            return False
        packet.number = self._highest + 1 if number is None else number
        ahead = packet.number - self.next_number
        begins_anew = False
        if not -MAX_NUMBERS_BEHIND <= ahead <= MAX_NUMBERS_AHEAD:
            if packet.number != self._new_count:
                # One stray number changes nothing; a second that follows it does (bad_seq of RFC
                # 3550). The first of the two is dropped.
                self._new_count = packet.number + 1
                self.late += 1
                return False
            begins_anew, ahead = True, 0
            self.restarts += 1
        self._new_count = None
        if ahead < 0:
            self._count_old(packet.number)
        elif begins_anew:
            # Numbers of two counts do not compare, so nothing may be held across them.
            self._highest = packet.number
            self._missing.clear()
            return True
        else:
            self._insert_by_number(packet)
        return False

    def pass_next(self, number: int | None) -> bool:
        """Count the packet with ``number`` as placed; False: it is not the one expected next.

        Only while none is held: it does what :meth:`put` and :meth:`pop` would do.
        """
        if number is None or not self._is_numbered or number != self.next_number:
            return False
        if number <= self._highest:
            return False
        self._highest, self.next_number, self._new_count = number, number + 1, None
        return True

    def restart(self, packet: Packet) -> None:
        """Hold the first packet of a new count; nothing else may be held."""
        self.next_number = packet.number
        self._hold(0, packet)

    def pop(self) -> Packet:
        """Remove and return the first packet, whatever is missing before it."""
        packet = self.held.pop(0)
        self.held_samples -= packet.num_samples
        self.next_number = packet.number + 1
        return packet

    def give_up_missing(self, *, are_lost: bool) -> None:
        """Give up the packets missing before the first one held.

        Args:
            are_lost: False if the times show that nothing is missing, whatever the numbers say.
        """
        if not self.num_missing:
            return
        if are_lost:
            self.lost += self.num_missing
            self._missing.append(range(self.next_number, self.held[0].number))
        self.next_number = self.held[0].number

    def _count_old(self, number: int) -> None:
        for index, span in enumerate(self._missing):
            if number in span:
                self.late += 1
                self.lost -= 1
                # A second copy of it is a duplicate, so its number leaves the span.
                del self._missing[index]
                self._missing.extend(
                    part
                    for part in (range(span.start, number), range(number + 1, span.stop))
                    if part
                )
                return
        self.duplicate += 1

    def _insert_by_number(self, packet: Packet) -> None:
        if packet.number > self._highest:
            self._highest = packet.number
            self._hold(len(self.held), packet)
            return
        # From the end: a late packet is rarely late by more than a few.
        at = len(self.held)
        while at and self.held[at - 1].number >= packet.number:
            at -= 1
        if at < len(self.held) and self.held[at].number == packet.number:
            self.duplicate += 1
            return
        self.reordered += 1
        self._hold(at, packet)

    def _insert_by_time(self, packet: Packet) -> None:
        at = len(self.held)
        if self._by_time and packet.at_tick is not None:
            while at and (self.held[at - 1].at_tick or 0) > packet.at_tick:
                at -= 1
            for other in self.held[max(at - 1, 0) : at + 1]:
                if other.at_tick is None:
                    continue
                # Times are noisy: two that overlap by more than half are one packet, sent twice.
                if abs(other.at_tick - packet.at_tick) * 2 < packet.num_samples:
                    self.duplicate += 1
                    return
            self.reordered += at < len(self.held)
        self._hold(at, packet)

    def _hold(self, at: int, packet: Packet) -> None:
        self.held.insert(at, packet)
        self.held_samples += packet.num_samples
