"""Codecs that RTP may carry here, and which of those on offer a call takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

import numpy as np

from ser_engine.raw_audio import ALAW, MULAW
from stream_server.platforms.siprec.sdp import Media, RtpCodec, is_receivable
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


@dataclass(frozen=True, slots=True)
class Payloads:
    """How the payloads of a codec are read.

    Attributes:
        codec: in the offer.
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


def chosen_of(
    offered: Sequence[Media],
    *,
    most: int,
    received: Collection[int],
    form: tuple[str, int] | None,
) -> dict[int, Payloads]:
    """Return how the media lines of an offer are received, by their places; none: not at all.

    Args:
        offered: the lines.
        most: lines that can be received.
        received: places of those that are received already; they go before new ones.
        form: of the call; None: it begins, with the form that most lines have, and of several
            the one that is offered first.
    """
    lines = [at for at, media in enumerate(offered) if is_receivable(media)]
    lines.sort(key=lambda at: (at not in received, at))
    understood = {
        at: [each for codec in offered[at].codecs if (each := payloads_of(codec))] for at in lines
    }
    forms = [form] if form else [each.form for at in lines for each in understood[at]]
    best: dict[int, Payloads] = {}
    for wanted in dict.fromkeys(forms):
        able = {
            at: next(each for each in understood[at] if each.form == wanted)
            for at in lines
            if any(each.form == wanted for each in understood[at])
        }
        able = dict(sorted(list(able.items())[:most]))
        if len(able) > len(best):
            best = able
    return best


def understood_names() -> str:
    """Return the names of the codecs, for people."""
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
