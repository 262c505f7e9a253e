"""RTP packets of one media line, and what the tracks make of them."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.rtp import RtpCodec
from stream_server.rtp.packets import RtpTrack, Timed, parse_packet
from stream_server.tracks import TrackAligner
from stream_server.tracks.track import TrackStats
from stream_server.wire.audio_format import AudioFormat
from tests.support.siprec_lab import event, rtp

RATE = 8000
PACKET = 160
CODEC = RtpCodec(96, "L16", RATE)
EVENT_TYPE = 101


def speech(seconds: float = 0.6) -> bytes:
    """Return samples that differ and are never 0."""
    return (np.arange(round(seconds * RATE)) % 30_000 + 1).astype("<i2").tobytes()


def track() -> RtpTrack:
    return RtpTrack(CODEC, RATE, lambda payload: len(payload) // 2, EVENT_TYPE)


def samples(timed: Timed) -> bytes:
    return bytes(2 * timed.silence) + timed.payload


def packets(
    data: bytes, *, number: int = 0xFFF0, timestamp: int = 0xFFFFF000, source: int = 1
) -> list[bytes]:
    """Return 20 ms a packet; both counts wrap soon."""
    size = 2 * PACKET
    return [
        rtp(
            number + at // size,
            timestamp + at // 2,
            data[at : at + size],
            payload_type=96,
            source=source,
        )
        for at in range(0, len(data), size)
    ]


def received(
    sent: Iterable[bytes], into: RtpTrack | None = None
) -> tuple[bytes, list[tuple[int, int]], TrackStats]:
    """Return what a stream of this line alone gets: samples, lost spans, counts."""
    line = into or track()
    aligner = TrackAligner(AudioFormat("pcm_s16le", RATE, 1))
    pieces = []
    for number, data in enumerate(sent):
        for each in line.put(data, number * PACKET):
            pieces += aligner.put(0, samples(each), at_tick=each.at_tick, number=each.number)
    pieces += aligner.flush()
    at, lost = 0, []
    for piece in pieces:
        lost += [(at + span.start_tick, at + span.end_tick) for span in piece.lost]
        at += len(piece.data) // 2
    return b"".join(piece.data for piece in pieces), lost, aligner.stats


def test_packets_in_order_are_the_samples():
    data, lost, stats = received(packets(speech()))
    assert data == speech()
    assert (lost, stats.lost) == ([], 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_reordered_and_repeated_packets_are_the_samples(seed: int):
    chance = random.Random(seed)
    sent = packets(speech())
    jittered = sorted(
        (at + chance.uniform(0, 6), packet)
        for at, packet in enumerate(sent)
        for _ in range(chance.choice([1, 1, 2]))
        if at  # The first one begins the count.
    )
    data, lost, stats = received([sent[0], *(packet for _, packet in jittered)])
    assert data == speech()
    assert (lost, stats.lost, stats.channels[0].late) == ([], 0, 0)
    assert stats.channels[0].duplicate == len(jittered) + 1 - len(sent)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 28), max_size=15))
def test_what_never_comes_is_lost_where_it_was(missing: set[int]):
    sent = [each for at, each in enumerate(packets(speech())) if at not in missing]
    data, lost, stats = received(sent)
    heard = np.frombuffer(data, "<i2").copy()
    expected = np.frombuffer(speech(), "<i2").copy()
    for at in missing:
        expected[at * PACKET : (at + 1) * PACKET] = 0
    assert np.array_equal(heard, expected)
    assert {at // PACKET for start, end in lost for at in range(start, end)} == missing
    assert stats.lost == len(missing)


def test_time_without_missing_numbers_is_silence_and_no_loss():
    data = speech(1)
    before = packets(data, number=10, timestamp=5000)
    after = packets(data, number=10 + len(before), timestamp=5000 + 3 * RATE)
    got, lost, stats = received([*before, *after])
    assert got == data + bytes(2 * 2 * RATE) + data
    assert (lost, stats.lost) == ([], 0)


@pytest.mark.parametrize("has_audio", [False, True])
def test_a_key_is_told_once_and_takes_no_audio_away(has_audio: bool):
    """Events of 100 ms in place of the audio, or beside it (RFC 4733, section 2.5.1.2)."""
    data = speech(1)
    audio = packets(data, number=0, timestamp=0)
    sent, number = [], 0
    for at in range(len(audio)):
        during = 20 <= at < 25
        if during or 25 <= at < 27:
            length = min(at - 19, 5) * PACKET
            payload = event(5, length, is_end=at >= 24)
            sent.append(rtp(number, 20 * PACKET, payload, payload_type=EVENT_TYPE, source=1))
            number += 1
        if has_audio or not during:
            payload = data[at * 2 * PACKET : (at + 1) * 2 * PACKET]
            sent.append(rtp(number, at * PACKET, payload, payload_type=96, source=1))
            number += 1
    line = track()
    keys = [each.key for packet in sent for each in line.put(packet, 0)]
    assert [key for key in keys if key] == ["5"]
    got, lost, stats = received(sent)
    hole = slice(20 * 2 * PACKET, 25 * 2 * PACKET)
    expected = data if has_audio else data[: hole.start] + bytes(10 * PACKET) + data[hole.stop :]
    assert got == expected
    assert (lost, stats.lost) == ([], 0)


def test_comfort_noise_is_silence_that_does_not_keep_the_other_side_waiting():
    data, line = speech(0.1), track()
    noise = rtp(5, 5 * PACKET, b"\x40", payload_type=13, source=1)
    resumed = packets(data, number=6, timestamp=55 * PACKET)
    timed = [
        each for packet in packets(data, number=0, timestamp=0) for each in line.put(packet, 0)
    ]
    timed += line.put(noise, 5 * PACKET)
    assert line.quiet_until(7 * PACKET) == []
    timed += line.quiet_until(30 * PACKET) + line.quiet_until(53 * PACKET)
    timed += [each for packet in resumed for each in line.put(packet, 55 * PACKET)]
    assert line.quiet_until(90 * PACKET) == []
    assert [each.number for each in timed] == list(range(len(timed)))
    assert b"".join(map(samples, timed)) == data + bytes(50 * 2 * PACKET) + data
    ends = [each.at_tick + len(samples(each)) // 2 for each in timed]
    assert [each.at_tick for each in timed if samples(each)] == [0, *dict.fromkeys(ends)][:-1]


def test_another_source_goes_on_after_the_last_one():
    data = speech(1)
    stray = packets(data, number=777, source=9)[0]
    first, second = packets(data, source=1), packets(data, number=5, timestamp=99, source=2)
    got, lost, _ = received([*first[:10], stray, *first[10:], *second])
    # One stray packet took a turn, so the time of arrival is later by its 20 ms.
    assert got == data + bytes(2 * PACKET) + data
    assert lost == [(RATE, RATE + PACKET)]


def test_of_two_sources_at_a_time_the_first_is_heard():
    data, line = speech(), track()
    both = zip(packets(data, source=1), packets(data, number=9, source=2), strict=True)
    got, lost, _ = received((packet for pair in both for packet in pair), line)
    assert (got, lost) == (data, [])
    # The last one waits for another that follows it.
    assert line.malformed == len(data) // (2 * PACKET) - 1


@pytest.mark.parametrize("jump", [-50_000, 100 * RATE])
def test_timestamps_that_are_set_anew_are_taken_up(jump: int):
    data = speech(1)
    before = packets(data, number=1, timestamp=200_000)
    after = packets(data, number=1 + len(before), timestamp=200_000 + jump)
    got, lost, _ = received([*before, *after])
    assert (got, lost) == (data + data, [])


def test_after_a_pause_the_count_begins_anew():
    line = track()
    (first,) = line.put(rtp(10, 1000, b"\1\0" * PACKET, payload_type=96), 0)
    line.restart()
    (second,) = line.put(rtp(400, 900_000, b"\1\0" * PACKET, payload_type=96), 500)
    assert (first.number, first.at_tick) == (0, 0)
    assert (second.number, second.at_tick) == (1, 500)


def test_the_header_may_be_longer():
    payload = b"audio"
    extension = b"\xbe\xde\x00\x01abcd"
    head = bytes([0x80 | 0x20 | 0x10 | 2]) + rtp(7, 8, b"", payload_type=96)[1:]
    packet = parse_packet(head + b"csrc" * 2 + extension + payload + b"\0\0\3")
    assert packet is not None
    assert (packet.payload, packet.number, packet.payload_type) == (payload, 7, 96)


@given(st.binary(max_size=64))
def test_any_datagram_is_taken_or_counted(data: bytes):
    line = track()
    assert line.put(data, 0) or line.malformed
    timed: list[Timed] = [
        each
        for payload_type in (96, EVENT_TYPE)
        for each in line.put(rtp(1, 2, data, payload_type=payload_type), 0)
    ]
    assert all(each.silence < 31 * RATE for each in timed)


def test_what_was_not_agreed_on_is_not_audio():
    line = track()
    assert line.put(rtp(1, 2, b"\0" * 160, payload_type=18), 0) == []
    assert line.put(b"\x80\xc8" + bytes(26), 0) == []  # RTCP
    assert line.malformed == 2


def test_two_lines_whose_clocks_differ_stay_together():
    """Six minutes, 60 ms a packet; the second clock is 800 parts in a million fast."""
    chance = random.Random(5)
    sent = sorted(
        (at * 0.06 / (1 + channel * 800e-6) + 0.06 + chance.expovariate(300), channel, at)
        for channel in (0, 1)
        for at in range(6_000 + 5 * channel)
    )
    aligner = TrackAligner(AudioFormat("pcm_s16le", RATE, 2))
    tracks, payload, lost = [track(), track()], b"\1\0" * 3 * PACKET, 0
    for at_s, channel, at in sent:
        packet = rtp(at, 3 * PACKET * at, payload, payload_type=96, source=channel)
        for each in tracks[channel].put(packet, round(at_s * RATE)):
            for piece in aligner.put(
                channel, samples(each), at_tick=each.at_tick, number=each.number
            ):
                lost += sum(span.end_tick - span.start_tick for span in piece.lost)
    counts = aligner.stats.channels
    # The offset of the two beginnings, at most.
    assert lost < 0.02 * RATE
    assert [each.late for each in counts] == [0, 0]
    # Samples that were taken out of the second line: 288 ms, less half a minute of finding out.
    assert counts[0].slips / RATE < 0.006
    assert counts[1].slips / RATE == pytest.approx(0.26, abs=0.02)
