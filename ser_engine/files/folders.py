"""The results of one recording in a folder of their own, dated, with the audio that was heard.

::

    outputs_20261122_101500/
      processed_audio.wav   what the model heard: 16 kHz, 16 bit, every channel
      result.json           as the emotion2vec+ web demo has it; of a stream, what details.json is
      details.json          everything: model, segments, pieces, warnings, every class
      embedding.npy         (dim,) of a whole, (frames, dim) of frames; of several channels one more
                            axis in front
      log.txt               each step, with its paths

A folder appears when it is complete. One that is there is never written to again: where two are
made in one second the later one gets ``_2``.

Names of files that came from outside, made fit to name files of ours.

What a name may hold differs by system; the result is one that every common file system takes, so
that a folder of results can be copied anywhere.

Files and folders that appear whole or not at all.

A folder of entries with a bound: what was used longest ago goes first.

Several processes may share it, and any of them may be killed at any time: an entry appears whole
or not at all, and all that is known of it is in its file.

::

    <key>          the entry; modified: when it was put, accessed: when it was used last
    .<key>.….new   an entry that is being written
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile
from ser_engine.files.documents import demo_of
from ser_engine.files.results import FileAnalysis
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray

MAX_NAME_BYTES = 180
"""Length of a name in UTF-8. File systems take 255; the rest is for what is appended to it."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_HASH_DIGITS = 8
_MAX_ENDING_BYTES = 16


def safe_name(name: str) -> str:
    """Return one path component that stands for ``name``, whatever that holds.

    Folders in front of the name are dropped, be they separated by slashes or backslashes. Control
    characters, characters that change the direction of writing, half surrogates and
    ``<>:"|?*`` become ``_``. Leading dots, and dots and spaces at the end, are dropped; names that
    Windows reserves get a ``_``. A name that is too long keeps its beginning and its ending, with
    a hash of the whole between them. Where nothing is left it is ``audio``.
    """
    base = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    cleaned = "".join(_shown(character) for character in base)
    cleaned = _FORBIDDEN.sub("_", cleaned).strip().lstrip(".").rstrip(". ")
    if not cleaned:
        return "audio"
    if _RESERVED.fullmatch(cleaned.partition(".")[0].rstrip()):
        cleaned = f"_{cleaned}"
    return _shortened(cleaned)


