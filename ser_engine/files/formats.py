"""What a file is by its first bytes. Its name does not decide."""

from __future__ import annotations

START_BYTES = 512
"""What is looked at: two packets of an MPEG transport stream fit."""

CONTAINERS = (
    (4, b"ftyp", "mov", "M4A or MP4"),
    (0, b"\x1aE\xdf\xa3", "matroska", "WebM or Matroska"),
    (0, b"#!AMR", "amr", "AMR"),
    (0, bytes.fromhex("3026b2758e66cf11"), "asf", "WMA"),
    *((0, bytes((0xFF, second)), "aac", "AAC") for second in (0xF0, 0xF1, 0xF8, 0xF9)),
)
"""Where a file of FFmpeg's says so, what it says, FFmpeg's name of the format, and people's."""

HEADERS = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"OggS", b"fLaC", b"caff", b".snd", b"#!AMR"),
    *(b"ID3", b"\x1aE\xdf\xa3", bytes.fromhex("3026b2758e66cf11")),
)
"""What begins a file that is no raw samples, however it is told to be read."""

SHARED_CONTAINERS = {
    **{b"RIFF": "wav", b"RIFX": "wav", b"RF64": "wav", b"BW64": "wav"},
    **{b"OggS": "ogg", b"caff": "caf"},
}
"""Formats of libsndfile that may hold what only FFmpeg decodes, by what they start with."""

_OTHERS = (
    (b"FLV\x01", "Flash video (FLV)"),
    (b"wvpk", "WavPack"),
    (b"TTA1", "True Audio"),
    (b"MAC ", "Monkey's Audio"),
    (b".RMF", "RealMedia"),
    (b"\x0b\x77", "AC-3"),
    (b"\x7f\xfe\x80\x01", "DTS"),
    (b"nut/multimedia container", "NUT"),
    (b"\x00\x00\x01\xba", "MPEG program stream"),
    (b"MThd", "MIDI, which holds notes and no sound"),
    (b"#EXTM3U", "a playlist, which names recordings and holds none"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"%PDF", "PDF"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file it stands for"),
)
_TS_PACKET_BYTES = 188


def name_of(start: bytes) -> str | None:
    """Return what a file is that is not read, in words; None: its first bytes do not say."""
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "AVI"
    if start[:1] == start[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G":
        # ISO/IEC 13818-1: every packet begins with 0x47.
        return "an MPEG transport stream"
    for sign, name in _OTHERS:
        if start.startswith(sign):
            return name
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"{", b"[")) and _is_text(start):
        return "text (a web page, XML or JSON), perhaps an error in place of the file"
    return None


def _is_text(start: bytes) -> bool:
    return not any(byte < 0x20 and byte not in b"\t\r\n" for byte in start)
