"""What a file is to be analysed for, as the fields of a form or JSON say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from dashboard.errors import ApiError
from ser_engine.errors import ConfigError
from ser_engine.files import Granularity
from ser_engine.files.options import roles_of

_GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
_HOPS_MS = (10, 20)
_FIELDS = ("granularity", "frame_hop_ms", "embeddings", "speakers", "roles")
_SHOWN = 60

# The fields as JSON Schema.
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
    "roles": {
        "type": "string",
        "description": "who speaks in each channel, e.g. customer,agent; only roles of the setting"
        " stream_server.streams.analyse_roles are analysed. Default: speaker in all of them",
    },
    "preset": {
        "type": "string",
        "description": "name of one of the settings' presets; the other fields override it",
    },
}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to analyse a file.

    Attributes:
        frame_hop_ms: 20, or 10 with a second pass.
        embeddings: keep those of every frame; an utterance always has its own.
        roles: who speaks in each channel; (): ``speaker`` in all of them.
        preset: where the values that were not given come from, or "".
    """

    granularity: Granularity = "utterance"
    frame_hop_ms: int = 20
    embeddings: bool = False
    speakers: bool = False
    roles: tuple[str, ...] = ()
    preset: str = ""


def options_of(
    given: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the fields of :class:`Options`: as given, else of the preset, else the defaults.

    ``given``: text as in a form, or values as in JSON.

    Raises:
        ApiError: a field, the preset or a value is unknown.
    """
    unknown = next((name for name in given if name not in (*_FIELDS, "preset")), None)
    if unknown is not None:
        allowed = ", ".join((*_FIELDS, "preset"))
        raise _bad(f"unknown field '{unknown[:_SHOWN]}', expected some of {allowed}")
    preset = given.get("preset", "")
    if preset and preset not in presets:
        allowed = f"expected one of {', '.join(sorted(presets))}" if presets else "there are none"
        raise _bad(f"unknown preset '{str(preset)[:_SHOWN]}', {allowed}")
    # A preset of the settings may also say what only the command line uses.
    named = {key: value for key, value in presets.get(preset, {}).items() if key in _FIELDS}
    values = {name: given[name] for name in _FIELDS if given.get(name) is not None}
    if isinstance(text := values.get("roles"), str):
        try:
            values["roles"] = roles_of(text)
        except ConfigError as error:
            raise _bad(str(error)) from None
    try:
        options = msgspec.convert({**named, **values, "preset": preset}, type=Options, strict=False)
    except msgspec.ValidationError as error:
        raise _bad(f"the options do not match: {str(error)[:200]}") from None
    if options.frame_hop_ms not in _HOPS_MS:
        raise _bad(f"frame_hop_ms is {options.frame_hop_ms}, expected 10 or 20")
    return {**msgspec.structs.asdict(options), "roles": list(options.roles)}


def _bad(message: str) -> ApiError:
    return ApiError("bad_request", message)