def _shown(character: str) -> str:
    """Return a character, or ``_`` for one that is no sign of its own (Unicode's category C)."""
    return "_" if unicodedata.category(character).startswith("C") else character


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > _MAX_ENDING_BYTES:
        stem, ending = name, ""
    tail = f"~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]}{dot if ending else ''}"
    room = MAX_NAME_BYTES - len((tail + ending).encode())
    # A character of several bytes that does not fit whole is left out.
    return stem.encode()[:room].decode(errors="ignore") + tail + ending


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which takes the place of ``path`` in the end.

    Where the block raises nothing is left, and what ``path`` was before stays. A process that is
    killed leaves a hidden file ``.<name>.….new``. What is there and is no file, such as
    ``/dev/stdout``, is given itself.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".{path.name[:64]}.{uuid.uuid4().hex[:12]}.new")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def new_folder(parent: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Make a folder in ``parent``, have it filled, give it its name, and return it.

    Where the name is taken it gets ``name_2``, ``name_3`` and so on: nothing is written over, and
    two processes never get one name. Where ``fill`` raises nothing is left. A process that is
    killed leaves a hidden folder ``.<name>.….new``.
    """
    parent.mkdir(parents=True, exist_ok=True)
    partial = parent / f".{name}.{uuid.uuid4().hex[:12]}.new"
    partial.mkdir()
    try:
        fill(partial)
        return _rename(partial, parent, name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, parent: Path, name: str) -> Path:
    number = 1
    while True:
        target = parent / (name if number == 1 else f"{name}_{number}")
        number += 1
        if target.exists():
            continue
        # Somebody may be faster: a folder is not renamed to one that holds anything.
        try:
            os.rename(partial, target)
        except OSError:
            if not target.exists():
                raise
            continue
        return target


_KEY = re.compile(r"[0-9a-f]{16,128}")
_ABANDONED_S = 3600.0
"""Age from which on a file that is being written belongs to a process that is gone."""


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size_bytes: int
    put_s: float
    used_s: float


class BoundedFolder:
    """Entries of bytes, by key.

    Args:
        folder: made at the first entry, for its owner only.
        max_bytes: of all entries together; a larger one is not kept.
        max_age_s: entries put longer ago are gone; 0: no limit.
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
        """Return an entry, which is the youngest in use from now on, or None.

        Args:
            key: 16 to 128 hexadecimal digits, lower case.

        Raises:
            ValueError: it is no such key.
        """
        path = self._path(key)
        try:
            put_s = path.stat().st_mtime
            if self._is_old(put_s):
                path.unlink()
                return None
            data = path.read_bytes()
            os.utime(path, (self._clock(), put_s))
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Keep an entry, in the place of others if need be; return whether it is kept.

        A folder that cannot be written is no error: nothing is kept.

        Raises:
            ValueError: it is no such key.
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
        """Forget an entry, if it is there."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def clear(self) -> None:
        """Forget every entry."""
        for entry in self._entries():
            with contextlib.suppress(OSError):
                entry.path.unlink()

    @property
    def size_bytes(self) -> int:
        """Size of all entries together."""
        return sum(entry.size_bytes for entry in self._entries())

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
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
        """Return the entries; remove what processes that are gone were writing."""
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


_READ_BY_PEOPLE = 20_000
_MOST_WAV_BYTES = 0xFFFF_F000
"""Larger files are RF64, which is WAV with longer lengths."""


def write_result_folder(
    parent: Path, source: Path, analysis: FileAnalysis, *, now: Callable[[], datetime]
) -> Path:
    """Write the results of a recording; return their folder.

    Args:
        parent: where the folder comes, made if need be.
        source: the recording, which is read again for its audio.
        analysis: of it.
        now: the local time.

    Raises:
        AudioError: the recording cannot be read any more.
        OSError: something cannot be written; nothing is left then.
    """
    name = f"outputs_{now():%Y%m%d_%H%M%S}"
    return new_folder(parent, name, lambda folder: _fill(folder, source, analysis, now))


def save_embedding(target: Path, analysis: FileAnalysis) -> list[Path]:
    """Write the embedding of a file as one array, if it has one; return what was written.

    It is ``(dim,)`` or ``(frames, dim)``; of several channels one more axis in front.

    Raises:
        OSError: the file cannot be written.
    """
    array = analysis.embedding
    if array is None:
        return []
    with whole_file(target) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return [target]


def write_json(path: Path, document: Any) -> None:
    """Write JSON: small documents for people, an entry a line; large ones compact."""
    text = json.dumps(document, ensure_ascii=False)
    if len(text) < _READ_BY_PEOPLE:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    # Half surrogates of a file's name are written as JSON's own escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")


def _fill(folder: Path, source: Path, analysis: FileAnalysis, now: Callable[[], datetime]) -> None:
    log = _Log(folder / "log.txt", now)
    audio = folder / "processed_audio.wav"
    log.add(
        f"read {source.absolute()}: {analysis.duration_s:.3f} s, {analysis.rate_hz} Hz,"
        f" {len(analysis.channels)} channels"
    )
    num_samples = _write_audio(audio, source)
    log.add(f"resampled to {SAMPLE_RATE_HZ} Hz: {audio.name}, {num_samples} samples a channel")
    model, options = analysis.model, analysis.options
    log.add(f"model {model.name} ({model.licence}), sha256 {model.sha256}, from {model.source}")
    if model.notice:
        log.add(model.notice)
    log.add(f"granularity {options.granularity}, frames of {options.frame_hop_ms} ms")
    for index, channel in enumerate(analysis.channels):
        log.add(f"channel {index}: {len(channel.pieces)} pieces scored")
        for warning in channel.warnings:
            log.add(f"channel {index}: {warning.code} at {warning.at_s:.1f} s: {warning.message}")
    document = analysis.to_json()
    write_json(folder / "details.json", document)
    log.add("wrote details.json")
    is_stream = options.granularity == "stream"
    write_json(folder / "result.json", document if is_stream else demo_of(analysis))
    log.add("wrote result.json")
    for path in save_embedding(folder / "embedding.npy", analysis):
        log.add(f"wrote {path.name}")
    log.add("done")


class _Log:
    """Lines with their time."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now

    def add(self, message: str) -> None:
        # A file's name may hold line ends, and what is no UTF-8.
        line = "".join(each if each.isprintable() else "�" for each in message)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{self._now():%Y-%m-%d %H:%M:%S} {line}\n")


def _write_audio(target: Path, source: Path) -> int:
    """Write a recording as 16 kHz WAV, block by block; return its samples a channel."""
    num_samples = 0
    with AudioFile(source) as file:
        # The header's length may be an estimate, hence the margin; an RF64 file may be short.
        expected_bytes = file.header_s * SAMPLE_RATE_HZ * file.channels * 2
        is_large = expected_bytes * 1.1 > _MOST_WAV_BYTES
        with soundfile.SoundFile(
            str(target),
            "w",
            SAMPLE_RATE_HZ,
            file.channels,
            "PCM_16",
            format="RF64" if is_large else "WAV",
        ) as wav:
            for block in file.blocks():
                num_samples += block.shape[1]
                if not is_large and num_samples * file.channels * 2 > _MOST_WAV_BYTES:
                    raise AudioError(f"{source}: it is longer than its header says")
                _write_block(wav, block)
    return num_samples


def _write_block(wav: soundfile.SoundFile, block: FloatArray) -> None:
    try:
        wav.write(block.T)
    except soundfile.LibsndfileError:
        # What the system said libsndfile does not tell.
        raise OSError(errno.EIO, "the audio could not be written; is the disk full?") from None
