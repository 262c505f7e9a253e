"""Results of earlier analyses, kept on the disk and found again by content, model and settings.

An analysis holds emotions of people, which is sensitive: neither the audio nor the file's name is
kept with it, the folder is readable by its owner only, and entries expire. One entry is an NPZ
file, which is a ZIP archive: its checksums show damage, and nothing in it is code (no pickle)::

    document   JSON, as bytes: dataclasses by name, arrays by number
    a0, a1 …   the arrays
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import tempfile
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
from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.options import AnalysisOptions, options_in_effect
from ser_engine.files.results import (
    ChannelAnalysis,
    FrameResult,
    PieceResult,
    SpeakerResult,
    StreamResult,
    UtteranceResult,
)
from ser_engine.labels import Label, LabelSet
from ser_engine.raw_audio import RawFormat
from ser_engine.schema import (
    ChannelMeasures,
    Frames,
    Gap,
    Measures,
    Point,
    Segment,
    Voice,
    Warning,
)
from ser_engine.speakers import Turn
from ser_engine.types import ModelInfo

# Raised when the same input gives another result than before, or is kept in another form: older
# entries are then not found any more, and go when their room is needed.
_FORMAT = 4

_DAY_S = 86_400.0
_KEY = re.compile(r"[0-9a-f]{16,128}")
# Age from which on a file that is being written belongs to a process that was killed.
_ABANDONED_S = 3600.0
_DOCUMENT = "document"
_CLASS, _ARRAY, _MAPPING = "$class", "$array", "$map"
_CLASSES: dict[str, type[Any]] = {
    each.__name__: each
    for each in (
        *(FileAnalysis, ChannelAnalysis, SpeakerResult, Turn, PieceResult, Warning),
        *(UtteranceResult, FrameResult, StreamResult, Point, Segment, Gap, Frames),
        *(Measures, ChannelMeasures, Voice),
        *(AnalysisOptions, RawFormat, ModelInfo, LabelSet, Label),
    )
}


class ResultCache:
    """Keeps analyses by their :func:`analysis_key`; with ``cache_mb: 0`` it keeps none.

    Several processes and threads may share a folder. Calls read and write files, so that code in
    an event loop has to make them in a thread.

    Args:
        config: ``cache_dir``, ``cache_mb`` and ``cache_days``.
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
        """Return the analysis with that key under ``name``, or None."""
        if self._folder is None or (data := self._folder.get(key)) is None:
            return None
        try:
            return replace(unpack_analysis(data), name=name)
        except DamagedDataError:
            self._folder.remove(key)
            return None

    def put(self, key: str, analysis: FileAnalysis) -> bool:
        """Keep an analysis without its name; return whether it is kept (see the folder's put)."""
        # num_bytes counts the arrays: packing hundreds of MiB in vain would double the memory.
        if self._folder is None or analysis.num_bytes > self._folder.max_bytes:
            return False
        return self._folder.put(key, pack_analysis(replace(analysis, name="")))

    def clear(self) -> None:
        if self._folder is not None:
            self._folder.clear()


_OPTIONAL = ("raw", "roles", "analyse_roles")


def analysis_key(
    content_sha256: str, info: ModelInfo, options: AnalysisOptions, config: EngineConfig
) -> str:
    """Return the key of a result, 64 hex digits: analyses with one key have the same result.

    It covers the file's content (:func:`file_sha256`) but not its name, the model's weights, the
    options as far as they make a difference, and the settings that the result depends on.
    """
    effective = options_in_effect(options, config)
    offline = asdict(config.offline)
    model = asdict(config.model)
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "content": content_sha256,
        "model": [info.name, info.sha256],
        "abstain_below": config.smoothing.abstain_threshold(info.abstain_below),
        # What was not asked for is left out: keys are as before it could be.
        "options": {k: v for k, v in asdict(effective).items() if v or k not in _OPTIONAL},
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
    if config.offline.pooling != "auto":
        parts["pooling"] = config.offline.pooling
    if effective.speakers:
        parts["speakers"] = asdict(config.speakers)
    if effective.granularity != "utterance":
        parts |= {"timeline": asdict(config.timeline), "smoothing": asdict(config.smoothing)}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, hex, reading it in blocks.

    Raises:
        AudioError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """By what a file is known to be unchanged without being read.

    Attributes:
        size_bytes: length.
        modified_ns: when its content was changed last; programs can set it (``cp -p``, ``touch``).
        changed_ns: when anything about it was changed last (``st_ctime``); no program can set it.
    """

    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return that of a regular file, or None."""
        try:
            status = path.stat()
        except OSError:
            return None
        if not path.is_file():
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def pack_analysis(analysis: FileAnalysis) -> bytes:
    """Return an analysis as bytes, with its arrays as they are: float32 and float64."""
    return pack(analysis)


def unpack_analysis(data: bytes) -> FileAnalysis:
    """Return the analysis that :func:`pack_analysis` made the bytes of.

    Raises:
        DamagedDataError: they are cut off, altered, or of another version of this program.
    """
    analysis = unpack(data, _CLASSES)
    if not isinstance(analysis, FileAnalysis):
        raise DamagedDataError(f"got a {type(analysis).__name__}, expected an analysis")
    return analysis


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
    """Return the value that :func:`pack` made the bytes of, with the same types and bits.

    Args:
        classes: dataclasses that may occur, by name; no others are made.

    Raises:
        DamagedDataError: the data are cut off, altered, or of other classes or fields.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
        return _decode(document, arrays, classes)
    # What zipfile, numpy and json raise for damaged bytes, and dataclasses for other fields.
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
        # A field that is not set, as in messages, has that for its default.
        set_fields = {
            name: each
            for name in value.__struct_fields__
            if (each := getattr(value, name)) is not msgspec.UNSET
        }
        plain = {name: _encode(each, arrays) for name, each in set_fields.items()}
        return {_CLASS: type(value).__name__, **plain}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            each.name: _encode(getattr(value, each.name), arrays)
            for each in dataclasses.fields(value)
            if each.init  # the others follow from these
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
class _Entry:
    path: Path
    size_bytes: int
    put_s: float
    used_s: float


