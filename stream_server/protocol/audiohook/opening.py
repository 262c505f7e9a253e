"""From ``open`` to what the stream is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from stream_server.protocol.audiohook.media import channels_of, choose_media, format_of
from stream_server.protocol.audiohook.messages import (
    NULL_UUID,
    MediaOffer,
    OpenParameters,
    is_uuid,
)
from stream_server.protocol.client_messages import Want
from stream_server.protocol.errors import ErrorCode, ProtocolError, shown
from stream_server.protocol.start_check import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH
from stream_server.protocol.stream_spec import StreamSpec

__all__ = ["check_open", "is_probe"]

_CUSTOM_PREFIX = "custom."


def is_probe(parameters: OpenParameters) -> bool:
    """Whether it is a connection probe: the platform tries the connection, there is no call."""
    return parameters.conversation_id == parameters.participant.id == NULL_UUID


def check_open(
    parameters: OpenParameters,
    ids: Mapping[str, str],
    roles: tuple[str, str],
    wants: frozenset[Want],
) -> tuple[StreamSpec, MediaOffer]:
    """Return the stream that is asked for and the media it is to be sent in.

    Args:
        parameters: of ``open``.
        ids: of the handshake, kept with the stream; empty ones are left out.
        roles: of ``external`` and ``internal``.
        wants: which results the client is sent.

    Raises:
        ProtocolError: BAD_START or BAD_FORMAT.
    """
    if not is_uuid(parameters.conversation_id):
        raise ProtocolError(
            ErrorCode.BAD_START,
            f"got conversationId {shown(parameters.conversation_id)}, expected a UUID",
        )
    offer = choose_media(parameters.media)
    spec = StreamSpec(
        format=format_of(offer),
        channels=channels_of(offer, roles),
        name=parameters.conversation_id,
        metadata=dict(_metadata(parameters, ids)),
        wants=wants,
    )
    return spec, offer


def _metadata(parameters: OpenParameters, ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is kept, clipped rather than refused: a call is not lost for a long note."""
    entries = {
        "platform": "genesys",
        **ids,
        "organization_id": parameters.organization_id,
        "conversation_id": parameters.conversation_id,
        "participant_id": parameters.participant.id,
        "language": parameters.language or "",
        "continues": _continued(parameters),
    }
    for name, value in (parameters.custom_config or {}).items():
        entries[_CUSTOM_PREFIX + name] = _as_text(value)
    clipped = ((_clip(name), _clip(value)) for name, value in entries.items())
    kept = {name: value for name, value in clipped if value}
    yield from list(kept.items())[:MAX_METADATA_ENTRIES]


def _continued(parameters: OpenParameters) -> str:
    """Return the sessions this one goes on with, whole ones only."""
    ids = [each.id for each in parameters.continued_sessions or () if is_uuid(each.id)]
    return ",".join(ids[-(MAX_TEXT_LENGTH // (len(NULL_UUID) + 1)) :])


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _clip(text: str) -> str:
    """Return a text that can be kept: short, without control characters."""
    return "".join(
        character
        for character in text[:MAX_TEXT_LENGTH]
        if character >= " " and character != "\x7f" and not "\ud800" <= character <= "\udfff"
    )
