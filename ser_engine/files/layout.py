"""Where the audio of a file lies, whatever the lengths in its header say.

Recorders that crash leave lengths of 0, programs that write to a pipe leave the largest number they
know, and players do not mind. Decoders believe lengths: they get a file with true ones. A file that
is several recordings, one after the other, is told apart into its parts.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from ser_engine.files.chunk_layout import layout_of_chunks
from ser_engine.files.decoders import DecodeError
from ser_engine.files.frame_layout import layout_of_flac, layout_of_mp3, starts_mp3
from ser_engine.files.pieces import FileBytes, Layout, split

_MAX_PARTS = 1_000
"""Recordings in one file that are read; each has to be opened."""


def layout_of(path: Path) -> Layout:
    """Return where the audio of a file lies; of formats not known here an empty layout.

    Raises:
        DecodeError: it ends before what tells where its audio is.
    """
    found = _layout_of(path)
    if (num_parts := len(found.parts)) <= _MAX_PARTS:
        return found
    note = f"holds {num_parts} recordings; those after {_MAX_PARTS} were left out"
    return Layout(found.parts[:_MAX_PARTS], note=note)


def _layout_of(path: Path) -> Layout:
    size = path.stat().st_size
    if not size:
        return Layout()
    try:
        with path.open("rb") as file:
            if (of_chunks := layout_of_chunks(file, size)) is not None:
                return of_chunks
            data = FileBytes(file, size)
            start = data.get(0, 12)
            if start[4:8] == b"ftyp":
                return _of_mp4(file, size)
            if start[:4] == b"OggS":
                return _of_ogg(data)
            if start[:4] == b"fLaC":
                return layout_of_flac(data)
            if starts_mp3(start):
                return layout_of_mp3(data)
    except struct.error:
        # It ends amid its header: the decoder says what is wrong with it.
        pass
    return Layout()


def _of_mp4(file: io.BufferedReader, size: int) -> Layout:
    """Return what to say of another MP4 file behind the first, or of an index that is missing.

    Raises:
        DecodeError: the file ends before its index, without which nothing can be found in it.
    """
    at = 0
    has_index = False
    while at + 16 <= size:
        file.seek(at)
        length, name, large = struct.unpack(">I4sQ", file.read(16))
        if at and name == b"ftyp":
            return Layout(note="goes on with another recording, which was left out")
        has_index = has_index or name in (b"moov", b"moof")
        # ISO/IEC 14496-12, 4.2: 1 means a length of 64 bits behind the name, 0 up to the end.
        length = large if length == 1 else length
        if length < 8:
            break
        at += length
    if at > size and not has_index:
        raise DecodeError(
            "it is cut off before its index ('moov'), without which it cannot be read"
        )
    return Layout()


def _of_ogg(data: FileBytes) -> Layout:
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
    return Layout(split(starts, len(data)) if len(starts) > 1 else (), note=note)


def _ogg_page_end(data: FileBytes, at: int) -> int:
    head = data.get(at, 27 + 255)
    if len(head) < 27:
        return len(data) + 1
    lengths = head[27 : 27 + head[26]]
    return at + 27 + len(lengths) + sum(lengths)
