"""Where the audio of a file lies, whatever the lengths in its header say.

Recorders that crash leave lengths of 0, programs that write to a pipe leave the largest number they
know, and players do not mind. Decoders believe lengths: they get a file with true ones. A file that
is several recordings, one after the other, is told apart into its parts.

Nothing is copied: a part is byte ranges of the file, and bytes that stand for wrong ones.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Piece = bytes | tuple[int, int]
"""Bytes, or from where to where they are taken from the file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found.

    Attributes:
        parts: what is decoded, one after the other; empty: the file as it is.
        claimed_bytes, held_bytes: audio, as the header has it and as it is there.
        note: what else is to be said, "" where nothing is.
    """

    parts: tuple[tuple[Piece, ...], ...] = ()
    claimed_bytes: int = 0
    held_bytes: int = 0
    note: str = ""


class PatchedFile:
    """The pieces of a file as one, for reading."""

    def __init__(self, path: Path, pieces: tuple[Piece, ...]) -> None:
        self._file = path.open("rb")
        self._pieces = [
            (len(each), each, 0) if isinstance(each, bytes) else (each[1] - each[0], b"", each[0])
            for each in pieces
        ]
        self._size = sum(length for length, _, _ in self._pieces)
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._at + count, self._size)
        found: list[bytes] = []
        start = 0
        for length, inserted, offset in self._pieces:
            low, high = max(self._at - start, 0), min(end - start, length)
            if low < high:
                if inserted:
                    found.append(inserted[low:high])
                else:
                    self._file.seek(offset + low)
                    found.append(self._file.read(high - low))
            start += length
        data = b"".join(found)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; one outside the file is its start or end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()


def layout_of(path: Path) -> Layout:
    """Return where the audio of a file lies; of formats not known here an empty layout."""
    try:
        return _layout_of(path)
    except struct.error:
        # It ends amid its header: the decoder says what is wrong with it.
        return Layout()


def _layout_of(path: Path) -> Layout:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in (b"RIFF", b"RF64") and start[8:] == b"WAVE":
            return _of_wav(file, size, is_rf64=start.startswith(b"RF64"))
        if start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
            return _of_aiff(file, size)
        if start[:4] == b".snd":
            return _of_au(file, size)
        if start[4:8] == b"ftyp":
            return Layout(note=_note_of_mp4(file, size))
        if not size:
            return Layout()
        data = _Bytes(file, size)
        if start[:4] == b"OggS":
            return _of_ogg(data)
        if start[:4] == b"fLaC":
            return _of_flac(data)
        if start[:3] == b"ID3" or _mp3_side_bytes(start):
            return _of_mp3(data)
    return Layout()


_SEARCH_BYTES = 1 << 22


class _Bytes:
    """A file as bytes to search. Not mapped: a file that shrinks would end the process."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def get(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(length, 0))

    def find_all(self, mark: bytes, start: int = 0) -> Iterator[int]:
        while start < self._size:
            block = self.get(start, _SEARCH_BYTES + len(mark) - 1)
            at = block.find(mark)
            while at >= 0:
                yield start + at
                at = block.find(mark, at + len(mark))
            start += _SEARCH_BYTES


_UNKNOWN = 0xFFFF_FFFF
"""Length that FFmpeg and others give a pipe: they say that they do not know it."""
_MAX_RIFF = 0xFFFF_0000


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= each < 0x7F for each in name)


def _of_wav(file: io.BufferedReader, size: int, *, is_rf64: bool) -> Layout:
    fmt = b""
    extents: list[tuple[int, int]] = []
    claimed = junk = ds64_bytes = 0
    is_true = True
    at = 12
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        body = at + 8
        if not _is_name(name):
            junk = size - at
            break
        if name == b"ds64" and length >= 16:
            _, ds64_bytes = struct.unpack("<QQ", file.read(16))
        elif name == b"fmt ":
            fmt = file.read(min(length, 256))
        elif name == b"data":
            if length == _UNKNOWN and not is_rf64:
                if not extents:
                    return Layout()
                length = size - body
            elif is_rf64 and length == _UNKNOWN:
                length = ds64_bytes
            if length > size - body or (length == 0 and not _is_chunks(file, body, size)):
                # The length is wrong. The audio is all that follows: it is written last.
                extents.append((body, size))
                claimed += length
                is_true = False
                break
            if length:
                extents.append((body, body + length))
                claimed += length
        at = body + length
        if length % 2 and at < size:
            # Chunks begin at even places, but not every program writes the byte in between.
            file.seek(at)
            at += not _is_name(file.read(4))
    held = sum(end - begin for begin, end in extents)
    if extents and is_true and junk > max(held // 100, 4096):
        note = f"holds {junk} bytes after what its header says is audio; they were left out"
        return Layout(note=note)
    if not fmt or not held or (is_true and len(extents) == 1):
        return Layout()
    block = struct.unpack("<H", fmt[12:14])[0] if len(fmt) >= 14 else 0
    if 0 <= claimed - held < max(block, 2):
        claimed = held
    head = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + bytes(len(fmt) % 2)
    if held < _MAX_RIFF:
        head = struct.pack("<4sI", b"RIFF", len(head) + 8 + held) + head
        head += struct.pack("<4sI", b"data", held)
    else:
        # EBU Tech 3306: 64-bit lengths are in a chunk of their own in front.
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, len(head) + 44 + held, held, 0, 0)
        head = struct.pack("<4sI", b"RF64", _UNKNOWN) + b"WAVE" + ds64 + head[4:]
        head += struct.pack("<4sI", b"data", _UNKNOWN)
    return Layout(((head, *extents),), claimed, held)


