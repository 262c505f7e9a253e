"""RTCP: reports of what came, in answer to those of what was sent."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_server.rtp import RtpCodec
from stream_server.rtp.packets import RtpTrack
from stream_server.rtp.reports import Reporter, ended_sources
from tests.support.siprec_lab import rtp

SOURCE, OWN = 0x5EC0, 0x0E0E
SENT = b"\x80\xc8\0\6" + struct.pack(">IIIIII", SOURCE, 1, 0x11112222, 0x33334444, 5, 6)
SENT = SENT[:8] + bytes.fromhex("0000aabbccdd0000") + SENT[16:]
BYE = b"\x81\xcb\0\1" + SOURCE.to_bytes(4)


def test_what_did_not_come_is_reported():
    """Of 20 packets whose numbers wrap four are missing, and each comes 2 ms late or early."""
    line = RtpTrack(RtpCodec(0, "PCMU", 8000), 8000, len, None)
    for at in range(20):
        if at not in (5, 6, 7, 11):
            packet = rtp(0xFFF8 + at, 160 * at, bytes(160), source=SOURCE)
            line.put(packet, 160 * at + (16 if at % 2 else -16))
    reporter = Reporter(OWN)
    answer = reporter.answer(SENT, line.reception, 10.0)
    kind, words, own, source, lost, highest, jitter, last, delay = struct.unpack_from(
        ">xBHIIIIIII", answer
    )
    assert (kind, words, own, source) == (201, 7, OWN, SOURCE)
    assert (lost >> 24, lost & 0xFFFFFF) == (4 * 256 // 20, 4)
    assert highest == 0x1000B
    # Half the difference of two packets, and on its way there.
    assert 10 < jitter <= 32
    assert (last, delay) == (0xAABBCCDD, 0)
    # A description with the name follows, in whole words.
    assert answer[33] == 202 and b"emotion-monitor" in answer and len(answer) % 4 == 0
    assert reporter.answer(SENT, line.reception, 11.0) == b""
    assert reporter.answer(BYE, line.reception, 20.0) == b""
    # Since the last report nothing is missing; of all it is still four.
    again = reporter.answer(SENT + BYE, line.reception, 20.0)
    assert again[12:16] == bytes([0, 0, 0, 4])


def test_a_source_that_is_over_makes_room_for_the_next():
    line = RtpTrack(RtpCodec(0, "PCMU", 8000), 8000, len, None)
    line.put(rtp(1, 0, bytes(160), source=SOURCE), 0)
    (ended,) = ended_sources(SENT + BYE)
    line.end_source(ended)
    (heard,) = line.put(rtp(500, 9_000_000, bytes([1] * 160), source=7), 320)
    assert (heard.at_tick, len(heard.payload), line.source) == (320, 160, 7)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes):
    line = RtpTrack(RtpCodec(0, "PCMU", 8000), 8000, len, None)
    line.put(rtp(1, 0, bytes(160)), 0)
    for each in (data, b"\x81\xcb" + data, b"\x80\xc8\0\6" + data, b"\x9f\xcb\0\0" + data):
        assert len(ended_sources(each)) <= len(each) // 4
        assert len(Reporter(1).answer(each, line.reception, 0.0)) in (0, 60)


def test_jitter_of_even_arrival_is_none():
    line = RtpTrack(RtpCodec(9, "G722", 8000), 16_000, lambda data: 2 * len(data), None)
    for at in range(50):
        line.put(rtp(at, 160 * at, bytes(160), payload_type=9), 320 * at)
    assert line.reception is not None and line.reception.jitter == 0
    assert np.all([line.reception.received == 50, line.reception.expected == 50])
