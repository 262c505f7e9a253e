"""Results of recordings on the disk, in files and folders that appear whole or not at all.

:func:`write_result_folder` makes a dated folder for one recording, with the audio that was scored::

    outputs_20261122_101500/
      processed_audio.wav   16 kHz, 16 bit, every channel
      result.json           as the emotion2vec+ web demo has it; of a stream, what details.json is
      details.json          everything: model, segments, pieces, warnings, every class
      embedding.npy         (dim,) of a whole, (frames, dim) of frames; several channels add an axis
                            in front
      log.txt               each step, with its paths

A folder that exists is never written to again: of two made in one second the later one gets ``_2``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from ser_engine.raw_audio import RawFormat
from ser_engine.types import FloatArray

MAX_NAME_BYTES = 180
"""Length of a name in UTF-8. File systems take 255; the rest is for what is appended to it."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_HASH_DIGITS = 8
_MAX_ENDING_BYTES = 16
_MOST_INDENTED_CHARACTERS = 20_000
# Larger files are RF64, which is WAV with longer lengths (EBU Tech 3306).
_MOST_WAV_BYTES = 0xFFFF_F000


def write_result_folder(
    parent: Path, source: Path, analysis: FileAnalysis, *, now: Callable[[], datetime]
) -> Path:
    """Write the results of a recording into a new folder in ``parent``; return the folder.

    Args:
        parent: made if it does not exist.
        source: the recording, which is read again for its audio.
        now: the local time, for the folder's name and the log.

    Raises:
        AudioError: the recording cannot be read any more.
        OSError: something cannot be written; no folder is left then.
    """
    name = f"outputs_{now():%Y%m%d_%H%M%S}"
    return new_folder(parent, name, lambda folder: _fill(folder, source, analysis, now))


def _fill(folder: Path, source: Path, analysis: FileAnalysis, now: Callable[[], datetime]) -> None:
    log = _Log(folder / "log.txt", now)
    audio = folder / "processed_audio.wav"
    log.add(
        f"read {source.absolute()}: {analysis.duration_s:.3f} s, {analysis.rate_hz} Hz,"
        f" {len(analysis.channels)} channels"
    )
    num_samples = _write_audio(audio, source, analysis.options.raw)
    log.add(f"resampled to {SAMPLE_RATE_HZ} Hz: {audio.name}, {num_samples} samples a channel")
    model, options = analysis.model, analysis.options
    log.add(f"model {model.name} ({model.licence}), sha256 {model.sha256}, from {model.source}")
    if model.notice:
        log.add(model.notice)
    log.add(f"granularity {options.granularity}, frames of {options.frame_hop_ms} ms")
    for index, channel in analysis.numbered:
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
    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now

    def add(self, message: str) -> None:
        # A file name may hold line ends, which would forge lines, and bytes that are no UTF-8.
        line = "".join(each if each.isprintable() else "�" for each in message)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{self._now():%Y-%m-%d %H:%M:%S} {line}\n")


def _write_audio(target: Path, source: Path, raw: RawFormat | None) -> int:
    """Write a recording as 16 kHz WAV, block by block; return the samples per channel."""
    num_samples = 0
    with AudioFile(source, raw=raw) as file, target.open("w+b") as out:
        # The header's length may be an estimate, hence the margin; an RF64 file may be short.
        expected_bytes = file.header_s * SAMPLE_RATE_HZ * file.channels * 2
        is_large = expected_bytes * 1.1 > _MOST_WAV_BYTES
        with soundfile.SoundFile(
            out.fileno(),  # soundfile cannot write every name there is
            "w",
            SAMPLE_RATE_HZ,
            file.channels,
            "PCM_16",
            format="RF64" if is_large else "WAV",
            closefd=False,
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
        # libsndfile does not pass on the system's error.
        raise OSError(errno.EIO, "the audio could not be written; is the disk full?") from None


def save_embedding(target: Path, analysis: FileAnalysis) -> list[Path]:
    """Write the embedding of a file as one array, if it has one; return the paths written.

    The shape is ``(dim,)`` or ``(frames, dim)``; several channels add an axis in front.

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
    """Write JSON: indented if it is small enough to be read, else on one line."""
    text = json.dumps(document, ensure_ascii=False)
    if len(text) < _MOST_INDENTED_CHARACTERS:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    # A file name that is no UTF-8 has half surrogates (PEP 383): written as JSON's own escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to; at the end of the block it replaces ``path``.

    If the block raises, ``path`` stays as it was. A process that is killed leaves a hidden file
    ``.<name>.….new``.
    """
    # A device or pipe such as /dev/stdout is written to itself: renaming would replace it.
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
    """Make a folder in ``parent``, call ``fill`` with it, then give it its name and return it.

    If the name is taken it becomes ``name_2``, ``name_3`` and so on: nothing is overwritten, and
    two processes never get one name. If ``fill`` raises, no folder is left. A process that is
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
    target, number = parent / name, 1
    while True:
        if not target.exists():
            try:
                os.rename(partial, target)
                return target
            except OSError:
                # Another process was faster: rename(2) refuses a target that holds anything.
                if not target.exists():
                    raise
        number += 1
        target = parent / f"{name}_{number}"


def safe_name(name: str) -> str:
    """Return one path component for a name from outside, valid on every common file system.

    Folders in front of the name are dropped, be they separated by slashes or backslashes. Control
    characters, characters that change the direction of writing, half surrogates and
    ``<>:"|?*`` become ``_``. Leading dots, and dots and spaces at the end, are dropped; names that
    Windows reserves get a ``_``. A name that is too long keeps its beginning and its ending, with
    a hash of the whole between them. A name of which nothing is left becomes ``audio``.
    """
    # macOS may hand over decomposed letters (NFD): one form, so that a name is the same everywhere.
    base = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    cleaned = "".join(_shown(character) for character in base)
    cleaned = _FORBIDDEN.sub("_", cleaned).strip().lstrip(".").rstrip(". ")
    if not cleaned:
        return "audio"
    if _RESERVED.fullmatch(cleaned.partition(".")[0].rstrip()):
        cleaned = f"_{cleaned}"
    return _shortened(cleaned)


def _shown(character: str) -> str:
    # Category C: control, format, surrogate, private, unassigned; none of them can be seen.
    return "_" if unicodedata.category(character).startswith("C") else character


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > _MAX_ENDING_BYTES:
        stem, ending = name, ""
    tail = f"~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]}{dot if ending else ''}"
    room = MAX_NAME_BYTES - len((tail + ending).encode())
    # The cut may fall into a character of several bytes, which is left out then.
    return stem.encode()[:room].decode(errors="ignore") + tail + ending
