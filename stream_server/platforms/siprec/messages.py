"""SIP messages (RFC 3261, section 7): text in, requests and responses out, and back; without I/O.

Parsing is lenient in what does not matter and bounded in all. A datagram or a TCP connection is
cut into messages first; what then looks like a request but lacks what an answer needs is refused
by :func:`checked`, so that it can be answered with 400.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stream_server.wire.dialect import bad_message
from stream_server.wire.errors import shown

MAX_MESSAGE_BYTES = 65_536
"""A whole message: as much as a UDP datagram can hold. One with two media lines and metadata has
about 4000."""
MAX_HEADERS = 128

VERSION = "SIP/2.0"
_SIP_PORT = 5060
BRANCH_COOKIE = "z9hG4bK"
"""Every branch of a client of RFC 3261 begins so (section 8.1.1.7)."""

# Section 7.3.3, and of RFC 4028 Session-Expires.
_COMPACT = {
    "c": "content-type",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "s": "subject",
    "t": "to",
    "v": "via",
    "x": "session-expires",
}
# Values of which several may stand in one line (section 7.3.1).
_LISTS = frozenset(("via", "route", "record-route", "contact", "require", "supported"))
_METHOD = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,32}")
_END = re.compile(rb"\r?\n\r?\n")
_TAG = re.compile(r';\s*tag\s*=\s*([^\s;,"<>]+)', re.IGNORECASE)
_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,8})[ \t]*\r?$", re.I | re.M)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Message:
    """What requests and responses share; names of headers are in lower case and in full."""

    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    def get(self, name: str) -> str:
        """Return the first value of a header; "": it has none."""
        return next((value for each, value in self.headers if each == name), "")

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for each, value in self.headers if each == name]

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method of ``CSeq``; -1 and "" where it has none."""
        number, _, method = self.get("cseq").partition(" ")
        is_number = number.isascii() and number.isdigit() and len(number) <= 10
        return (int(number) if is_number else -1), method.strip()

    def tag(self, name: str) -> str:
        """Return the tag of ``from`` or ``to``; "": it has none."""
        # After the address: a URI in angle brackets may have parameters of its own.
        found = _TAG.search(self.get(name).rpartition(">")[2])
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Request(Message):
    """A request."""

    method: str
    uri: str

    @property
    def via(self) -> Via:
        """The topmost ``Via``: of whom the request came from."""
        return Via.of(self.get("via"))

    @property
    def transaction(self) -> tuple[str, str, str]:
        """What tells transactions apart (section 17.2.3); an ACK has that of its INVITE."""
        via = self.via
        method = "INVITE" if self.method == "ACK" else self.method
        if via.branch.startswith(BRANCH_COOKIE):
            return via.branch, via.sent_by, method
        # A client of RFC 2543 has no branches that could be relied on.
        return f"{self.get('call-id')} {self.tag('from')} {self.cseq[0]}", via.sent_by, method


@dataclass(frozen=True, slots=True)
class Response(Message):
    """A response."""

    status: int


@dataclass(frozen=True, slots=True)
class Via:
    """One value of ``Via``.

    ``port`` is 5060 where it has none, or one that cannot be; ``wants_port``: it asks to be
    answered where it sends from (RFC 3581).
    """

    sent_by: str
    port: int
    branch: str
    wants_port: bool

    @classmethod
    def of(cls, value: str) -> Via:
        """Parse it; what is missing is "" or False."""
        first, *rest = value.split(";")
        sent_by = first.split()[-1] if first.split() else ""
        parameters = dict(_parameter(each) for each in rest)
        port = sent_by.rpartition(":")[2] if not sent_by.endswith("]") else ""
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
        return cls(
            sent_by,
            number if 0 < number < 65_536 else _SIP_PORT,
            parameters.get("branch", ""),
            "rport" in parameters,
        )


