"""A result's folder: written once, served from disk as it is.

::

    result.json     a FileResult (ser_engine/schema.py)
    view.json       the same with no more frames than a page can draw
    result.csv      a row an utterance, frame or point
    embedding.npy   where there are embeddings
    log.txt         what was done
    audio.flac      16 kHz, where dashboard.analyse.keep_audio is on

Parquet and the form of the web demo are made of the CSV on the way out.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import msgspec

from dashboard.errors import ApiError
from ser_engine.errors import how_to_install
from ser_engine.files import ChannelAnalysis, FileAnalysis, UtteranceResult
from ser_engine.files.analysis import (
    MAX_ROWS,
    demo_frame,
    demo_utterance,
    document_of,
    json_chunks,
)
from ser_engine.files.folders import save_embedding
from ser_engine.files.tables import as_cell, csv_chunks
from ser_engine.schema import RESULT_VERSION
from stream_server.at_rest import Keys, open_file

_ROWS = 2000
_encode = msgspec.json.Encoder().encode


def demo_chunks(
    table: Path, num_channels: int, channel: int | None, *, is_frame: bool, scores: bool
) -> Iterator[bytes]:
    """Yield a result exactly as the emotion2vec+ web demo writes it, some rows at a time.

    The form is that of :func:`ser_engine.files.analysis.demo_of`.

    ``table`` is the CSV of an utterance or, with ``is_frame``, of frames, ``channel`` the only one
    that is wanted; ``scores`` adds the posteriors of all classes.
    """
    is_bare = channel is not None or num_channels == 1
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or ())
        labels = names[names.index("confidence") + 1 :]
        bodies = (
            (int(row["channel"]), _demo_row(row, labels if scores else [], is_frame=is_frame))
            for row in rows
        )
        yield b"" if is_bare else b"["
        is_first = True
        for number, some in groupby(bodies, key=lambda pair: pair[0]):
            if channel not in (None, number):
                continue
            yield b"" if is_first or is_bare else b","
            is_first = False
            yield from _demo_channel(
                None if is_bare else number, (body for _, body in some), is_frame=is_frame
            )
        yield b"" if is_bare else b"]"


def _demo_row(row: dict[str, str], labels: Sequence[str], *, is_frame: bool) -> dict[str, Any]:
    scores = {label: float(row[label]) for label in labels}
    # The demo always names the strongest class. Tables of before have no "best".
    label, confidence = row.get("best") or row["label"], float(row["confidence"])
    if is_frame:
        return demo_frame(float(row["start_s"]), label, confidence, scores)
    return demo_utterance(label, confidence, scores)


def _demo_channel(
    number: int | None, bodies: Iterator[dict[str, Any]], *, is_frame: bool
) -> Iterator[bytes]:
    if not is_frame:
        (body,) = bodies
        yield _encode(body if number is None else {"channel": number, **body})
        return
    yield b"[" if number is None else b'{"channel":%d,"granularity":"frame","frames":[' % number
    is_first = True
    while some := list(islice(bodies, _ROWS)):
        yield (b"" if is_first else b",") + _encode(some)[1:-1]
        is_first = False
    yield b"]" if number is None else b"]}"


def write_parquet(table: Path, out: Path) -> None:
    """Write the CSV of a result as Parquet, some rows at a time.

    Raises:
        ApiError: pyarrow is not installed.
    """
    try:
        from pyarrow import csv as arrow_csv
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise ApiError(
            "not_installed",
            f"Parquet needs the package pyarrow on the server; {how_to_install('tables')}",
        ) from None
    with arrow_csv.open_csv(table) as rows, ParquetWriter(out, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)


FOLDER_FILES = ("result.json", "result.csv", "embedding.npy", "log.txt", "audio.flac")
"""What a ZIP file of a result holds, where it is there."""

_COPY_BYTES = 1 << 20


def write_result(
    folder: Path, analysis: FileAnalysis, log: Sequence[str], check: Callable[[], None]
) -> None:
    """Write the files of a result.

    ``check`` is called every now and then; what it raises ends the writing.
    """
    for name, chunks in (
        ("result.json", json_chunks(analysis)),
        ("result.csv", csv_chunks(analysis.columns())),
    ):
        with (folder / name).open("wb") as file:
            for chunk in chunks:
                check()
                file.write(chunk)
    view = document_of(analysis, max_rows=MAX_ROWS)
    (folder / "view.json").write_bytes(_encode(view))
    save_embedding(folder / "embedding.npy", analysis)
    (folder / "log.txt").write_text("\n".join(log) + "\n", encoding="utf-8")


def summary_of(analysis: FileAnalysis) -> dict[str, Any]:
    """Return what a list tells of a result."""
    return {
        "channels": [
            None
            if channel.overall is None
            else {
                "label": channel.overall.label,
                "best": channel.overall.best,
                "confidence": round(channel.overall.confidence, 4),
                "share": _share(channel),
            }
            for channel in analysis.channels
        ],
        "analysed": [index for index, _ in analysis.numbered],
        "warnings": sorted({one.code for channel in analysis.channels for one in channel.warnings}),
    }


def _share(channel: ChannelAnalysis) -> dict[str, float]:
    """Return the shares of a channel's speech; {}: it has one result for all of it."""
    is_one = isinstance(channel.result, UtteranceResult) and len(channel.pieces) < 2
    whole = channel.whole
    if whole is None or is_one:
        return {}
    shares = whole.shares
    return {**shares.labels, **({"unclear": shares.unclear} if shares.unclear else {})}


def read_view(folder: Path) -> bytes | None:
    """Return ``view.json``; None: an earlier version of the server wrote it, with other names.

    Raises:
        OSError: it is not there.
    """
    data = (folder / "view.json").read_bytes()
    # Only that field is read: a view is megabytes.
    try:
        version = _decode_version(data).version
    except msgspec.DecodeError:
        return None
    return data if version in _READABLE_VERSIONS else None


_READABLE_VERSIONS = (2, RESULT_VERSION)
"""In 2 every result has a label, and frames say nothing of speech; the rest is the same."""


class _Versioned(msgspec.Struct):
    version: int = 0


_decode_version = msgspec.json.Decoder(_Versioned).decode


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
    _rename_table(folder / "result.csv", new_name)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"copied for {new_name}: the same bytes, model and settings\n")


def _rename_table(path: Path, name: str) -> None:
    new = path.with_name(f".{path.name}.new")
    with (
        path.open(encoding="utf-8", newline="") as source,
        new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as target,
    ):
        rows, writer = csv.reader(source), csv.writer(target)
        writer.writerow(next(rows))
        writer.writerows((as_cell(name), *row[1:]) for row in rows)
    os.replace(new, path)


def zip_chunks(folder: Path, keys: Keys | None = None) -> Iterator[bytes]:
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
            with (
                contextlib.closing(open_file(path, keys)) as source,
                archive.open(info, "w", force_zip64=True) as target,
            ):
                at = 0
                while data := source.pread(_COPY_BYTES, at):
                    target.write(data)
                    at += len(data)
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
