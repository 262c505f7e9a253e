"""From what a telephone platform says of a call to a :class:`StreamSpec`.

A call is not refused for a parameter that is too long or too many: what does not fit is cut, as
nobody could correct it while the call runs. Roles are another matter: who is analysed is never
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from stream_server.protocol.audio_format import AudioFormat
from stream_server.protocol.client_messages import ChannelSpec, Start
from stream_server.protocol.start_check import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH, check_start
from stream_server.protocol.stream_spec import StreamSpec

__all__ = [
    "DTMF_MARK",
    "ROLES_PARAMETER",
    "call_spec",
    "fitting_metadata",
    "fitting_text",
    "roles_of",
]

DTMF_MARK = "dtmf"
"""Name of the mark that a pressed key becomes. Which key is not kept: people type card numbers."""

ROLES_PARAMETER = "roles"
"""Custom parameter that says who speaks on the inbound and on the outbound track, e.g.
``agent customer`` where the stream is of the agent's leg."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_BETWEEN_ROLES = re.compile(r"[^A-Za-z0-9_-]+")


def roles_of(parameters: Mapping[str, object], default: Sequence[str]) -> tuple[str, str]:
    """Return the roles of the inbound and the outbound track.

    Args:
        parameters: custom parameters of the call; see :data:`ROLES_PARAMETER`.
        default: roles of the settings.
    """
    said = str(parameters.get(ROLES_PARAMETER, ""))[:MAX_TEXT_LENGTH]
    named = [role for role in _BETWEEN_ROLES.split(said) if role]
    inbound, outbound = [*named, *(role for role in default if role not in named)][:2]
    return inbound, outbound


def call_spec(
    audio_format: AudioFormat,
    roles: Iterable[str],
    *,
    name: str,
    details: Mapping[str, object],
) -> StreamSpec:
    """Return the stream of a call, which is sent no results.

    Args:
        audio_format: of the audio as the dialect hands it on.
        roles: one a channel.
        name: of the stream; the platform's id of the call.
        details: kept with the stream, the most important first; what is no text, number or truth
            value is left out.

    Raises:
        ProtocolError: ``BAD_START``: a role is none.
    """
    return check_start(
        Start(
            encoding=audio_format.encoding,
            sample_rate=audio_format.sample_rate_hz,
            channels=tuple(ChannelSpec(role=role) for role in roles),
            name=fitting_text(name),
            metadata=fitting_metadata(details),
            wants=(),
        )
    )


def fitting_text(text: str) -> str:
    """Return ``text`` without control characters and not too long."""
    return _UNFIT.sub(" ", text[:MAX_TEXT_LENGTH])


def fitting_metadata(details: Mapping[str, object]) -> dict[str, str]:
    """Return the texts, numbers and truth values of ``details``, as many as a stream may have."""
    metadata: dict[str, str] = {}
    for key, value in details.items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63):
            text = str(value)
        else:
            continue
        if key and text:
            metadata[fitting_text(key)] = fitting_text(text)
        if len(metadata) == MAX_METADATA_ENTRIES:
            break
    return metadata