def parse_message(data: bytes) -> Request | Response:
    """Parse one message, whole. Raises ProtocolError: ``BAD_MESSAGE``: it is none."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise bad_message(f"got a SIP message of {len(data)} bytes, expected {MAX_MESSAGE_BYTES}")
    # A datagram may begin with the empty line that keeps a NAT open (section 7.5).
    data = data.lstrip(b"\r\n")
    end = _END.search(data)
    head, body = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    first, *lines = head.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    headers = tuple(_headers(_unfolded(lines)))
    length = next((value for name, value in headers if name == "content-length"), "")
    if length.isascii() and length.isdigit() and len(length) <= 8:
        if int(length) > len(body):
            raise bad_message(
                f"got {len(body)} bytes of a SIP message's body, its Content-Length is {length}"
            )
        body = body[: int(length)]
    start = first.split(" ")
    if start[0] == VERSION and len(start) > 1 and re.fullmatch("[1-6][0-9]{2}", start[1]):
        return Response(headers, body, int(start[1]))
    if len(start) != 3 or start[2] != VERSION or not _METHOD.fullmatch(start[0]) or not start[1]:
        raise bad_message(f"got {shown(first)}, expected the first line of a SIP message")
    return Request(headers, body, start[0], start[1])


def checked(request: Request) -> None:
    """Check what every request has to have (section 8.1.1).

    Raises:
        ProtocolError: ``BAD_MESSAGE``.
    """
    for name in ("via", "from", "to", "call-id", "cseq"):
        if not request.get(name):
            raise bad_message(f"got a {request.method} without {name.title()}")
    number, method = request.cseq
    if not 0 <= number < 1 << 31 or method != request.method:
        raise bad_message(
            f"got CSeq {shown(request.get('cseq'))}, expected a number and {request.method}"
        )
    if not request.tag("from"):
        raise bad_message(f"got a {request.method} whose From has no tag")


class StreamParser:
    """Cuts the bytes of a TCP connection into messages (section 18.3)."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._looked_at = 0
        self._end: int | None = None  # of the message that has begun

    def receive(self, data: bytes) -> tuple[list[bytes], int]:
        """Take bytes, any number; return whole messages, and how many pings came between them.

        A ping is two empty lines, to be answered with one (RFC 5626, section 4.4.1).

        Raises:
            ProtocolError: ``BAD_MESSAGE``: this is not SIP, and where a message ends is not known.
        """
        self._bytes += data
        messages: list[bytes] = []
        pings = 0
        while True:
            while self._end is None and self._bytes[:2] == b"\r\n":
                if self._bytes[:4] != b"\r\n\r\n":
                    break
                del self._bytes[:4]
                pings += 1
            if self._end is None and not self._find_end():
                break
            assert self._end is not None, "it was found"
            if len(self._bytes) < self._end:
                break
            messages.append(bytes(self._bytes[: self._end]))
            del self._bytes[: self._end]
            self._end, self._looked_at = None, 0
        return messages, pings

    def _find_end(self) -> bool:
        """Find the end of the message; return False if more of its headers has to come."""
        found = _END.search(self._bytes, 2 if self._bytes[:2] == b"\r\n" else self._looked_at)
        if found is None:
            # The end may lie across two reads.
            self._looked_at = max(0, len(self._bytes) - 3)
            if len(self._bytes) > MAX_MESSAGE_BYTES:
                raise bad_message("got no end of a SIP message's headers, expected an empty line")
            return False
        length = _LENGTH.search(bytes(self._bytes[: found.start() + 1]))
        if length is None:
            raise bad_message("got a SIP message without Content-Length over TCP")
        if found.end() + int(length[1]) > MAX_MESSAGE_BYTES:
            raise bad_message(
                f"got a SIP message of {found.end() + int(length[1])} bytes,"
                f" expected at most {MAX_MESSAGE_BYTES}"
            )
        self._end = found.end() + int(length[1])
        return True


def encode_request(
    method: str, uri: str, headers: Iterable[tuple[str, str]], body: bytes = b""
) -> bytes:
    return _encoded(f"{method} {uri} {VERSION}", headers, body)


def encode_response(
    request: Request,
    status: int,
    reason: str,
    *,
    tag: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    received: tuple[str, int] | None = None,
) -> bytes:
    """Return the response to a request (section 8.2.6).

    Args:
        tag: of this side, where the request has none.
        received: address and port that the request came from; None: its client is answered as
            its Via says.
    """
    copied: list[tuple[str, str]] = []
    for at, value in enumerate(request.all("via")):
        if at == 0 and received is not None:
            value = _stamped(value, received)
        copied.append(("Via", value))
    to = request.get("to")
    if tag and not request.tag("to"):
        to += f";tag={tag}"
    copied += [
        ("From", request.get("from")),
        ("To", to),
        ("Call-ID", request.get("call-id")),
        ("CSeq", request.get("cseq")),
    ]
    return _encoded(f"{VERSION} {status} {_one_line(reason)}", (*copied, *headers), body)


def _encoded(first: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines = [first, *(f"{name}: {_one_line(value)}" for name, value in headers if value)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def _one_line(text: str) -> str:
    # What came from outside must not become a header of its own.
    return _UNPRINTABLE.sub(" ", text)


def _stamped(via: str, received: tuple[str, int]) -> str:
    """Return a Via with where it came from (RFC 3261, section 18.2.1; RFC 3581, section 4)."""
    first, *rest = via.split(";")
    names = [_parameter(each)[0] for each in rest]
    kept = [
        each for each, name in zip(rest, names, strict=True) if name not in ("rport", "received")
    ]
    kept.append(f"received={received[0]}")
    if "rport" in names:
        kept.append(f"rport={received[1]}")
    return ";".join((first, *kept))


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip()


def _unfolded(lines: Sequence[str]) -> list[str]:
    """Join lines that begin with a space to the one before (section 7.3.1)."""
    joined: list[str] = []
    for line in lines:
        if line[:1] in (" ", "\t") and joined:
            joined[-1] += " " + line.strip()
        elif line:
            joined.append(line)
        if len(joined) > MAX_HEADERS:
            raise bad_message(f"got a SIP message of more than {MAX_HEADERS} headers")
    return joined


def _headers(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise bad_message(f"got {shown(line)}, expected a header of a SIP message")
        name = name.strip().lower()
        name = _COMPACT.get(name, name)
        parts = split_list(value) if name in _LISTS else [value.strip()]
        for part in parts:
            yield name, part


def split_list(value: str) -> list[str]:
    """Split a value at its commas, but not within quotes or angle brackets."""
    parts, start, is_quoted, depth = [], 0, False, 0
    for at, character in enumerate(value):
        if character == '"':
            is_quoted = not is_quoted
        elif not is_quoted and character in "<>":
            depth += 1 if character == "<" else -1
        elif character == "," and not is_quoted and depth <= 0:
            parts.append(value[start:at].strip())
            start = at + 1
    parts.append(value[start:].strip())
    return [part for part in parts if part]
