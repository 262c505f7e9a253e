"""Session descriptions (SDP, RFC 8866): offers, and the answers that receive them (RFC 3264).

Of an offer the audio lines matter: one is one side of a call. A line is accepted with one codec,
and ``telephone-event`` if it was offered; what else is offered is refused by the port 0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stream_server.rtp import (
    EVENT,
    STATIC_TYPES,
    Payloads,
    RtpCodec,
    parse_codec,
    payloads_of,
)
from stream_server.rtp.secure import Crypto, can_secure, parse_crypto
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

MAX_LINES = 1000
MAX_MEDIA = 16

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_DIRECTIONS: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}
# RTP profiles without encryption (RFC 3551, RFC 4585); SRTP has an S in front of AVP.
_PROFILES = ("RTP/AVP", "RTP/AVPF")
_LIKE_RTCP = range(64, 96)
_SECURE_PROFILES = ("RTP/SAVP", "RTP/SAVPF")


@dataclass(frozen=True, slots=True)
class Media:
    """One media line.

    Attributes:
        kind: ``audio`` or another.
        codecs: of those that are payload types, in the offered order.
        direction: of the side that offers it.
        label: name in the recording's metadata (RFC 4574); "": it has none.
        address: where it is sent from, perhaps; "": not told.
        crypto: what it is encrypted with, the first line that can be used; None: nothing.
        has_mux: whether RTCP may come on the port of RTP (RFC 5761).
    """

    kind: str
    port: int
    profile: str
    formats: tuple[str, ...]
    codecs: tuple[RtpCodec, ...] = ()
    direction: Direction = "sendrecv"
    label: str = ""
    address: str = ""
    ptime_ms: str = ""
    crypto: Crypto | None = None
    has_mux: bool = False

    @property
    def is_active(self) -> bool:
        """Whether audio is sent on it."""
        return self.port > 0 and self.direction in ("sendrecv", "sendonly")

    def event_type(self, clock_hz: int) -> int | None:
        """Return the payload type of ``telephone-event`` at that clock; None: it has none."""
        # One source has one clock (RFC 4733, section 2.1).
        events = (each for each in self.codecs if each.name == EVENT)
        return next((each.payload_type for each in events if each.clock_hz == clock_hz), None)


@dataclass(frozen=True, slots=True)
class Accepted:
    """How a media line is received; ``crypto`` has the key of this side, None: unencrypted."""

    codec: RtpCodec
    port: int
    crypto: Crypto | None = None
    has_mux: bool = False


def parse_offer(body: bytes) -> tuple[Media, ...]:
    """Return the media lines of a session description.

    Raises:
        ProtocolError: ``BAD_FORMAT``: it is none.
    """
    lines = body.decode("utf-8", "replace").split("\n", MAX_LINES + 1)
    if not lines[0].startswith("v=0") or len(lines) > MAX_LINES:
        raise _bad("got a body that is no session description, expected SDP that begins with v=0")
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        sections[-1].append(line.strip())
    if len(sections) > MAX_MEDIA + 1:
        raise _bad(f"got a session description of more than {MAX_MEDIA} media")
    session, *media = sections
    defaults = _described(Media("", 0, "", ()), session)
    return tuple(_media(each, defaults) for each in media)


def _media(lines: Sequence[str], defaults: Media) -> Media:
    parts = lines[0].removeprefix("m=").split()
    # A number of ports may follow (RFC 8866, section 5.14): the first one counts.
    port = parts[1].partition("/")[0] if len(parts) > 3 else ""
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise _bad(f"got {shown(lines[0])}, expected m=KIND PORT PROFILE FORMATS")
    media = Media(
        parts[0].lower(),
        int(port),
        parts[2].upper(),
        tuple(parts[3:]),
        direction=defaults.direction,
        address=defaults.address,
    )
    return _described(media, lines[1:])


def _described(media: Media, lines: Sequence[str]) -> Media:
    """Return ``media`` with what its lines tell."""
    maps: dict[int, RtpCodec] = {}
    for line in lines:
        name, _, value = line.removeprefix("a=").partition(":")
        if line.startswith("c="):
            # c=IN IP4 192.0.2.1, of multicast with a time to live.
            parts = line.split()
            media = replace(media, address=parts[2].partition("/")[0] if len(parts) > 2 else "")
        elif not line.startswith("a="):
            continue
        elif name in _DIRECTIONS:
            media = replace(media, direction=_DIRECTIONS[name])
        elif name == "rtcp-mux":
            media = replace(media, has_mux=True)
        elif name == "label":
            media = replace(media, label=value.strip()[:256])
        elif name == "ptime" and value.strip().isdecimal():
            media = replace(media, ptime_ms=value.strip()[:4])
        elif name == "crypto" and media.crypto is None:
            media = replace(media, crypto=parse_crypto(value))
        elif name == "rtpmap" and (codec := parse_codec(value)) is not None:
            maps.setdefault(codec.payload_type, codec)
    # A payload type has seven bits; int() takes no more than 4300 digits.
    types = [int(each) for each in media.formats if re.fullmatch(r"[0-9]{1,3}", each)]
    codecs = []
    for payload_type in types:
        if payload_type in maps:
            codecs.append(maps[payload_type])
        elif payload_type in STATIC_TYPES:
            codecs.append(RtpCodec(payload_type, *STATIC_TYPES[payload_type]))
    return replace(media, codecs=tuple(codecs))


def chosen_of(
    offered: Sequence[Media],
    *,
    most: int,
    received: Collection[int],
    form: tuple[str, int] | None,
) -> dict[int, Payloads]:
    """Return how the media lines of an offer are received, by their places; none: not at all.

    ``received`` are places of lines that are received already; they go before new ones.
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


