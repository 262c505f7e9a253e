"""RTCP (RFC 3550, section 6) as a receiver has it: what was sent, and a report of what came."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SENDER_REPORT, _RECEIVER_REPORT, _DESCRIPTION, _BYE = 200, 201, 202, 203
_TYPES = range(192, 224)
"""Second byte of RTCP (RFC 5761, section 4); RTP has its marker and payload type there."""
_LEAST_BETWEEN_S = 2.5
"""Half the interval of RFC 3550, section 6.2: it is random from there."""
_NAME = b"emotion-monitor"


@dataclass(frozen=True, slots=True)
class Reception:
    """What came of one source.

    Attributes:
        source: SSRC.
        highest: number, without a wrap of 16 bits.
        expected: packets, from the first to the highest.
        received: packets, late ones and duplicates among them.
        jitter: of the times of arrival, in ticks of the source's clock.
    """

    source: int
    highest: int
    expected: int
    received: int
    jitter: int


def is_control(data: bytes) -> bool:
    return len(data) >= 4 and data[0] >> 6 == 2 and data[1] in _TYPES


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    """Return the packets of a datagram, their types and all their bytes (section 6.1)."""
    packets = []
    while is_control(data):
        # In words, less one.
        end = 4 + 4 * int.from_bytes(data[2:4], "big")
        if end > len(data):
            break
        packets.append((data[1], data[:end]))
        data = data[end:]
    return packets


def ended_sources(data: bytes) -> tuple[int, ...]:
    """Return the sources that RTCP says are over (section 6.6)."""
    ended: list[int] = []
    for kind, packet in _packets(data):
        if kind == _BYE:
            count = min(packet[0] & 31, len(packet) // 4 - 1)
            ended += struct.unpack_from(f">{count}I", packet, 4)
    return tuple(ended)


class Reporter:
    """Answers the reports of one line's sender. Time is an argument."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._told_s = float("-inf")
        self._before: Reception | None = None

    def answer(self, data: bytes, reception: Reception | None, now_s: float) -> bytes:
        """Return the report that answers RTCP; b"": none is due, or nothing was reported.

        Args:
            reception: of the line so far; None: nothing came.
        """
        reports = [
            each for kind, each in _packets(data) if kind == _SENDER_REPORT and len(each) >= 28
        ]
        if not reports or reception is None or now_s - self._told_s < _LEAST_BETWEEN_S:
            return b""
        self._told_s = now_s
        before = self._before
        if before is None or before.source != reception.source:
            before = Reception(reception.source, 0, 0, 0, 0)
        self._before = reception
        expected = reception.expected - before.expected
        lost = expected - (reception.received - before.received)
        share = min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
        # 24 bits with a sign (appendix A.3).
        total = max(-0x800000, min(0x7FFFFF, reception.expected - reception.received))
        block = struct.pack(
            ">IIIIII",
            reception.source,
            share << 24 | total & 0xFFFFFF,
            reception.highest & 0xFFFFFFFF,
            reception.jitter & 0xFFFFFFFF,
            # The middle of the sender's time of day. It is answered at once: without a delay.
            int.from_bytes(reports[-1][10:14], "big"),
            0,
        )
        report = struct.pack(">BBHI", 0x81, _RECEIVER_REPORT, 7, self._source) + block
        return report + self._description()

    def _description(self) -> bytes:
        """Return the name that every report goes with (section 6.5)."""
        items = struct.pack(">IBB", self._source, 1, len(_NAME)) + _NAME + b"\0"
        items += bytes(-len(items) % 4)
        return struct.pack(">BBH", 0x81, _DESCRIPTION, len(items) // 4) + items
