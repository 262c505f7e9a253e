"""A result's folder: written once, served from disk as it is.

::

    result.json     every frame of it
    view.json       the same with no more frames than a page can draw
    result.csv      a row an utterance, frame or point
    embedding.npy   where there are embeddings
    log.txt         what was done
    audio.flac      16 kHz, where dashboard.analyse.keep_audio is on
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dashboard.results.tables import csv_chunks
from dashboard.results.view import has_embedding, json_chunks, result_of
from ser_engine.files import FileAnalysis, FrameResult, UtteranceResult

__all__ = ["FOLDER_FILES", "rename_result", "summary_of", "write_result", "zip_chunks"]

FOLDER_FILES = ("result.json", "result.csv", "embedding.npy", "log.txt", "audio.flac")
"""What a ZIP file of a result holds, where it is there."""

_encode = msgspec.json.Encoder().encode
_COPY_BYTES = 1 << 20


def write_result(
    folder: Path, analysis: FileAnalysis, log: Sequence[str], check: Callable[[], None]
) -> None:
    """Write the files of a result.

    Args:
        folder: is there.
        analysis: what was found.
        log: lines on what was done.
        check: called every now and then; what it raises ends the writing.
    """
    for name, chunks in (
        ("result.json", json_chunks(analysis)),
        ("result.csv", csv_chunks(analysis)),
    ):
        with (folder / name).open("wb") as file:
            for chunk in chunks:
                check()
                file.write(chunk)
    (folder / "view.json").write_bytes(_encode(result_of(analysis)))
    if all(has_embedding(channel) for channel in analysis.channels):
        _write_embeddings(folder / "embedding.npy", analysis)
    (folder / "log.txt").write_text("\n".join(log) + "\n", encoding="utf-8")


def summary_of(analysis: FileAnalysis) -> dict[str, Any]:
    """Return what a list tells of a result."""
    return {
        "channels": [
            None
            if channel.overall is None
            else {
                "emotion": channel.overall.emotion,
                "confidence": round(channel.overall.confidence, 4),
            }
            for channel in analysis.channels
        ],
        "warnings": sorted({one.code for channel in analysis.channels for one in channel.warnings}),
    }


def rename_result(folder: Path, old_name: str, new_name: str) -> None:
    """Make a copy of a result one of a file with another name."""
    before, after = (b'{"name":' + _encode(name) for name in (old_name, new_name))
    for name in ("result.json", "view.json"):
        path, new = folder / name, folder / f".{name}.new"
        with path.open("rb") as source, new.open("wb") as target:
            head = source.read(len(before))
            if head != before:
                raise OSError(f"got a {name} that does not begin with its name")
            target.write(after)
            shutil.copyfileobj(source, target, _COPY_BYTES)
        os.replace(new, path)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"copied for {new_name}: the same bytes, model and settings\n")


def zip_chunks(folder: Path) -> Iterator[bytes]:
    """Yield a ZIP file of a result, without holding all of it at once."""
    out = _Chunks()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in FOLDER_FILES:
            path = folder / name
            if not path.is_file():
                continue
            info = zipfile.ZipInfo.from_file(path, name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                while data := source.read(_COPY_BYTES):
                    target.write(data)
                    yield out.take()
    yield out.take()


class _Chunks:
    """A file that cannot be searched: what is written to it is taken out again."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._data = bytes(self._data), bytearray()
        return taken


def _write_embeddings(path: Path, analysis: FileAnalysis) -> None:
    arrays = [_embedding(channel.result) for channel in analysis.channels]
    if len(arrays) == 1:
        np.save(path, arrays[0])
        return
    shape = (len(arrays), *arrays[0].shape)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for place, array in enumerate(arrays):
        out[place] = array
    out.flush()


def _embedding(result: object) -> npt.NDArray[np.float32]:
    match result:
        case UtteranceResult(embedding=array):
            return array
        case FrameResult(embeddings=array) if array is not None:
            return array
    raise TypeError("got a result without embeddings, expected some")
