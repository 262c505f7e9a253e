"""Results of files as a table: as CSV, and from that as Parquet and in the form of the web demo."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import msgspec

from dashboard.errors import ApiError
from dashboard.results.view import DIGITS, frame_chunks, point_rows
from ser_engine.files import FileAnalysis, FrameResult, StreamResult, UtteranceResult

__all__ = ["csv_chunks", "demo_chunks", "write_parquet"]

_ROWS = 2000
_encode = msgspec.json.Encoder().encode


def csv_chunks(analysis: FileAnalysis) -> Iterator[bytes]:
    """Yield the result as a table: a row an utterance, frame or point, a column a class."""
    labels = [label.name for label in analysis.model.labels.labels]
    heads = {
        UtteranceResult: ("channel", "emotion", "confidence"),
        FrameResult: ("channel", "start_s", "end_s", "emotion", "score"),
        StreamResult: (
            "channel",
            "start_s",
            "end_s",
            "emotion",
            "confidence",
            "speech_share",
            "provisional",
        ),
    }
    yield _csv([(*heads[type(analysis.channels[0].result)], *labels)])
    for index, channel in enumerate(analysis.channels):
        match channel.result:
            case UtteranceResult() as result:
                scores = (round(float(value), DIGITS) for value in result.posteriors)
                confidence = round(result.confidence, DIGITS)
                yield _csv([(index, result.emotion, confidence, *scores)])
            case FrameResult() as result:
                for rows in frame_chunks(result):
                    yield _csv(
                        [
                            (index, row.time, row.end, row.emotion, row.score, *row.scores.values())
                            for row in rows
                        ]
                    )
            case StreamResult() as stream:
                yield _csv(
                    [
                        (
                            index,
                            row.start,
                            row.end,
                            row.emotion,
                            row.confidence,
                            row.speech_share,
                            row.provisional,
                            *row.scores.values(),
                        )
                        for row in point_rows(stream)
                    ]
                )


def demo_chunks(
    table: Path, num_channels: int, channel: int | None, *, scores: bool
) -> Iterator[bytes]:
    """Yield a result exactly as the emotion2vec+ web demo writes it.

    ``{"emotion", "confidence", "granularity"}`` of an utterance, a list of ``{"time", "emotion",
    "score"}`` of frames. Of several channels it is a list of such, each with its ``channel``, from
    1, unless one is named.

    Args:
        table: what :func:`csv_chunks` wrote of an utterance or of frames.
        num_channels: of the recording.
        channel: only this one, from 0.
        scores: add the posteriors of all classes.
    """
    is_bare = channel is not None or num_channels == 1
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or ())
        is_frame = "score" in names
        labels = names[names.index("score" if is_frame else "confidence") + 1 :]
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
                None if is_bare else number + 1, (body for _, body in some), is_frame=is_frame
            )
        yield b"" if is_bare else b"]"


def _demo_row(row: dict[str, str], labels: Sequence[str], *, is_frame: bool) -> dict[str, Any]:
    body: dict[str, Any]
    if is_frame:
        body = {
            "time": float(row["start_s"]),
            "emotion": row["emotion"],
            "score": float(row["score"]),
        }
    else:
        body = {
            "emotion": row["emotion"],
            "confidence": float(row["confidence"]),
            "granularity": "utterance",
        }
    if labels:
        body["scores"] = {label: float(row[label]) for label in labels}
    return body


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
    """Write a table of :func:`csv_chunks` as Parquet, some rows at a time.

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


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