class BoundedFolder:
    """Entries of bytes by key, with a bound on their size; the one used longest ago goes first.

    Several processes may share the folder, and any of them may be killed at any time: an entry
    appears whole or not at all, and all that is known of it is in its file::

        <key>          the entry; modified: when it was put, accessed: when it was used last
        .<key>.….new   an entry that is being written

    Args:
        folder: made at the first entry, readable by its owner only.
        max_bytes: of all entries together; a larger one is not kept.
        max_age_s: entries put longer ago are removed; 0: no limit.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        max_age_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        """Return an entry, which counts as used now, or None.

        Args:
            key: 16 to 128 hexadecimal digits, lower case.

        Raises:
            ValueError: the key has another form.
        """
        path = self._path(key)
        try:
            put_s = path.stat().st_mtime
            if self._is_old(put_s):
                path.unlink()
                return None
            data = path.read_bytes()
            # Set by hand: file systems mounted with noatime do not keep the access time.
            os.utime(path, (self._clock(), put_s))
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Keep an entry, removing others if need be; return whether it is kept.

        It is not kept if it is too large or the folder cannot be written.

        Raises:
            ValueError: the key has another form.
        """
        path = self._path(key)
        if len(data) > self.max_bytes:
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path, data, self._clock())
            self._make_room(path)
        except OSError:
            return False
        return True

    def remove(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def clear(self) -> None:
        for entry in self._entries():
            with contextlib.suppress(OSError):
                entry.path.unlink()

    @property
    def size_bytes(self) -> int:
        """Size of all entries together."""
        return sum(entry.size_bytes for entry in self._entries())

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            # The key becomes a file name, and may come from outside.
            raise ValueError(f"got the key '{key[:40]}', expected 16 to 128 hexadecimal digits")
        return self._folder / key

    def _is_old(self, put_s: float) -> bool:
        return 0 < self._max_age_s < self._clock() - put_s

    def _make_room(self, kept: Path) -> None:
        entries = sorted(self._entries(), key=lambda entry: (entry.path == kept, entry.used_s))
        excess = sum(entry.size_bytes for entry in entries) - self.max_bytes
        for entry in entries:
            if excess <= 0 and not self._is_old(entry.put_s):
                continue
            # Another process may have been faster.
            with contextlib.suppress(OSError):
                entry.path.unlink()
            excess -= entry.size_bytes

    def _entries(self) -> list[_Entry]:
        """Return the entries; remove files that a killed process left half written."""
        found: list[_Entry] = []
        try:
            listing = list(os.scandir(self._folder))
        except OSError:
            return []
        for each in listing:
            with contextlib.suppress(OSError):
                status = each.stat(follow_symlinks=False)
                if _KEY.fullmatch(each.name):
                    entry = _Entry(
                        Path(each.path), status.st_size, status.st_mtime, status.st_atime
                    )
                    found.append(entry)
                elif each.name.endswith(".new") and time.time() - status.st_ctime > _ABANDONED_S:
                    os.unlink(each.path)
        return found


def _write(path: Path, data: bytes, now_s: float) -> None:
    # mkstemp gives the file to its owner only.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.utime(name, (now_s, now_s))
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
