"""What the JSON media streams of telephone platforms have in common, and where they differ.

All of them are descended from Twilio's: text messages with an ``event``; ``start`` describes the
call, ``media`` carries audio in Base64, ``stop`` ends it. They differ in the names of fields, in
what numbers are written as, in encodings and in what they promise of order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stream_server.protocol.audio_format import Encoding
from stream_server.protocol.linear16 import ByteOrder

__all__ = ["BOTH_TRACKS", "INBOUND", "OUTBOUND", "MediaPlatform", "WireEncoding"]

INBOUND = "inbound"
"""Track: what the platform hears from the leg of the call that the stream was begun on."""
OUTBOUND = "outbound"
"""Track: what the platform plays to that leg."""
BOTH_TRACKS = (INBOUND, OUTBOUND)


@dataclass(frozen=True, slots=True)
class WireEncoding:
    """How samples come.

    Attributes:
        encoding: what they are, once in order.
        byte_order: of 16-bit samples where the platform does not tell; None: as ``encoding`` says.
    """

    encoding: Encoding
    byte_order: ByteOrder | None = None


@dataclass(frozen=True, slots=True)
class MediaPlatform:
    """One platform's words.

    Attributes:
        name: as metadata and messages give it.
        stream_id: field of every message, and of ``start``, that tells streams apart.
        call_id: field of ``start``: the platform's id of the call.
        format: field of ``start`` that describes the audio.
        rate: field of that: samples a second.
        encodings: by their names in lower case, without parameters.
        default_encoding: where ``start`` names none.
        tracks: where ``start`` does not list them.
        details: fields of ``start`` that are kept with the stream.
        parameters: takes the whole ``start`` message and returns its custom parameters.
    """

    name: str
    stream_id: str
    call_id: str
    format: str
    rate: str
    encodings: Mapping[str, WireEncoding]
    default_encoding: str
    tracks: tuple[str, ...]
    parameters: Callable[[Mapping[str, Any]], Mapping[str, object]]
    details: tuple[str, ...] = field(default=())