def _is_chunks(file: io.BufferedReader, at: int, size: int) -> bool:
    """Return whether chunks fill a WAV file from a place to its end."""
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if not _is_name(name):
            return False
        at += 8 + length + length % 2
    return at <= size + 1


def _note_of_mp4(file: io.BufferedReader, size: int) -> str:
    """Return what to say of another MP4 file behind the first, which FFmpeg does not read."""
    at = 0
    while at + 16 <= size:
        file.seek(at)
        length, name, large = struct.unpack(">I4sQ", file.read(16))
        if at and name == b"ftyp":
            return "goes on with another recording, which was left out"
        # ISO/IEC 14496-12, 4.2: 1 means a length of 64 bits behind the name, 0 up to the end.
        length = large if length == 1 else length
        if length < 8:
            break
        at += length
    return ""


def _of_aiff(file: io.BufferedReader, size: int) -> Layout:
    at = 12
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(">4sI", file.read(8))
        held = size - at - 8
        if name == b"SSND" and (length > held + 1 or (length <= 8 < held - 8)):
            patched = ((0, at + 4), struct.pack(">I", held), (at + 8, size))
            return Layout((patched,), max(length - 8, 0), held - 8)
        at += 8 + length + length % 2
    return Layout()


def _of_au(file: io.BufferedReader, size: int) -> Layout:
    file.seek(4)
    head = file.read(8)
    if len(head) < 8:
        return Layout()
    offset, length = struct.unpack(">II", head)
    held = size - offset
    if held <= 0 or length == _UNKNOWN or (0 < length <= held + 1):
        return Layout()
    return Layout((((0, 8), struct.pack(">I", held), (12, size)),), length, held)


def _split(starts: list[int], size: int) -> tuple[tuple[Piece, ...], ...]:
    ends = [*starts[1:], size]
    return tuple(((begin, end),) for begin, end in zip(starts, ends, strict=True))


def _of_flac(data: _Bytes) -> Layout:
    starts = [0]
    # The mark and the header of the block that comes first, which has 34 bytes (RFC 9639).
    for mark in (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22"):
        starts += data.find_all(mark, 4)
    return Layout(_split(sorted(starts), len(data)) if len(starts) > 1 else ())


def _of_ogg(data: _Bytes) -> Layout:
    starts = [0]
    group_end = _ogg_page_end(data, 0)
    # RFC 3533: pages with flag 2 begin logical streams; those of streams side by side come first.
    for at in data.find_all(b"OggS\x00\x02", 4):
        if at > group_end:
            starts.append(at)
        group_end = _ogg_page_end(data, at)
    # A page has 65,307 bytes at most.
    tail_at = max(len(data) - 65_536, 0)
    last = tail_at + max(data.get(tail_at, 65_536).rfind(b"OggS\x00"), 0)
    flags = data.get(last + 5, 1)
    note = ""
    if _ogg_page_end(data, last) > len(data) or not flags or not flags[0] & 4:
        note = "is cut off: its last page is not marked as the end"
    return Layout(_split(starts, len(data)) if len(starts) > 1 else (), note=note)


def _ogg_page_end(data: _Bytes, at: int) -> int:
    head = data.get(at, 27 + 255)
    if len(head) < 27:
        return len(data) + 1
    lengths = head[27 : 27 + head[26]]
    return at + 27 + len(lengths) + sum(lengths)


def _of_mp3(data: _Bytes) -> Layout:
    marks = sorted((*data.find_all(b"Xing"), *data.find_all(b"Info")))
    indexes = [(at - side, at) for at in marks if (side := _side_before(data, at))]
    if not indexes:
        return Layout()
    begins = [0, *(frame for frame, _ in indexes[1:])]
    parts: list[tuple[Piece, ...]] = []
    for number, (frame, mark) in enumerate(indexes):
        begin = begins[number]
        end = begins[number + 1] if number + 1 < len(begins) else len(data)
        # Xing's index: flags, then the number of frames and of bytes as the flags have it.
        if mark + 16 > len(data):
            break
        (flags,) = struct.unpack(">I", data.get(mark + 4, 4))
        at = mark + 8 + 4 * (flags & 1)
        if not flags & 2:
            parts.append(((begin, end),))
            continue
        (length,) = struct.unpack(">I", data.get(at, 4))
        rest = frame + length
        if length and rest + 4096 < end and _is_mp3_start(data.get(rest, 4)):
            # Another recording, which has no index.
            parts.append(((begin, rest),))
            parts.append(((rest, end),))
        elif length == end - frame:
            parts.append(((begin, end),))
        else:
            # libmpg123 complains on stderr of a length that is wrong.
            parts.append(((begin, at), struct.pack(">I", end - frame), (at + 4, end)))
    is_whole = len(parts) == 1 and len(parts[0]) == 1
    return Layout(() if is_whole else tuple(parts))


def _is_mp3_start(start: bytes) -> bool:
    return start[:3] == b"ID3" or bool(_mp3_side_bytes(start))


def _mp3_side_bytes(header: bytes) -> int:
    """Return how much lies before the index in a frame with this header; 0: it is not layer III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    is_mpeg_1, is_mono = header[1] & 0x18 == 0x18, header[3] & 0xC0 == 0xC0
    return 4 + ((17 if is_mono else 32) if is_mpeg_1 else (9 if is_mono else 17))


def _side_before(data: _Bytes, mark: int) -> int:
    for side in (36, 21, 13):
        if mark >= side and _mp3_side_bytes(data.get(mark - side, 4)) == side:
            return side
    return 0
