"""Matroska as Kinesis Video Streams sends it, read as it comes (RFC 8794, RFC 9559).

A response of ``GetMedia`` is one Matroska file a fragment, about a second of audio, one after the
other. Sizes of what holds other elements may be unknown, so those are entered wherever they are
met, and only what holds data is read whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from stream_server.wire.errors import ErrorCode, ProtocolError

MAX_ELEMENT_BYTES = 1 << 20
"""Longest element that is read whole. A block of Amazon Connect has 1 KB."""

_EBML, _CLUSTER_TIME, _SIMPLE_BLOCK, _BLOCK = 0x1A45DFA3, 0xE7, 0xA3, 0xA1
_TIME_SCALE, _TRACK, _TAG = 0x2AD7B1, 0xAE, 0x67C8
_ENTERED = frozenset(
    # Segment, Info, Tracks, Tags, Tag, Cluster, BlockGroup.
    (0x18538067, 0x1549A966, 0x1654AE6B, 0x1254C367, 0x7373, 0x1F43B675, 0xA0)
)
_READ = frozenset((_EBML, _CLUSTER_TIME, _SIMPLE_BLOCK, _BLOCK, _TIME_SCALE, _TRACK, _TAG))
_TRACK_NUMBER, _TRACK_NAME, _TAG_NAME, _TAG_TEXT = 0xD7, 0x536E, 0x45A3, 0x4487
_LACED = 0x06
_DEFAULT_SCALE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Begin:
    """A fragment begins."""


@dataclass(frozen=True, slots=True)
class TrackEntry:
    """A track is declared."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A name and what it says."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Audio of one track; ``at_ns`` is from the origin of the cluster's times."""

    track: int
    at_ns: int
    data: bytes


Element = Begin | TrackEntry | Tag | Block


class MatroskaReader:
    """Reads one response. How its bytes are split changes nothing."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = 0  # bytes of an element that is not needed, which have not come yet
        self._scale_ns = _DEFAULT_SCALE_NS
        self._cluster_at = 0
        self._has_begun = False

    def receive(self, data: bytes) -> list[Element]:
        """Take bytes; return what is whole with them.

        Raises:
            ProtocolError: BAD_FORMAT: they are no Matroska; what follows cannot be read.
        """
        self._data += data
        found: list[Element] = []
        at = 0
        while True:
            passed = min(self._skip, len(self._data) - at)
            self._skip -= passed
            at += passed
            head = None if self._skip else _head(self._data, at)
            if head is None:
                break
            kind, size, start = head
            if not self._has_begun and kind != _EBML:
                raise _bad(f"the element {kind:#x} at the beginning")
            self._has_begun = True
            if kind in _ENTERED:
                at = start
                continue
            if size is None:
                raise _bad(f"the element {kind:#x} without a size")
            if kind not in _READ:
                at, self._skip = start, size
                continue
            if size > MAX_ELEMENT_BYTES:
                raise _bad(f"the element {kind:#x} of {size} bytes")
            if len(self._data) < start + size:
                break
            found += self._element(kind, bytes(self._data[start : start + size]))
            at = start + size
        del self._data[:at]
        return found

    def _element(self, kind: int, data: bytes) -> list[Element]:
        match kind:
            case 0x1A45DFA3:
                self._scale_ns, self._cluster_at = _DEFAULT_SCALE_NS, 0
                return [Begin()]
            case 0x2AD7B1:
                self._scale_ns = int.from_bytes(data, "big") or _DEFAULT_SCALE_NS
            case 0xE7:
                self._cluster_at = int.from_bytes(data, "big")
            case 0xAE:
                parts = _children(data)
                number = int.from_bytes(parts.get(_TRACK_NUMBER, b""), "big")
                return [TrackEntry(number, _text(parts.get(_TRACK_NAME, b"")))]
            case 0x67C8:
                parts = _children(data)
                return [Tag(_text(parts.get(_TAG_NAME, b"")), _text(parts.get(_TAG_TEXT, b"")))]
            case _:
                return [self._block(data)]
        return []

    def _block(self, data: bytes) -> Block:
        track = _number(data, 0)
        if track is None or len(data) < track[1] + 3:
            raise _bad(f"a block of {len(data)} bytes")
        number, at = track
        if data[at + 2] & _LACED:
            raise _bad("a block with several frames (lacing)")
        offset = int.from_bytes(data[at : at + 2], "big", signed=True)
        return Block(number, (self._cluster_at + offset) * self._scale_ns, data[at + 3 :])


def _bad(got: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.BAD_FORMAT, f"got {got}, expected Matroska of Kinesis Video Streams"
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _head(data: bytes | bytearray, at: int) -> tuple[int, int | None, int] | None:
    """Return an element's kind, its size (None: unknown) and where its data begins; None: more."""
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > 4:
        raise _bad(f"the byte {data[at]:#04x} where an element has to begin")
    if at + length > len(data):
        return None
    size = _number(data, at + length)
    if size is None:
        return None
    value, start = size
    bits = 7 * (start - at - length)
    # All bits set: unknown (RFC 8794, section 6.2).
    return (
        int.from_bytes(data[at : at + length], "big"),
        None if value == (1 << bits) - 1 else value,
        start,
    )


def _number(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Return a number of variable size (RFC 8794, section 4) and where it ends; None: more."""
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > 8:
        raise _bad("a number of more than 8 bytes")
    if at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
    return value, at + length


def _children(data: bytes) -> dict[int, bytes]:
    """Return the elements in a whole one, the last of each kind."""
    found: dict[int, bytes] = {}
    at = 0
    while (head := _head(data, at)) is not None:
        kind, size, start = head
        if size is None or start + size > len(data):
            raise _bad("an element that is longer than what holds it")
        found[kind] = data[start : start + size]
        at = start + size
    return found
