"""Files and compressed audio that a client sends where raw samples are expected.

Scored as samples they are noise, or worse, plausible. Their first bytes tell them apart from audio:
signatures are from the formats' specifications (RIFF, RFC 3533 for Ogg, RFC 9639 for FLAC, RFC 8794
for WebM, ISO/IEC 14496-12 for MP4, ISO/IEC 11172-3 for MP3, ISO/IEC 13818-7 for AAC).
"""

from __future__ import annotations

from collections.abc import Callable

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.codecs import CODECS
from stream_server.wire.errors import ErrorCode, ProtocolError

HEAD_BYTES = 4096
"""First bytes of a stream that are looked at: two frames of MP3 fit."""

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"OggS", "Ogg"),
    (0, b"fLaC", "FLAC"),
    (4, b"ftyp", "MP4"),
    (0, b"#!AMR", "AMR"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b"FLV\x01", "FLV"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"),
    (0, b".RMF", "RealMedia"),
    (0, b"NIST_1A\n", "NIST SPHERE"),
    (0, b"Creative Voice File", "VOC"),
)
_RIFF_KINDS = {b"WAVE": "WAV", b"AVI ": "AVI", b"AIFF": "AIFF", b"AIFC": "AIFF"}
_RIFF_BYTES = 12
_AAC_HEAD_BYTES = 7

_TS_PACKET_BYTES = 188
_TS_PACKETS = 4

# Bits a second by index, in thousands (ISO/IEC 11172-3, 2.4.2.3): layer III of MPEG-1, layers II
# and III of MPEG-2, layer II of MPEG-1.
_MPEG_KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
)
_MP3_RATES_HZ = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8000),
}
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n")
_BASE64_BYTES = 1024
_MIN_BASE64_KINDS = 40


def container_of(head: bytes) -> str | None:
    """Return what the first bytes of a stream are, e.g. ``WAV``; None: samples, or too few."""
    for at, signature, name in _SIGNATURES:
        if head[at : at + len(signature)] == signature:
            return name
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM") and len(head) >= _RIFF_BYTES:
        return _RIFF_KINDS.get(head[8:_RIFF_BYTES])
    # An ID3v2 tag: a version below 16, a size of bytes below 128 (id3.org, ID3v2.4, section 3.1).
    if head[:3] == b"ID3" and len(head) >= 10 and head[3] < 16 and max(head[6:10]) < 128:
        # Segments of HLS have one before AAC (RFC 8216, section 3.4).
        frame = head[_tag_bytes(head) :]
        length = _aac_frame_bytes(frame)
        if length and _aac_frame_bytes(frame[length:]):
            return "AAC"
        may_be_aac = length > 0 or len(frame) < _AAC_HEAD_BYTES
        is_in_head = len(head) < HEAD_BYTES and _tag_bytes(head) + 2 * _AAC_HEAD_BYTES < HEAD_BYTES
        return None if may_be_aac and is_in_head else "MP3"
    # Twelve bits mark a frame, which samples may hold by chance: a second frame must follow.
    for length_of, name in _FRAMES:
        length = length_of(head)
        if length and length_of(head[length:]):
            return name
    if _is_transport_stream(head):
        return "MPEG-TS"
    return "text in Base64" if _is_base64(head) else None


def channels_of(head: bytes, name: str) -> int | None:
    """Return how many channels a stream has by its first bytes; None: too few of them, or none say.

    Sources: RFC 9559 (Matroska, element 0x9F), RFC 7845 (Opus in Ogg), Vorbis I, section 4.2.2, RFC
    9639 (FLAC), ISO/IEC 14496-12 (MP4, AudioSampleEntry) and those of the frames of MP3 and AAC.
    """
    if name == "AMR":
        return 1
    if name == "FLAC":
        return _in_flac(head, 0)
    if name in ("MP3", "AAC"):
        # After the tag, whose size is four bytes of seven bits.
        at = _tag_bytes(head) if head[:3] == b"ID3" and len(head) >= 10 else 0
        frame = head[at : at + 4]
        if len(frame) < 4:
            return None
        if name == "MP3":
            return 1 if frame[3] >> 6 == 3 else 2
        return (frame[2] & 1) << 2 | frame[3] >> 6 or None
    for mark, offset in _CHANNELS_AFTER.get(name, ()):
        at = head.find(mark)
        if at >= 0 and len(head) > at + offset:
            return head[at + offset] or None
    at = head.find(b"\x7fFLAC")
    # Ogg's own header of FLAC is 9 bytes, before "fLaC".
    return _in_flac(head, at + 9) if name == "Ogg" and at >= 0 else None


