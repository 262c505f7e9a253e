"""Parameters of a query: declared once, for the check of requests and for the OpenAPI file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from multidict import MultiMapping

from dashboard.errors import ApiError

__all__ = ["Param", "read_query"]

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter that may be left out.

    Attributes:
        name: as it is written.
        kind: ``list``: words with commas between them, or the parameter several times.
        about: what it is for, for people.
        default: where it is left out.
        low, high: range of a number.
        choices: the words there are.
        max_length: of a text.
    """

    name: str
    kind: Literal["integer", "number", "boolean", "string", "list"]
    about: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    max_length: int = 200

    def read(self, values: Sequence[str]) -> Any:
        """Return the value that a query spells.

        Raises:
            ApiError: it is none.
        """
        if self.kind == "list":
            words = [part.strip() for value in values for part in value.split(",")]
            return tuple(self._word(word) for word in words if word) or self.default
        if len(values) > 1:
            raise _bad(f"'{self.name}' {len(values)} times", "it once")
        text = values[0]
        match self.kind:
            case "boolean":
                if text not in ("true", "false"):
                    raise _bad(f"{self.name} '{text[:_SHOWN]}'", "true or false")
                return text == "true"
            case "string":
                return self._word(text)
            case _:
                return self._number(text)

    def _word(self, text: str) -> str:
        if self.choices and text not in self.choices:
            raise _bad(f"{self.name} '{text[:_SHOWN]}'", f"some of {', '.join(self.choices)}")
        if len(text) > self.max_length:
            raise _bad(f"{self.name} of {len(text)} characters", f"{self.max_length} or fewer")
        return text

    def _number(self, text: str) -> float:
        try:
            value = int(text) if self.kind == "integer" and len(text) < 20 else float(text)
        except ValueError:
            value = math.nan
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= value <= high or not math.isfinite(value) or self._is_broken(value):
            kind = "a whole number" if self.kind == "integer" else "a number"
            raise _bad(f"{self.name} '{text[:_SHOWN]}'", f"{kind} from {low:g} to {high:g}")
        return value

    def _is_broken(self, value: float) -> bool:
        return self.kind == "integer" and not isinstance(value, int)

    def schema(self) -> dict[str, Any]:
        """Return the parameter as OpenAPI has it."""
        schema: dict[str, Any] = {"type": self.kind}
        if self.kind == "list":
            items: dict[str, Any] = {"type": "string"}
            schema = {"type": "array", "items": items}
        else:
            items = schema
        if self.choices:
            items["enum"] = list(self.choices)
        elif self.kind == "string":
            schema["maxLength"] = self.max_length
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        if self.default is not None:
            schema["default"] = self.default
        entry = {
            "name": self.name,
            "in": "query",
            "required": False,
            "description": self.about,
            "schema": schema,
        }
        return entry | ({"style": "form", "explode": False} if self.kind == "list" else {})


def read_query(query: MultiMapping[str], params: Sequence[Param]) -> Mapping[str, Any]:
    """Return the value of every parameter.

    Raises:
        ApiError: one is unknown or wrong.
    """
    known = {param.name: param for param in params}
    for name in query:
        if name not in known:
            expected = f"some of {', '.join(known)}" if known else "none"
            raise _bad(f"the parameter '{name[:_SHOWN]}'", expected)
    return {
        name: param.read(values) if (values := query.getall(name, [])) else param.default
        for name, param in known.items()
    }


def _bad(got: str, expected: str) -> ApiError:
    return ApiError("bad_request", f"got {got}, expected {expected}")
