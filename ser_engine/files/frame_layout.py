"""Where the audio lies in files of frames, each with a header: FLAC and MP3.

What a file's first block or frame says of its length may be wrong, and it may go on with another
recording, or in another rate or number of channels.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterator

from ser_engine.files.pieces import FileBytes, Layout, Piece, split

# --- FLAC (RFC 9639)

_STREAM_INFO_BYTES = 42
"""The mark, the header of the block that comes first, and its 34 bytes."""
_TAIL_BYTES = 1 << 18
"""Holds the last frame, unless it has more channels and a larger block than any encoder makes."""
_MAX_STOPS = 8
"""Places at the end that look like the beginning of a frame: in damaged data there may be many."""
_BLOCK_SIZES = {
    1: 192,
    **{2 + n: 576 << n for n in range(4)},
    **{8 + n: 256 << n for n in range(8)},
}


def layout_of_flac(data: FileBytes) -> Layout:
    """Return the recordings of a FLAC file, each with its true length."""
    starts = [0]
    for mark in (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22"):
        starts += data.find_all(mark, 4)
    whole = split(sorted(starts), len(data))
    parts: list[tuple[Piece, ...]] = []
    claimed = held = 0
    for ((begin, end),) in whole:
        pieces, claimed_samples, held_samples = _of_flac(data, begin, end)
        parts.append(pieces)
        claimed += claimed_samples
        held += held_samples
    return Layout(() if tuple(parts) == ((((0, len(data)),)),) else tuple(parts), claimed, held)


def _of_flac(data: FileBytes, begin: int, end: int) -> tuple[tuple[Piece, ...], int, int]:
    """Return a recording's pieces, and its samples as its header has them and as they are there."""
    info = data.get(begin, _STREAM_INFO_BYTES)
    whole: tuple[Piece, ...] = ((begin, end),)
    if len(info) < _STREAM_INFO_BYTES:
        return whole, 0, 0
    (block_samples,) = struct.unpack_from(">H", info, 10)
    (total,) = struct.unpack_from(">Q", info, 18)
    claimed = total & 0xF_FFFF_FFFF
    tail_at = max(begin + _STREAM_INFO_BYTES, end - _TAIL_BYTES)
    if (found := _flac_end(data, tail_at, end, block_samples, claimed)) is None:
        return whole, 0, 0
    held, last = found
    patched = struct.pack(">Q", total - claimed + held)
    pieces = ((begin, begin + 18), patched, (begin + 26, last))
    # A length of 0 says that it is not known (section 8.2).
    return pieces, claimed or held, held


def _flac_end(
    data: FileBytes, at: int, end: int, block_samples: int, claimed: int
) -> tuple[int, int] | None:
    """Return the samples up to the last whole frame, and where it ends.

    None: no frame was found, or the last one ends where the header says that the audio does.
    """
    tail = data.get(at, end - at)
    # Blocks of one size are numbered (0xFFF8), those of several tell their first sample (0xFFF9).
    places = [match.start() for match in re.finditer(b"\xff[\xf8\xf9]", tail)]
    stops = [len(tail)]
    for place in reversed(places):
        if (frame := _flac_frame(tail[place : place + 16], block_samples)) is None:
            continue
        samples = sum(frame)
        if samples == claimed and len(stops) == 1:
            return None
        # A frame ends in its check sum; the last one may be cut off.
        for stop in stops:
            if _crc_16(tail[place:stop]) == 0:
                return samples, at + stop
        stops.append(place)
        if len(stops) > _MAX_STOPS:
            break
    return None


def _flac_frame(header: bytes, block_samples: int) -> tuple[int, int] | None:
    """Return a frame's first sample and how many it has; None: it is no header (section 9.1)."""
    if len(header) < 6 or header[3] & 1 or header[2] & 0x0F == 0x0F or header[3] >> 4 > 10:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 0x0F
    # The number is coded as characters are in UTF-8, of up to seven bytes.
    ones = 8 - (~header[4] & 0xFF).bit_length()
    length = ones or 1
    at = 4 + length
    extra = {6: 1, 7: 2}.get(size_code, 0)
    rest = extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size_code == 0 or ones == 1 or ones == 8 or len(header) <= at + rest:
        return None
    if _crc_8(header[: at + rest + 1]):
        return None
    number = header[4] & (0x7F >> ones)
    for byte in header[5:at]:
        number = number << 6 | byte & 0x3F
    samples = _BLOCK_SIZES.get(size_code, 0)
    if extra:
        samples = int.from_bytes(header[at : at + extra], "big") + 1
    return (number if header[1] & 1 else number * block_samples), samples


def _crc_8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
        table.append(crc)
    return tuple(table)


_CRC_16 = _crc_table()


def _crc_16(data: bytes) -> int:
    """Return 0 if the last two bytes are the check sum of those before."""
    crc = 0
    for byte in data:
        crc = (crc << 8 ^ _CRC_16[crc >> 8 ^ byte]) & 0xFFFF
    return crc


# --- MP3 (ISO/IEC 11172-3 and 13818-3)

