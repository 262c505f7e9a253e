"""The header of a WAV file that comes in pieces, as the beginning of a stream.

Source: Microsoft's "Multiple Channel Audio Data and WAVE Files" for the extensible form.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from stream_server.protocol.errors import ErrorCode, ProtocolError

__all__ = ["MAX_HEADER_BYTES", "WavHeader", "read_wav_header"]

MAX_HEADER_BYTES = 65_536
"""Longest header, texts and pictures in front of the audio included."""

_RIFF_BYTES = 12
_CHUNK_BYTES = 8
_FORMAT_BYTES = 16
_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_BYTES = 26
_ENCODINGS = {(1, 16): "pcm_s16le", (3, 32): "pcm_f32le", (6, 8): "alaw", (7, 8): "mulaw"}
"""Format tag and bits a sample."""
_UNKNOWN_LENGTH_BYTES = 0x7FFF_F000
"""Lengths from here on are what programs write that do not know yet; so is 0."""


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a header says.

    Attributes:
        encoding: as the native protocol calls it.
        sample_rate_hz: as the header says, unchecked.
        num_channels: the same.
        size_bytes: where the audio begins.
        data_bytes: length of the audio; None: it does not say.
    """

    encoding: str
    sample_rate_hz: int
    num_channels: int
    size_bytes: int
    data_bytes: int | None


def read_wav_header(data: bytes) -> WavHeader | None:
    """Return the header that ``data`` begins with; None: more is needed.

    Raises:
        ProtocolError: BAD_FORMAT: it begins with no header, or with one of other audio.
    """
    if not b"RIFF".startswith(data[:4]) or not b"WAVE".startswith(data[8:_RIFF_BYTES]):
        raise _bad(
            "audio that does not begin with a WAV header",
            "one, or encoding and sample_rate in the query",
        )
    known: tuple[str, int, int] | None = None
    at = _RIFF_BYTES
    while len(data) >= at + _CHUNK_BYTES:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += _CHUNK_BYTES
        if name == b"data":
            if known is None:
                raise _bad("a WAV header without a format", "a 'fmt ' chunk before the audio")
            has_length = 0 < length < _UNKNOWN_LENGTH_BYTES
            return WavHeader(*known, size_bytes=at, data_bytes=length if has_length else None)
        if name == b"fmt ":
            if length < _FORMAT_BYTES:
                raise _bad(f"a format of {length} bytes", f"{_FORMAT_BYTES} or more")
            if len(data) < at + min(length, _EXTENSIBLE_BYTES):
                break
            known = _format(data[at : at + length])
        # Chunks begin at even positions.
        at += length + length % 2
        if at > MAX_HEADER_BYTES:
            raise _too_long()
    if len(data) > MAX_HEADER_BYTES:
        raise _too_long()
    return None


def _format(chunk: bytes) -> tuple[str, int, int]:
    tag, num_channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", chunk[:_FORMAT_BYTES])
    if tag == _EXTENSIBLE and len(chunk) >= _EXTENSIBLE_BYTES:
        # The first two bytes of the sub-format are what the tag would be.
        tag = int.from_bytes(chunk[24:26], "little")
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None:
        raise _bad(
            f"WAV format {tag} with {bits} bits",
            "16-bit PCM, 32-bit float, mu-law or A-law",
        )
    return encoding, rate_hz, num_channels


def _too_long() -> ProtocolError:
    return _bad(f"a WAV header of more than {MAX_HEADER_BYTES} bytes", "less before the audio")


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_FORMAT, f"got {got}, expected {expected}")
