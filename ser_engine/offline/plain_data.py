"""Frozen dataclasses with arrays, as one file and back, exactly.

::

    NPZ file ── document   JSON, as bytes: dataclasses by name, arrays by number
             ── a0, a1 …   the arrays

The file is a ZIP archive: every part has a checksum, so that a damaged one is noticed. Nothing in
it is code (no pickle), and only classes that the reader names are made.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DamagedDataError", "pack", "unpack"]

_DOCUMENT = "document"
_CLASS, _ARRAY, _MAPPING = "$class", "$array", "$map"


class DamagedDataError(Exception):
    """The bytes are not what :func:`pack` made of the classes named."""


def pack(value: object) -> bytes:
    """Return a dataclass as bytes.

    Fields may hold numbers, text, None, tuples (lists come back as tuples), mappings with text
    keys, numeric arrays and dataclasses of such fields.

    Raises:
        TypeError: a field holds something else.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    document = json.dumps(_encode(value, arrays), ensure_ascii=False).encode()
    file = io.BytesIO()
    arrays[_DOCUMENT] = np.frombuffer(document, dtype=np.uint8)
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpack(data: bytes, classes: Mapping[str, type[Any]]) -> Any:
    """Return what was packed.

    Args:
        data: what :func:`pack` returned.
        classes: dataclasses that may occur, by name.

    Raises:
        DamagedDataError: the data are cut off, altered, or of other classes or fields.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
        return _decode(document, arrays, classes)
    except (
        AttributeError,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise DamagedDataError(f"got data that cannot be read: {error}") from error


def _encode(value: object, arrays: dict[str, npt.NDArray[Any]]) -> object:
    match value:
        case None | bool() | str():
            return value
        case np.generic():
            return value.item()
        case int() | float():
            return value
        case np.ndarray():
            if value.dtype.hasobject:
                raise TypeError(f"got an array of {value.dtype}, expected numbers")
            name = f"a{len(arrays)}"
            arrays[name] = value
            return {_ARRAY: name}
        case tuple() | list():
            return [_encode(each, arrays) for each in value]
        case Mapping():
            return {_MAPPING: {str(key): _encode(each, arrays) for key, each in value.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            each.name: _encode(getattr(value, each.name), arrays)
            for each in dataclasses.fields(value)
            if each.init
        }
        return {_CLASS: type(value).__name__, **fields}
    raise TypeError(f"got a {type(value).__name__}, expected plain data")


def _decode(
    value: Any, arrays: Mapping[str, npt.NDArray[Any]], classes: Mapping[str, type[Any]]
) -> Any:
    if isinstance(value, list):
        return tuple(_decode(each, arrays, classes) for each in value)
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[value[_ARRAY]]
    if _MAPPING in value:
        return {key: _decode(each, arrays, classes) for key, each in value[_MAPPING].items()}
    made = classes[value[_CLASS]]
    fields = {key: _decode(each, arrays, classes) for key, each in value.items() if key != _CLASS}
    return made(**fields)
