"""Results that were had before: of the same content, model and settings.

What is kept is the analysis and nothing of where it came from: not the audio, not the file's name.
What somebody felt is sensitive all the same, so the folder is its owner's, and entries expire.

Frozen dataclasses with arrays, as one file and back, exactly.

::

    NPZ file ── document   JSON, as bytes: dataclasses by name, arrays by number
             ── a0, a1 …   the arrays

The file is a ZIP archive: every part has a checksum, so that a damaged one is noticed. Nothing in
it is code (no pickle), and only classes that the reader names are made.

By what a file is known to be unchanged without being read.

What names the result of an analysis: two with one key are the same result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from ser_engine.config import EngineConfig, OfflineConfig
from ser_engine.errors import AudioError
from ser_engine.files.folders import BoundedFolder
from ser_engine.files.options import AnalysisOptions, options_in_effect
from ser_engine.files.results import (
    ChannelAnalysis,
    FileAnalysis,
    FrameResult,
    PieceResult,
    SpeakerResult,
    StreamResult,
    UtteranceResult,
)
from ser_engine.labels import Label, LabelSet
from ser_engine.schema import Frames, Gap, Point, Segment, Warning
from ser_engine.speakers.diariser import Turn
from ser_engine.types import ModelInfo

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
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        plain = {name: _encode(getattr(value, name), arrays) for name in names}
        return {_CLASS: type(value).__name__, **plain}
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


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file's state.

    Attributes:
        size_bytes: length.
        modified_ns: when its content was changed last, as it says itself.
        changed_ns: when anything about it was changed last, which nobody can set.
    """

    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return that of a file, or None where there is no file that has content to read."""
        try:
            status = path.stat()
        except OSError:
            return None
        if not path.is_file():
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


_FORMAT = 2
"""Raised when the same input gives another result than before, or is kept in another form: entries
of before are then never asked for, and go when there is no room for them."""


def analysis_key(
    content_sha256: str, info: ModelInfo, options: AnalysisOptions, config: EngineConfig
) -> str:
    """Return the key of a result: 64 hex digits.

    In it are the file's content, the model's, the options as far as they make a difference, and
    the settings that decide about the result. A file's name is not.

    Args:
        content_sha256: see :func:`file_sha256`.
        info: the model.
        options: what is asked for.
        config: lengths, detector, smoothing, runtime.
    """
    effective = options_in_effect(options, config)
    offline = asdict(config.offline)
    model = asdict(config.model)
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "content": content_sha256,
        "model": [info.name, info.sha256],
        "options": asdict(effective),
        # Arithmetic differs between runtimes, by a hundredth where it is int8.
        "runtime": {
            name: model[name]
            for name in ("device", "runtime", "precision", "features", "feature_tolerance")
        },
        "offline": {
            name: offline[name] for name in ("max_pass_s", "segment_min_s", "segment_max_s")
        },
        "vad": asdict(config.vad),
    }
    if effective.speakers:
        parts["speakers"] = asdict(config.speakers)
    if effective.granularity != "utterance":
        parts |= {"timeline": asdict(config.timeline), "smoothing": asdict(config.smoothing)}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, hex. The file is read piece by piece.

    Raises:
        AudioError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from None


_CLASSES: dict[str, type[Any]] = {
    each.__name__: each
    for each in (
        *(FileAnalysis, ChannelAnalysis, SpeakerResult, Turn, PieceResult, Warning),
        *(UtteranceResult, FrameResult, StreamResult, Point, Segment, Gap, Frames),
        *(AnalysisOptions, ModelInfo, LabelSet, Label),
    )
}
_DAY_S = 86_400.0


def pack_analysis(analysis: FileAnalysis) -> bytes:
    """Return an analysis as bytes."""
    return pack(analysis)


def unpack_analysis(data: bytes) -> FileAnalysis:
    """Return the analysis that :func:`pack_analysis` made the bytes of, exactly.

    Raises:
        DamagedDataError: they are cut off, altered, or of another version of this program.
    """
    analysis = unpack(data, _CLASSES)
    if not isinstance(analysis, FileAnalysis):
        raise DamagedDataError(f"got a {type(analysis).__name__}, expected an analysis")
    return analysis


class ResultCache:
    """Keeps analyses by their key (:mod:`ser_engine.files.cache`).

    Several processes and threads may share a folder. Calls read and write files: a shell with an
    event loop makes them in a thread.

    Args:
        config: folder, size and age.
        clock: seconds since 1970.
    """

    def __init__(self, config: OfflineConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._folder: BoundedFolder | None = None
        if config.cache_mb:
            self._folder = BoundedFolder(
                Path(config.cache_dir).expanduser(),
                config.cache_mb << 20,
                config.cache_days * _DAY_S,
                clock=clock,
            )

    def get(self, key: str, name: str) -> FileAnalysis | None:
        """Return the analysis with that key, or None.

        Args:
            key: of content, model and settings.
            name: of the file that is asked about; content knows no name.
        """
        if self._folder is None or (data := self._folder.get(key)) is None:
            return None
        try:
            return replace(unpack_analysis(data), name=name)
        except DamagedDataError:
            self._folder.remove(key)
            return None

    def put(self, key: str, analysis: FileAnalysis) -> bool:
        """Keep an analysis; return whether it is kept: it may be too large, or the disk full."""
        if self._folder is None or analysis.num_bytes > self._folder.max_bytes:
            return False
        return self._folder.put(key, pack_analysis(replace(analysis, name="")))

    def clear(self) -> None:
        """Forget every analysis."""
        if self._folder is not None:
            self._folder.clear()
