"""Codecs and containers that live audio may come in; a new one is an entry of :data:`CODECS`.

What is listed here FFmpeg decodes as it comes (``stream_server/decoding``); the rest of the server
sees 16-bit samples at the rate that the client told.
"""

from __future__ import annotations

from dataclasses import dataclass

from stream_server.wire.errors import ErrorCode, ProtocolError

DEFAULT_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How one of them is read: as a container, or as packets that a decoder takes.

    Attributes:
        container: FFmpeg's name of the format; "": packets.
        decoder: FFmpeg's name of the decoder of packets; "": the container says.
        packet_bytes: of each packet; several: by the frame type in its first byte, 0: there is no
            such type; none: a message is a packet.
        decoder_hz: rate that the decoder of packets is opened with.
        rate_hz: of the samples, where the client tells none.
        begins: what :func:`~stream_server.wire.containers.container_of` calls such a stream; "":
            it has no signature.
    """

    words: str
    container: str = ""
    decoder: str = ""
    packet_bytes: tuple[int, ...] = ()
    decoder_hz: int = 0
    rate_hz: int = DEFAULT_RATE_HZ
    max_channels: int = 8
    begins: str = ""


AUTO = "auto"
"""The encoding of a stream whose first bytes say which of the containers it is."""

CODECS: dict[str, Codec] = {
    "webm": Codec(words="WebM or Matroska", container="matroska", begins="WebM or Matroska"),
    "ogg": Codec(words="Ogg (Opus, Vorbis, FLAC)", container="ogg", begins="Ogg"),
    "mp4": Codec(words="fragmented MP4 (AAC, Opus)", container="mov", begins="MP4"),
    "flac": Codec(words="FLAC", container="flac", begins="FLAC"),
    "mp3": Codec(words="MP3", container="mp3", begins="MP3"),
    "aac": Codec(words="AAC with ADTS headers", container="aac", begins="AAC"),
    "wav": Codec(words="WAV", container="wav", begins="WAV"),
    "amr": Codec(words="AMR with a header", container="amr", max_channels=1, begins="AMR"),
    # Frames as RFC 4867 stores them, section 5.3, without the file's header.
    "amr-nb": Codec(
        words="AMR-NB frames",
        decoder="amrnb",
        packet_bytes=(13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1),
        decoder_hz=8000,
        rate_hz=8000,
        max_channels=1,
    ),
    "amr-wb": Codec(
        words="AMR-WB frames",
        decoder="amrwb",
        packet_bytes=(18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1),
        decoder_hz=16_000,
        max_channels=1,
    ),
    "opus": Codec(
        words="Opus packets, one a message", decoder="opus", decoder_hz=48_000, max_channels=2
    ),
    "g722": Codec(
        words="G.722", decoder="g722", packet_bytes=(1,), decoder_hz=16_000, max_channels=1
    ),
    "g729": Codec(
        words="G.729, frames of 10 bytes",
        decoder="g729",
        packet_bytes=(10,),
        decoder_hz=8000,
        rate_hz=8000,
        max_channels=1,
    ),
}

CODED: tuple[str, ...] = (*CODECS, AUTO)
"""Values of ``encoding`` for audio that has to be decoded."""

_LOOSE = frozenset(("opus", "amr-nb", "amr-wb"))
"""Names that clients also give to the same codec in a container, which its first bytes show."""


def default_rate_hz(name: str) -> int:
    """Return the rate of the samples of an encoding, where the client tells none."""
    return CODECS[name].rate_hz if name in CODECS else DEFAULT_RATE_HZ


def codec_of(name: str, found: str | None, *, is_all: bool) -> Codec | None:
    """Return how a stream is read; None: more of it has to come.

    Args:
        found: what its first bytes are, as
            :func:`~stream_server.wire.containers.container_of` calls it.
        is_all: no more of its first bytes will be looked at.

    Raises:
        ProtocolError: BAD_FORMAT: it is none of those that can be read, or another than told.
    """
    told = CODECS.get(name)
    by_content = next((each for each in CODECS.values() if found and each.begins == found), None)
    if told is not None:
        # A beginning is compared only where it is known: MP3 takes two frames to be sure.
        if found is None or found == told.begins:
            return told
        if name in _LOOSE and by_content is not None:
            return by_content
        raise ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"got {found}, expected {told.words} as encoding '{name}' says; declare what is"
            f" sent, or encoding '{AUTO}'",
        )
    if by_content is not None:
        return by_content
    if found is None and not is_all:
        return None
    raise ProtocolError(
        ErrorCode.BAD_FORMAT,
        f"got {found or 'audio whose first bytes do not say what it is'}, expected one of"
        f" {', '.join(each.begins for each in CODECS.values() if each.begins)}; declare the"
        " encoding of anything else",
    )
