"""What is made of a result's CSV on the way out: Parquet, and the form of the web demo."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import msgspec

from dashboard.errors import ApiError
from ser_engine.files.documents import demo_frame, demo_utterance

_ROWS = 2000
_encode = msgspec.json.Encoder().encode


def demo_chunks(
    table: Path, num_channels: int, channel: int | None, *, is_frame: bool, scores: bool
) -> Iterator[bytes]:
    """Yield a result exactly as the emotion2vec+ web demo writes it, some rows at a time.

    The form is that of :func:`ser_engine.files.documents.demo_of`.

    Args:
        table: the CSV of an utterance or of frames.
        num_channels: of the recording.
        is_frame: whether its rows are frames.
        channel: only this one, from 0.
        scores: add the posteriors of all classes.
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
        for number, some in groupby(bodies, key=lambda pair: pair[0]):
            if channel not in (None, number):
                continue
            yield b"," if number and not is_bare else b""
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
            "got no package pyarrow, expected it for Parquet; pip install"
            " 'emotion-monitor[tables]'",
        ) from None
    with arrow_csv.open_csv(table) as rows, ParquetWriter(out, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