_BIT_RATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Kilobits a second of layer III, of MPEG-1 and of MPEG-2 and 2.5, by index."""
_RATES_HZ = (44_100, 48_000, 32_000)
_CONFIRMING_FRAMES = 3
"""Of another kind, one after the other: they are no chance."""
_MP3_SYNC = re.compile(b"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_RESYNC_BYTES = 4096
_MAX_TRIES = 20_000
"""Places without a frame where one might begin: what has more is damaged all over."""


def layout_of_mp3(data: FileBytes) -> Layout:
    """Return the recordings of an MP3 file, each with its true length in its index."""
    marks = sorted((*data.find_all(b"Xing"), *data.find_all(b"Info")))
    indexes = {at - side: at for at in marks if (side := _side_before(data, at))}
    starts = {0, *_changes(data), *list(indexes)[1:]}
    ends = [*sorted(starts)[1:], len(data)]
    for frame, mark in indexes.items():
        end = ends[bisect.bisect_right(ends, frame)]
        length, _ = _told_bytes(data, mark)
        rest = frame + length
        if length and rest + 4096 < end and starts_mp3(data.get(rest, 4)):
            # Another recording, which has no index.
            starts.add(rest)
    parts: list[tuple[Piece, ...]] = []
    frames = [*indexes, len(data)]
    for ((begin, end),) in split(sorted(starts), len(data)):
        frame = frames[bisect.bisect_left(frames, begin)]
        if frame >= end:
            parts.append(((begin, end),))
            continue
        length, at = _told_bytes(data, indexes[frame])
        if length in (0, end - frame):
            parts.append(((begin, end),))
        else:
            # libmpg123 complains on stderr of a length that is wrong.
            parts.append(((begin, at), struct.pack(">I", end - frame), (at + 4, end)))
    is_whole = len(parts) == 1 and len(parts[0]) == 1
    return Layout(() if is_whole else tuple(parts))


def _told_bytes(data: FileBytes, mark: int) -> tuple[int, int]:
    """Return the bytes of a recording by its index, and where that stands; 0: it does not say."""
    head = data.get(mark + 4, 12)
    if len(head) < 12:
        return 0, 0
    # Flags, then the number of frames and of bytes as the flags have it.
    (flags,) = struct.unpack_from(">I", head)
    at = 4 + 4 * (flags & 1)
    return (struct.unpack_from(">I", head, at)[0] if flags & 2 else 0), mark + 4 + at


def _changes(data: FileBytes) -> Iterator[int]:
    """Yield where frames of another rate or number of channels begin."""
    kind = None
    at = tries = 0
    while at + 4 <= len(data) and tries < _MAX_TRIES:
        header = data.get(at, 10)
        if header[:3] == b"ID3" and len(header) == 10:
            at += 10 + tag_bytes(header)
            continue
        length = _frame_bytes(header)
        if length and kind in (None, _kind(header)):
            kind = kind or _kind(header)
        elif length and _is_confirmed(data, at):
            yield at
            kind = _kind(header)
        else:
            # Not a frame, or one by chance.
            tries += 1
            block = data.get(at + 1, _RESYNC_BYTES)
            match = _MP3_SYNC.search(block)
            at += 1 + (match.start() if match else max(len(block) - 1, 1))
            continue
        at += length


def _is_confirmed(data: FileBytes, at: int) -> bool:
    kind = _kind(data.get(at, 4))
    for _ in range(_CONFIRMING_FRAMES):
        header = data.get(at, 4)
        length = _frame_bytes(header)
        if not length or _kind(header) != kind:
            return False
        at += length
    return True


def _kind(header: bytes) -> tuple[int, int, bool]:
    return header[1] & 0x18, header[2] & 0x0C, header[3] & 0xC0 == 0xC0


def _frame_bytes(header: bytes) -> int:
    """Return the length of a frame of layer III; 0: it is none, or does not say."""
    if not _side_bytes(header):
        return 0
    version, rate_index = header[1] >> 3 & 3, header[2] >> 2 & 3
    kbps_index = header[2] >> 4
    if version == 1 or rate_index == 3 or kbps_index in (0, 15):
        return 0
    is_first = version == 3
    kbps = _BIT_RATES[not is_first][kbps_index]
    rate_hz = _RATES_HZ[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    return (144_000 if is_first else 72_000) * kbps // rate_hz + (header[2] >> 1 & 1)


def tag_bytes(header: bytes) -> int:
    """Return the length of what follows an ID3v2 header: four bytes of seven bits."""
    size = 0
    for byte in header[6:10]:
        size = size << 7 | byte & 0x7F
    return size


def starts_mp3(start: bytes) -> bool:
    """Return whether a file begins as MP3 does."""
    return start[:3] == b"ID3" or bool(_side_bytes(start))


def _side_bytes(header: bytes) -> int:
    """Return how much lies before the index in a frame with this header; 0: it is not layer III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    is_mpeg_1, is_mono = header[1] & 0x18 == 0x18, header[3] & 0xC0 == 0xC0
    return 4 + ((17 if is_mono else 32) if is_mpeg_1 else (9 if is_mono else 17))


def _side_before(data: FileBytes, mark: int) -> int:
    for side in (36, 21, 13):
        if mark >= side and _side_bytes(data.get(mark - side, 4)) == side:
            return side
    return 0
