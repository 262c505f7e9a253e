"""Whether a value is what a JSON schema says: the words of it that our own schemas use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["violations"]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_KNOWN = frozenset(
    (
        "$ref title description default type properties required additionalProperties items"
        " prefixItems minItems maxItems anyOf enum const discriminator maxLength minimum maximum"
        " format"
    ).split()
)


def violations(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a value, and where.

    An object is to have no property that its schema does not name.

    Args:
        value: decoded JSON.
        schema: what it is to be.
        root: where references lead.
    """
    yield from _check(value, schema, root, "$")


def _check(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str
) -> Iterator[str]:
    unknown = set(schema) - _KNOWN
    assert not unknown, f"this checker does not know {unknown}"
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from _check(value, target, root, at)
        return
    if "anyOf" in schema:
        found = [list(_check(value, choice, root, at)) for choice in schema["anyOf"]]
        if all(found):
            yield f"{at} is none of {len(found)} choices: {min(found, key=len)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at} is {value!r}, expected one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at} is {value!r}, expected {schema['const']!r}"
    kind = schema.get("type")
    if kind is None:
        return
    is_wrong = not isinstance(value, _TYPES[kind])
    if is_wrong or (isinstance(value, bool) and kind != "boolean"):
        yield f"{at} is a {type(value).__name__}, expected {kind}"
    elif kind == "object":
        yield from _check_object(value, schema, root, at)
    elif kind == "array":
        items = schema.get("prefixItems")
        schemas = items if items else [schema.get("items", {})] * len(value)
        if len(schemas) != len(value):
            yield f"{at} has {len(value)} items, expected {len(schemas)}"
            return
        for index, (one, inner) in enumerate(zip(value, schemas, strict=True)):
            yield from _check(one, inner or {}, root, f"{at}[{index}]")


def _check_object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], at: str
) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at} has no {name}"
    extra = schema.get("additionalProperties", not properties)
    for name, one in value.items():
        if name in properties:
            yield from _check(one, properties[name], root, f"{at}.{name}")
        elif extra is False:
            yield f"{at} has {name}, which is not described"
        elif isinstance(extra, dict):
            yield from _check(one, extra, root, f"{at}.{name}")
