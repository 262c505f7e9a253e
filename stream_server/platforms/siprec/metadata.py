"""The body of a recording session's INVITE (RFC 7866, section 9; RFC 7865): what matters here.

A multipart body has the session description and the recording's metadata, XML that says which
participant sends which media line::

    participant ─ participantstreamassoc/send ─▶ stream ─ label ─▶ a=label of a media line

Some clients leave parts out or name them as drafts did, so ids are looked for by both names, and
where streams are missing the participants count in the order of the media lines.

XML from outside is hostile until proven otherwise: its size and depth are bounded, and a document
type, which entities need, is refused before anything is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from xml.parsers import expat

from stream_server.platforms.siprec.messages import Message
from stream_server.wire.dialect import bad_message
from stream_server.wire.errors import shown

MAX_PARTS = 16
MAX_ELEMENTS = 4000
MAX_DEPTH = 32
MAX_TEXT = 1024
"""Characters of a text or attribute that are looked at."""

_SDP = "application/sdp"
# RFC 7866 has the second, RFC 9806 corrects it to the first.
_METADATA = ("application/rs-metadata+xml", "application/rs-metadata")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


def body_parts(message: Message) -> tuple[bytes, bytes]:
    """Return the session description and the metadata of a message; b"": it has none.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: the body is not as its type says.
    """
    kind = message.get("content-type")
    found: dict[str, bytes] = {}
    for name, data in _parts(kind, message.body):
        name = _SDP if name == _SDP else "metadata" if name in _METADATA else ""
        if name:
            found.setdefault(name, data)
    return found.get(_SDP, b""), found.get("metadata", b"")


def _parts(kind: str, body: bytes) -> list[tuple[str, bytes]]:
    name = kind.partition(";")[0].strip().lower()
    if not name.startswith("multipart/"):
        return [(name, body)]
    found = _BOUNDARY.search(kind)
    if found is None:
        raise bad_message(f"got Content-Type {shown(kind)}, expected a boundary in it")
    mark = b"--" + (found[1] or found[2]).encode()
    # The line break before a boundary belongs to it (RFC 2046, section 5.1.1).
    _, *parts = re.split(rb"(?:^|\r?\n)" + re.escape(mark), body, maxsplit=MAX_PARTS + 1)
    if not parts or len(parts) > MAX_PARTS:
        raise bad_message(f"got a body of {len(parts)} parts, expected 1 to {MAX_PARTS}")
    listed = []
    for part in parts:
        if part.startswith(b"--"):
            break
        head, _, data = part.replace(b"\r\n", b"\n").partition(b"\n\n")
        types = [
            line.partition(":")[2].partition(";")[0].strip().lower()
            for line in head.decode("utf-8", "replace").split("\n")
            if line.lower().startswith("content-type:")
        ]
        listed.append((types[0] if types else "text/plain", data))
    return listed


@dataclass(slots=True)
class Participant:
    """Somebody in the call, with addresses and names in lower case; not kept."""

    names: list[str] = field(default_factory=list, repr=False)
    sends: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RecordingMetadata:
    """What the metadata says of the call."""

    session_id: str = ""
    participants: dict[str, Participant] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def senders(self, label: str, index: int) -> list[Participant]:
        """Return who is heard on a media line; by its index where nothing says who sends what."""
        streams = {stream for stream, each in self.labels.items() if each == label}
        senders = [one for one in self.participants.values() if streams & set(one.sends)]
        if senders or any(one.sends for one in self.participants.values()):
            return senders
        return list(self.participants.values())[index : index + 1]


def parse_metadata(data: bytes) -> RecordingMetadata:
    """Parse ``application/rs-metadata+xml``.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is not well formed, has a document type, or is too big.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data.strip(), True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise bad_message(f"got recording metadata that is not XML: {error}") from None
    return reader.metadata


class _Reader:
    """Collects what matters while the document is parsed."""

    def __init__(self) -> None:
        self.metadata = RecordingMetadata()
        self._path: list[str] = []
        self._num_elements = 0
        self._participant: Participant | None = None
        self._stream = ""
        self._text = ""

    def doctype(self, *_: object) -> None:
        raise bad_message("got recording metadata with a document type, expected none")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self._path.append(name)
        self._num_elements += 1
        if len(self._path) > MAX_DEPTH or self._num_elements > MAX_ELEMENTS:
            raise bad_message(
                f"got recording metadata of more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels"
            )
        self._text = ""

        def attribute(*names: str) -> str:
            return next((attributes[each][:MAX_TEXT] for each in names if each in attributes), "")

        match name:
            case "participant" | "participantstreamassoc":
                self._participant = self.metadata.participants.setdefault(
                    attribute("participant_id", "id"), Participant()
                )
            case "stream":
                self._stream = attribute("stream_id", "id")
            case "session":
                self.metadata.session_id = self.metadata.session_id or attribute("session_id", "id")
            case "nameID" if self._participant is not None:
                self._participant.names.append(attribute("aor").lower())

    def text(self, data: str) -> None:
        if len(self._text) < MAX_TEXT:
            self._text += data[:MAX_TEXT]

    def end(self, tag: str) -> None:
        name, text = self._path.pop(), self._text.strip()
        match name:
            case "participant" | "participantstreamassoc":
                self._participant = None
            case "name" | "aor" if self._participant is not None and text:
                self._participant.names.append(text.lower())
            case "send" if self._participant is not None and text:
                self._participant.sends.append(text)
            case "label" if self._stream:
                self.metadata.labels[self._stream] = text
            case "stream":
                self._stream = ""
        self._text = ""


MIXED_ROLE = "mixed"
"""Of several people on one media line; see docs/how-to/privacy.md."""


def roles_of_lines(
    metadata: RecordingMetadata,
    lines: Sequence[tuple[int, str]],
    roles: tuple[str, str],
    agents: Sequence[str],
) -> list[str]:
    """Return the role of each of one or two media lines; ``agents`` are patterns of names.

    Where none of them tells the lines apart, the first line is the customer's.
    """
    senders = [metadata.senders(label, index) for index, label in lines]
    if len(lines) == 1 and len(senders[0]) > 1:
        return [MIXED_ROLE]
    works_here = [
        any(_matches(name, agents) for each in one for name in each.names) for one in senders
    ]
    if any(works_here):
        return [roles[1] if each else roles[0] for each in works_here]
    return list(roles[: len(lines)])


def _matches(name: str, patterns: Sequence[str]) -> bool:
    # sip:1001@pbx.example.org;transport=udp: parameters are not part of who it is.
    address = name.partition(";")[0]
    bare = address.partition(":")[2] if address.startswith(("sip:", "sips:", "tel:")) else address
    return any(
        fnmatchcase(each, pattern.lower()) for pattern in patterns for each in (address, bare)
    )