_CHANNELS_AFTER: dict[str, tuple[tuple[bytes, int], ...]] = {
    "WebM or Matroska": ((b"\x9f\x81", 2),),
    "Ogg": ((b"OpusHead", 9), (b"\x01vorbis", 11)),
    "MP4": ((b"mp4a", 21), (b"Opus", 21), (b"fLaC", 21)),
    "WAV": ((b"fmt ", 10),),
}
"""Where the number stands, from the beginning of what marks it."""


def _in_flac(head: bytes, at: int) -> int | None:
    """Return the channels of STREAMINFO, which follows "fLaC" at ``at``."""
    return (head[at + 20] >> 1 & 7) + 1 if len(head) > at + 20 else None


class FirstBytes:
    """Looks at the beginning of one stream of raw audio."""

    def __init__(self, expected: AudioFormat) -> None:
        self._expected = expected
        self._head = b""

    def check(self, data: bytes) -> bool:
        """Look at the next bytes; return whether enough was seen.

        Raises:
            ProtocolError: BAD_FORMAT: they are no samples.
        """
        self._head += data[: HEAD_BYTES - len(self._head)]
        # Platforms whose 16-bit samples are big-endian have had every pair of bytes swapped.
        name = container_of(self._head) or container_of(_swapped(self._head))
        if name is not None:
            raise ProtocolError(ErrorCode.BAD_FORMAT, _advice(name, self._expected))
        return len(self._head) >= HEAD_BYTES


def _advice(name: str, expected: AudioFormat) -> str:
    got = f"got {name}, expected raw {expected.encoding} samples; "
    if name == "text in Base64":
        return got + "decode it and send the bytes"
    codec = next((codec for codec, entry in CODECS.items() if entry.begins == name), None)
    if codec is not None:
        return got + f"tell encoding '{codec}' and it is decoded as it comes"
    return got + (
        "decode it first, e.g. with"
        f" ffmpeg -i INPUT -f s16le -ac {expected.num_channels} -ar {expected.sample_rate_hz} -"
        " and encoding pcm_s16le, or upload it as a file"
    )


def _swapped(data: bytes) -> bytes:
    even = len(data) // 2 * 2
    swapped = bytearray(even)
    swapped[::2], swapped[1::2] = data[1:even:2], data[:even:2]
    return bytes(swapped)


def _tag_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 tag at the beginning; its size has seven bits a byte."""
    return 10 + sum((byte & 127) << 7 * (3 - index) for index, byte in enumerate(head[6:10]))


def _mp3_frame_bytes(data: bytes) -> int:
    """Return the length of the layer III frame that ``data`` begins with; 0: there is none."""
    return _mpeg_frame_bytes(data, layer=3)


def _mp2_frame_bytes(data: bytes) -> int:
    """Return the same of layer II."""
    return _mpeg_frame_bytes(data, layer=2)


def _mpeg_frame_bytes(data: bytes, layer: int) -> int:
    # Eleven bits mark a frame; those of the layer count down.
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE0 | 4 - layer << 1:
        return 0
    version, kbps, rate = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3
    if version not in _MP3_RATES_HZ or not 0 < kbps < 15 or rate == 3:
        return 0
    is_first = version == 3
    bits = _MPEG_KBPS[1 if not is_first else 0 if layer == 3 else 2][kbps] * 1000
    # Frames of layer III of MPEG-2 have half of the samples.
    bytes_per_bit_rate = 72 if layer == 3 and not is_first else 144
    return bytes_per_bit_rate * bits // _MP3_RATES_HZ[version][rate] + (data[2] >> 1 & 1)


def _aac_frame_bytes(data: bytes) -> int:
    """Return the length of the ADTS frame that ``data`` begins with; 0: there is none."""
    if (
        len(data) < _AAC_HEAD_BYTES
        or data[0] != 0xFF
        or data[1] & 0xF6 != 0xF0
        or data[2] >> 2 & 15 > 12
    ):
        return 0
    length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    return length if length > 7 else 0


_FRAMES: tuple[tuple[Callable[[bytes], int], str], ...] = (
    (_mp3_frame_bytes, "MP3"),
    (_mp2_frame_bytes, "MP2"),
    (_aac_frame_bytes, "AAC"),
)


def _is_transport_stream(head: bytes) -> bool:
    """Packets begin with 0x47, and say that they hold something (ISO/IEC 13818-1, 2.4.3.2)."""
    starts = range(0, _TS_PACKETS * _TS_PACKET_BYTES, _TS_PACKET_BYTES)
    return len(head) >= starts.stop and all(
        head[at] == 0x47 and head[at + 3] & 0x30 != 0 for at in starts
    )


def _is_base64(head: bytes) -> bool:
    if len(head) < _BASE64_BYTES:
        return False
    # So many of the 64, and none of the other 192: no sound in any encoding has that.
    kinds = set(head[:_BASE64_BYTES])
    return kinds <= _BASE64 and len(kinds) >= _MIN_BASE64_KINDS
