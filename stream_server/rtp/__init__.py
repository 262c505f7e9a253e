"""RTP (RFC 3550): packets of lines in, one stream out; whoever announces them, or nobody.

Here are the codecs that it may carry, and how their payloads are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

import numpy as np

from ser_engine.raw_audio import ALAW, MULAW
from stream_server.tracks.coded import TRACK_CODECS

SAMPLE_BYTES = 2
_MAX_PAYLOAD_S = 1
_L16_RATES_HZ = range(8_000, 48_001)
_G711 = {
    # 16-bit samples: the tables are those divided by 32768.
    "PCMU": np.round(MULAW * 32768).astype("<i2"),
    "PCMA": np.round(ALAW * 32768).astype("<i2"),
}
# Name, clock and channels in an offer, of codecs that are decoded elsewhere. The clock of G.722 is
# told wrong for historical reasons (RFC 3551, section 4.5.2), Opus always has two channels
# (RFC 7587, section 7).
_CODED = {("G722", 8000, 1): "g722", ("OPUS", 48_000, 2): "opus"}
STATIC_TYPES = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 18: ("G729", 8000)}
"""Payload types that need no ``rtpmap`` (RFC 3551, section 6)."""
EVENT = "TELEPHONE-EVENT"


@dataclass(frozen=True, slots=True)
class RtpCodec:
    """What a payload type means.

    Attributes:
        payload_type: of the packets.
        name: of the codec, in upper case.
        clock_hz: ticks a second of RTP's timestamps.
        channels: in a packet.
    """

    payload_type: int
    name: str
    clock_hz: int
    channels: int = 1


def parse_codec(rtpmap: str) -> RtpCodec | None:
    """Parse ``96 opus/48000/2``; return None if it is not so."""
    number, _, text = rtpmap.strip().partition(" ")
    name, _, rest = text.strip().partition("/")
    rate, _, channels = rest.partition("/")
    for each in (number, rate, channels or "1"):
        if not (each.isascii() and each.isdigit() and len(each) <= 7):
            return None
    if int(number) > 127 or not name:
        return None
    return RtpCodec(int(number), name.upper(), int(rate), int(channels or 1))


@dataclass(frozen=True, slots=True)
class Payloads:
    """How the payloads of a codec are read.

    Attributes:
        coded: the name of the codec where packets are decoded elsewhere; "": by ``decode``.
        rate_hz: of the samples.
        samples_of: returns how many samples a payload holds; 0: it is damaged.
        decode: returns a payload as 16-bit little-endian samples.
    """

    codec: RtpCodec
    coded: str
    rate_hz: int
    samples_of: Callable[[bytes], int] = field(compare=False)
    decode: Callable[[bytes], bytes] = field(compare=False)

    @property
    def form(self) -> tuple[str, int]:
        """What all lines of a call have in common: they are one stream."""
        return self.coded, self.rate_hz


def is_understood(codec: RtpCodec) -> bool:
    """Whether payloads of a codec can be read, where the extra ``media`` is installed."""
    if (codec.name, codec.clock_hz, codec.channels) in _CODED:
        return True
    is_g711 = codec.name in _G711 and codec.clock_hz == 8000
    is_l16 = codec.name == "L16" and codec.clock_hz in _L16_RATES_HZ
    return codec.channels == 1 and (is_g711 or is_l16)


def payloads_of(codec: RtpCodec) -> Payloads | None:
    """Return how a codec's payloads are read; None: they are not understood here."""
    coded = _CODED.get((codec.name, codec.clock_hz, codec.channels))
    if coded is not None:
        if not _can_decode():
            return None
        rate_hz, samples_of = TRACK_CODECS[coded]
        return Payloads(codec, coded, rate_hz, _bounded(samples_of, rate_hz), bytes)
    if codec.channels != 1:
        return None
    table, rate_hz = _G711.get(codec.name), codec.clock_hz
    if table is not None and rate_hz == 8000:
        # One byte a sample (RFC 3551, section 4.5.14).
        return Payloads(
            codec,
            "",
            rate_hz,
            _bounded(len, rate_hz),
            lambda payload: table[np.frombuffer(payload, "u1")].tobytes(),
        )
    if codec.name == "L16" and rate_hz in _L16_RATES_HZ:
        # In network byte order (RFC 3551, section 4.5.11).
        return Payloads(
            codec,
            "",
            rate_hz,
            _bounded(lambda payload: len(payload) // SAMPLE_BYTES, rate_hz),
            lambda payload: (
                np.frombuffer(payload, ">i2", len(payload) // SAMPLE_BYTES).astype("<i2").tobytes()
            ),
        )
    return None


def understood_names() -> str:
    return "PCMU, PCMA, L16" + (", G722 or opus" if _can_decode() else "")


@cache
def _can_decode() -> bool:
    return find_spec("av") is not None


def _bounded(samples_of: Callable[[bytes], int], rate_hz: int) -> Callable[[bytes], int]:
    # A datagram may hold 64 kB; no packet of a call is longer than 120 ms.
    def bounded(payload: bytes) -> int:
        num_samples = samples_of(payload)
        return num_samples if num_samples <= _MAX_PAYLOAD_S * rate_hz else 0

    return bounded
