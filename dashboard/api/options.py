"""What a file is to be analysed for, as fields of a form or as JSON spell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from dashboard.errors import ApiError
from ser_engine.offline import Granularity

__all__ = ["FORM_FIELDS", "Options", "options_of"]

_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_HOPS_MS = (10, 20)
_FIELDS = ("granularity", "frame_hop_ms", "embeddings", "speakers")

FORM_FIELDS: dict[str, Any] = {
    "granularity": {"type": "string", "enum": list(_GRANULARITIES), "default": "utterance"},
    "frame_hop_ms": {
        "type": "integer",
        "enum": list(_HOPS_MS),
        "default": 20,
        "description": "from frame to frame; 10 takes a second pass",
    },
    "embeddings": {
        "type": "boolean",
        "default": False,
        "description": "keep those of every frame; an utterance always has its own",
    },
    "speakers": {
        "type": "boolean",
        "default": False,
        "description": "tell the speakers of each channel apart",
    },
    "preset": {
        "type": "string",
        "description": "name of one of the settings' presets; the other fields come before it",
    },
}
"""As a schema."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        granularity: ``utterance``, ``frame`` or ``stream``.
        frame_hop_ms: 20, or 10.
        embeddings: keep those of every frame.
        speakers: tell the speakers of each channel apart.
        preset: where the others come from, or "".
    """

    granularity: Granularity = "utterance"
    frame_hop_ms: int = 20
    embeddings: bool = False
    speakers: bool = False
    preset: str = ""


def options_of(
    given: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return options: as they are given, else as the preset has them, else the defaults.

    Args:
        given: by name; text, as in a form, or values, as in JSON.
        presets: what there is, by name.

    Raises:
        ApiError: an option or the preset is not known, or a value is none.
    """
    unknown = next((name for name in given if name not in (*_FIELDS, "preset")), None)
    if unknown is not None:
        expected = ", ".join((*_FIELDS, "preset"))
        raise ApiError(
            "bad_request", f"got the field '{unknown[:60]}', expected some of {expected}"
        )
    preset = given.get("preset", "")
    if preset and preset not in presets:
        expected = ", ".join(sorted(presets)) or "none: there are none"
        raise ApiError(
            "bad_request", f"got preset '{str(preset)[:60]}', expected one of {expected}"
        )
    values = {name: given[name] for name in _FIELDS if given.get(name) is not None}
    named = {key: value for key, value in presets.get(preset, {}).items() if key in _FIELDS}
    try:
        options = msgspec.convert({**named, **values, "preset": preset}, type=Options, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError("bad_request", f"got options that are wrong: {str(error)[:200]}") from None
    if options.frame_hop_ms not in _HOPS_MS:
        raise ApiError("bad_request", f"got frame_hop_ms {options.frame_hop_ms}, expected 10 or 20")
    return msgspec.structs.asdict(options)