def make_answer(
    offered: Sequence[Media],
    accepted: Sequence[Accepted | None],
    *,
    address: str,
    session_id: int,
    version: int,
) -> bytes:
    """Return the answer: every line of the offer, in its order (RFC 3264, section 6).

    ``session_id`` is the same in all answers of a dialog, ``version`` one more in each of them.
    """
    family = "IP6" if ":" in address else "IP4"
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN {family} {address}",
        "s=-",
        f"c=IN {family} {address}",
        "t=0 0",
    ]
    for media, how in zip(offered, accepted, strict=True):
        if how is None:
            lines.append(f"m={media.kind} 0 {media.profile} {' '.join(media.formats)}")
            continue
        codec, event_type = how.codec, media.event_type(how.codec.clock_hz)
        formats = [codec.payload_type] + ([] if event_type is None else [event_type])
        rate = f"{codec.clock_hz}/{codec.channels}" if codec.channels > 1 else codec.clock_hz
        lines.append(f"m=audio {how.port} {media.profile} {' '.join(map(str, formats))}")
        lines.append(f"a=rtpmap:{codec.payload_type} {codec.name}/{rate}")
        if event_type is not None:
            lines.append(f"a=rtpmap:{event_type} telephone-event/{codec.clock_hz}")
            lines.append(f"a=fmtp:{event_type} 0-15")
        if how.crypto is not None:
            lines.append(f"a=crypto:{how.crypto.text}")
        if how.has_mux:
            lines.append("a=rtcp-mux")
        if media.ptime_ms:
            lines.append(f"a=ptime:{media.ptime_ms}")
        if media.label:
            lines.append(f"a=label:{media.label}")
        lines.append("a=recvonly" if media.is_active else "a=inactive")
    return ("\r\n".join(lines) + "\r\n").encode()


def takes_mux(media: Media, codec: RtpCodec) -> bool:
    """Whether RTCP is told from RTP on one port, as the offer asks.

    By the second byte: payload types 64 to 95 with a marker look like RTCP (RFC 5761, section 4).
    """
    types = (codec.payload_type, media.event_type(codec.clock_hz))
    return media.has_mux and not any(each in _LIKE_RTCP for each in types)


def is_receivable(media: Media) -> bool:
    """Whether a line is audio in use, in plain RTP or in SRTP with a key that can be used."""
    is_secure = media.profile in _SECURE_PROFILES and media.crypto is not None and can_secure()
    return media.kind == "audio" and media.port > 0 and (media.profile in _PROFILES or is_secure)


def _bad(problem: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_FORMAT, problem)
