"""Where the audio lies in files of chunks: WAV and its relatives, AIFF, AU and CAF.

A chunk has a name, a length and a content. The length of the one with the audio is written last, so
a recorder that crashes leaves it at 0 or at what it was minutes ago, and programs that write to a
pipe leave the largest number they know.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import NamedTuple

from ser_engine.files.pieces import Layout, Piece

_UNKNOWN = 0xFFFF_FFFF
"""Length that FFmpeg and others give a pipe: they say that they do not know it."""
_MAX_RIFF = 0xFFFF_0000
_WAV_NAMES = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_NAMES_OF_64_BITS = (b"RF64", b"BW64")
"""EBU Tech 3306 and its successor ITU-R BS.2088: lengths of 64 bits are in a chunk ``ds64``."""
_W64 = "w64"
_FEW_BYTES = 4096
_LOOKED_AT_BYTES = 65_536


class _Recording(NamedTuple):
    """One recording of perhaps several in the file.

    Attributes:
        pieces: what a decoder is given; empty: the file's bytes from its beginning to ``end``.
        claimed_bytes, held_bytes: of audio, as the header has it and as it is there.
        end: where it ends, and another one may begin.
        note: what else is to be said.
    """

    pieces: tuple[Piece, ...]
    claimed_bytes: int
    held_bytes: int
    end: int
    note: str = ""


def layout_of_chunks(file: io.BufferedReader, size: int) -> Layout | None:
    """Return where the audio of a file of chunks lies; None: it is none.

    Raises:
        struct.error: it ends amid a header.
    """
    found: list[_Recording] = []
    begins: list[int] = []
    at = 0
    while (read := _reader_of(file, at)) is not None:
        begins.append(at)
        found.append(read(file, at, size))
        at = found[-1].end
    if not found:
        return None
    claimed = sum(each.claimed_bytes for each in found)
    held = sum(each.held_bytes for each in found)
    notes = " and ".join(each.note for each in found if each.note)
    if len(found) == 1:
        return Layout((found[0].pieces,) if found[0].pieces else (), claimed, held, notes)
    parts = [each.pieces or ((begin, each.end),) for begin, each in zip(begins, found, strict=True)]
    return Layout(tuple(parts), claimed, held, notes)


def _reader_of(
    file: io.BufferedReader, at: int
) -> Callable[[io.BufferedReader, int, int], _Recording] | None:
    """Return what reads the recording that begins at a place; None: none begins there."""
    file.seek(at)
    start = file.read(28)
    if start[:4] in _WAV_NAMES and start[8:12] == b"WAVE":
        return _wav
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return _aiff
    if start[:4] == b"riff" and start[4:16] == _W64_GUID:
        return _w64
    if start[:8] == b"caff\x00\x01\x00\x00":
        return _caf
    if start[:4] == b".snd" and (at == 0 or start[12:16] < b"\x00\x00\x00\x40"):
        return _au
    return None


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= each < 0x7F for each in name)


def _goes_on(file: io.BufferedReader, at: int, begin: int, size: int, order: str) -> bool:
    """Return whether the audio that is said to end at a place goes on to the end of the file.

    What follows is then no chunk and no other recording; nor is it a few bytes, or padding.
    """
    if size - at <= max((at - begin) // 100, _FEW_BYTES):
        return False
    file.seek(at)
    following = file.read(_LOOKED_AT_BYTES)
    if order == _W64:
        is_chunk = following[4:16] in (_W64_GUID, _W64_LIST, _W64_DATA[4:])
    else:
        is_chunk = any(_is_chunk(following[skip:], size - at - skip, order) for skip in (0, 1))
    return not is_chunk and any(following) and _reader_of(file, at) is None


def _is_chunk(start: bytes, left: int, order: str) -> bool:
    """Return whether a chunk begins so; four bytes of samples can look like its name."""
    if len(start) < 8 or not _is_name(start[:4]):
        return False
    length: int = struct.unpack(f"{order}I", start[4:8])[0]
    return length <= left


def _wav(file: io.BufferedReader, begin: int, size: int) -> _Recording:
    file.seek(begin)
    kind = file.read(4)
    order = ">" if kind == b"RIFX" else "<"
    fmt = b""
    extents: list[tuple[int, int]] = []
    claimed = junk = ds64_bytes = 0
    is_true, is_changed = True, False
    note = ""
    at = begin + 12
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        body = at + 8
        if not _is_name(name):
            junk = size - at
            break
        if extents and _reader_of(file, at) is not None:
            break
        if name == b"ds64" and length >= 16:
            file.seek(body)
            _, ds64_bytes = struct.unpack("<QQ", file.read(16))
        elif name == b"fmt ":
            file.seek(body)
            told = file.read(min(length, 256))
            if extents and told != fmt:
                until = _duration(fmt, extents, order)
                note = f"changes its format after {until}; the rest was left out"
                is_changed, at = True, size
                break
            fmt = told
        elif name == b"data":
            is_unknown = length == _UNKNOWN
            if is_unknown and kind in _NAMES_OF_64_BITS:
                length = ds64_bytes
            elif is_unknown and not extents:
                extents.append((body, size))
                claimed += size - body
                at = size
                break
            elif is_unknown:
                length = size - body
            is_long = length > size - body
            is_none = length == 0 and not _is_chunks(file, body, size, order)
            if is_long or is_none or _goes_on(file, body + length, body, size, order):
                # The length is wrong. The audio is all that follows: it is written last.
                extents.append((body, size))
                claimed += length
                is_true = False
                at = size
                break
            if length:
                extents.append((body, body + length))
                claimed += length
        at = body + length
        if length % 2 and at < size:
            # Chunks begin at even places, but not every program writes the byte in between.
            file.seek(at)
            at += not _is_name(file.read(4))
    held = sum(end - start for start, end in extents)
    if extents and is_true and junk > max(held // 100, _FEW_BYTES):
        note = f"holds {junk} bytes after what its header says is audio; they were left out"
    # What is after the last chunk is no recording: nothing is looked for in it.
    end = size if junk or size - at < 8 else at
    block = struct.unpack(f"{order}H", fmt[12:14])[0] if len(fmt) >= 14 else 0
    if not fmt or not held:
        return _Recording((), 0, 0, size, note)
    if 0 <= claimed - held < max(block, 2):
        claimed = held
    if is_true and len(extents) == 1 and kind != b"BW64" and not is_changed:
        return _Recording((), claimed, held, end, note)
    head = b"WAVEfmt " + struct.pack(f"{order}I", len(fmt)) + fmt + bytes(len(fmt) % 2)
    if held < _MAX_RIFF:
        name = b"RIFX" if order == ">" else b"RIFF"
        head = name + struct.pack(f"{order}I", len(head) + 8 + held) + head
        head += b"data" + struct.pack(f"{order}I", held)
    else:
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, len(head) + 44 + held, held, 0, 0)
        head = struct.pack("<4sI", b"RF64", _UNKNOWN) + b"WAVE" + ds64 + head[4:]
        head += struct.pack("<4sI", b"data", _UNKNOWN)
    return _Recording((head, *extents), claimed, held, end, note)


def _duration(fmt: bytes, extents: list[tuple[int, int]], order: str) -> str:
    """Return how long the audio so far is, in seconds where the header says it."""
    held = sum(end - start for start, end in extents)
    rate = struct.unpack(f"{order}I", fmt[8:12])[0] if len(fmt) >= 12 else 0
    return f"{held / rate:.2f} s" if rate else f"{held} bytes"


def _is_chunks(file: io.BufferedReader, at: int, size: int, order: str) -> bool:
    """Return whether chunks fill a WAV file from a place to its end."""
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if not _is_name(name):
            return False
        at += 8 + length + length % 2
    return at <= size + 1


def _aiff(file: io.BufferedReader, begin: int, size: int) -> _Recording:
    at = begin + 12
    is_found = False
    claimed = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(">4sI", file.read(8))
        held = size - at - 8
        if is_found and (not _is_name(name) or _reader_of(file, at) is not None):
            break
        if name == b"SSND":
            is_found, claimed = True, max(length - 8, 0)
            is_none = length <= 8 < held - 8
            if length > held + 1 or is_none or _goes_on(file, at + 8 + length, at, size, ">"):
                patched = ((begin, at + 4), struct.pack(">I", held), (at + 8, size))
                return _Recording(patched, claimed, held - 8, size)
        at += 8 + length + length % 2
    return _Recording((), claimed, claimed, min(at, size))


def _au(file: io.BufferedReader, begin: int, size: int) -> _Recording:
    file.seek(begin + 4)
    offset, length = struct.unpack(">II", file.read(8))
    at = begin + offset
    held = size - at
    if held <= 0 or length == _UNKNOWN:
        return _Recording((), 0, 0, size)
    if 0 < length <= held + 1 and not _goes_on(file, at + length, at, size, ">"):
        return _Recording((), length, length, min(at + length, size))
    patched = ((begin, begin + 8), struct.pack(">I", held), (begin + 12, size))
    return _Recording(patched, length, held, size)


_W64_GUID = bytes.fromhex("2e91cf11a5d628db04c10000")
"""Sony, Wave64: what follows the first four letters of its identifiers, of "riff" alone."""
_W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_LIST = b"\x2f" + _W64_GUID[1:]
_W64_CHUNK_BYTES = 24


def _w64(file: io.BufferedReader, begin: int, size: int) -> _Recording:
    """Chunks begin at multiples of eight bytes; their lengths count identifier and length, too."""
    at = begin + 40
    claimed = 0
    while at + _W64_CHUNK_BYTES <= size:
        file.seek(at)
        name, length = struct.unpack("<16sQ", file.read(_W64_CHUNK_BYTES))
        held = size - at - _W64_CHUNK_BYTES
        if claimed and _reader_of(file, at) is not None:
            break
        if name == _W64_DATA:
            claimed = max(length - _W64_CHUNK_BYTES, 0)
            is_wrong = not 0 < claimed <= held
            if is_wrong or _goes_on(file, at + length + -length % 8, at, size, _W64):
                patched = ((begin, at + 16), struct.pack("<Q", size - at), (at + 24, size))
                return _Recording(patched, claimed, held, size)
        elif length < _W64_CHUNK_BYTES:
            at = size
            break
        at += length + -length % 8
    return _Recording((), claimed, claimed, min(at, size))


_EDIT_COUNT_BYTES = 4
_CAF_SAMPLES = (b"lpcm", b"ulaw", b"alaw")
"""Kinds of audio whose bytes tell its length; of another one packets are listed elsewhere."""


def _caf(file: io.BufferedReader, begin: int, size: int) -> _Recording:
    """Apple, Core Audio Format Specification: a length of -1 is up to the end of the file."""
    at = begin + 8
    claimed = 0
    has_samples = False
    while at + 12 <= size:
        file.seek(at)
        name, length = struct.unpack(">4sq", file.read(12))
        held = size - at - 12
        if claimed and (not _is_name(name) or _reader_of(file, at) is not None):
            break
        if name == b"desc":
            has_samples = file.read(12)[8:] in _CAF_SAMPLES
        if name == b"data" and length != -1 and has_samples:
            claimed = max(length - _EDIT_COUNT_BYTES, 0)
            is_wrong = not _EDIT_COUNT_BYTES < length <= held
            if is_wrong or _goes_on(file, at + 12 + length, at, size, ">"):
                patched = ((begin, at + 4), struct.pack(">q", held), (at + 12, size))
                return _Recording(patched, claimed, held - _EDIT_COUNT_BYTES, size)
        if length < 0:
            at = size
            break
        at += 12 + length
    return _Recording((), claimed, claimed, min(at, size))
