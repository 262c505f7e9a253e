"""Which of the offered media is taken."""

from __future__ import annotations

from collections.abc import Sequence

from stream_server.protocol.audio_format import SAMPLE_RATES_HZ, AudioFormat, Encoding
from stream_server.protocol.audiohook.messages import MediaOffer
from stream_server.protocol.client_messages import ChannelSpec
from stream_server.protocol.errors import ErrorCode, ProtocolError

__all__ = ["EXTERNAL", "INTERNAL", "channels_of", "choose_media", "format_of"]

EXTERNAL = "external"
INTERNAL = "internal"

_ENCODINGS: dict[str, Encoding] = {"PCMU": "mulaw", "L16": "pcm_s16le"}
"""``L16`` is not in network byte order here (RFC 3551, section 4.5.11): the platform's reference
implementation reads and writes it in that of its machine, which is little-endian."""

_CHANNELS = {(EXTERNAL, INTERNAL), (INTERNAL, EXTERNAL), (EXTERNAL,), (INTERNAL,)}


def choose_media(offers: Sequence[MediaOffer]) -> MediaOffer:
    """Return the best: both sides of the call, else who called; µ-law rather than linear PCM.

    Raises:
        ProtocolError: BAD_FORMAT, none is known.
    """
    known = [offer for offer in offers if _is_known(offer)]
    if not known:
        raise ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"got {len(offers)} media, none of them audio of 'external' or 'internal' in PCMU or"
            " L16, expected at least one",
        )
    return min(known, key=_rank)


def format_of(offer: MediaOffer) -> AudioFormat:
    """Return how its audio is encoded."""
    return AudioFormat(
        encoding=_ENCODINGS[offer.format],
        sample_rate_hz=offer.rate,
        num_channels=len(offer.channels),
    )


def channels_of(offer: MediaOffer, roles: tuple[str, str]) -> tuple[ChannelSpec, ...]:
    """Return its channels.

    Args:
        offer: the chosen one.
        roles: of ``external`` and of ``internal``.
    """
    role_of = dict(zip((EXTERNAL, INTERNAL), roles, strict=True))
    return tuple(ChannelSpec(role=role_of[name], name=name) for name in offer.channels)


def _is_known(offer: MediaOffer) -> bool:
    return (
        offer.type == "audio"
        and offer.format in _ENCODINGS
        and offer.channels in _CHANNELS
        and offer.rate in SAMPLE_RATES_HZ
    )


def _rank(offer: MediaOffer) -> tuple[int, bool, bool]:
    return (-len(offer.channels), EXTERNAL not in offer.channels, offer.format != "PCMU")
