"""Tables of results, as CSV and Parquet: columns by name, all of one length.

CSV takes the standard library only; Parquet takes pyarrow, which the extra ``tables`` brings.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ser_engine.errors import RuntimeUnavailableError, how_to_install
from ser_engine.files.results import ChannelAnalysis, FrameResult, Result, StreamResult
from ser_engine.files.whole_files import whole_file
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.schema import POSTERIOR_DECIMALS, Frames, Point, rounded

if TYPE_CHECKING:
    import pandas

Columns = dict[str, npt.NDArray[Any]]

_CHUNK_ROWS = 2000


Channels = Sequence[tuple[int, ChannelAnalysis]]
"""Channels of a file with their indices in it, in their order."""


def columns_of_results(name: str, channels: Channels) -> Columns:
    """Return a row an utterance, frame or point of every channel of the file ``name``.

    Columns have the names of the fields of :class:`~ser_engine.schema.FileResult` and its parts:
    ``name``, ``channel``, ``start_s``, ``end_s``, ``label`` (None: unclear or no speech), ``best``,
    ``confidence``; of frames also ``speech``, of points ``speech_share``, ``provisional``,
    ``widened``, ``narrow_band``; and a posterior a class.
    """
    return _joined(name, channels, [_columns(channel.result) for _, channel in channels])


def columns_of_pieces(name: str, channels: Channels) -> Columns:
    """Return a row a piece; ``label`` is None where it is unclear, or there is no speech."""
    tables: list[dict[str, Any]] = []
    for _, channel in channels:
        labels, rows = channel.result.labels, channel.pieces
        nothing = np.full(len(labels), np.nan)
        posteriors = [nothing if row.posteriors is None else row.posteriors for row in rows]
        tables.append(
            {
                "start_s": [row.start_s for row in rows],
                "end_s": [row.end_s for row in rows],
                "label": [row.label for row in rows],
                "best": [row.best for row in rows],
                "confidence": [
                    np.nan if row.confidence is None else rounded(row.confidence) for row in rows
                ],
                "has_speech": [row.has_speech for row in rows],
                "speaker": [row.speaker for row in rows],
                **_classes(labels, posteriors),
            }
        )
    return _joined(name, channels, tables)


# Every plain field of a point is a column; what is made of it otherwise, or is no value, is not.
_POINT_COLUMNS = tuple(
    name
    for name in Point.__struct_fields__
    if name not in ("start_sample", "end_sample", "posteriors", "frames")
)


def _columns(result: Result) -> dict[str, Any]:
    match result:
        case FrameResult():
            speech = result.speech.astype(np.float64)
            ends_s = result.times_s + result.hop_samples / SAMPLE_RATE_HZ
            return {
                "start_s": result.times_s,
                # 0.02 + 0.02 … is not exact in binary.
                "end_s": ends_s.round(6),
                "label": result.labels_of(result.posteriors, speech),
                "best": np.array(result.labels, dtype=object)[result.posteriors.argmax(axis=1)],
                "speech": speech,
                # The last one before the classes: who reads a table finds them by that.
                "confidence": result.posteriors.max(axis=1).round(POSTERIOR_DECIMALS),
                **_classes(result.labels, result.posteriors),
            }
        case StreamResult(points=points):
            return {
                **{name: [getattr(point, name) for point in points] for name in _POINT_COLUMNS},
                **_classes(result.labels, [point.posteriors for point in points]),
            }
    return {
        "start_s": [0.0],
        "end_s": [result.num_samples / SAMPLE_RATE_HZ],
        "label": [result.label],
        "best": [result.best],
        "confidence": [rounded(result.confidence)],
        **_classes(result.labels, [result.posteriors]),
    }


def _classes(labels: Sequence[str], rows: Any) -> dict[str, Any]:
    posteriors = np.asarray(rows, dtype=np.float64).reshape(-1, len(labels))
    posteriors = posteriors.round(POSTERIOR_DECIMALS)
    return {label: posteriors[:, place] for place, label in enumerate(labels)}


def frames_between(
    table: Path, channel: int, from_s: float, to_s: float | None, most: int
) -> Frames:
    """Return every frame of a part of a channel, from the CSV of frames.

    Args:
        channel: from 0.
        from_s: begin of the part; frames that touch it belong to it.
        to_s: end of the part; None: that of the recording.
        most: frames that are returned at most, the first ones.
    """
    starts: list[int] = []
    speech: list[float] = []
    names: list[str | None] = []
    posteriors: list[tuple[float, ...]] = []
    hop_samples = HOP_SAMPLES
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        head = next(rows)
        at = {name: place for place, name in enumerate(head)}
        first_class = at["confidence"] + 1
        for row in rows:
            start_s, end_s = float(row[at["start_s"]]), float(row[at["end_s"]])
            if int(row[at["channel"]]) != channel or end_s <= from_s:
                continue
            if len(starts) == most or (to_s is not None and start_s >= to_s):
                break
            hop_samples = round((end_s - start_s) * SAMPLE_RATE_HZ)
            starts.append(round(start_s * SAMPLE_RATE_HZ))
            names.append(row[at["label"]] or None)
            # Tables of before do not say where there is speech.
            speech.append(float(row[at["speech"]]) if "speech" in at else 1.0)
            posteriors.append(tuple(map(float, row[first_class:])))
    return Frames(
        start_samples=tuple(starts),
        hop_samples=hop_samples,
        posteriors=tuple(posteriors),
        labels=tuple(names),
        speech=tuple(speech),
    )


def data_frame(columns: Columns) -> pandas.DataFrame:
    """Return columns as a data frame. Raises RuntimeUnavailableError: pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise RuntimeUnavailableError(
            f"data frames need the package pandas; {how_to_install('tables')}"
        ) from None
    return pandas.DataFrame(columns)


def _joined(name: str, channels: Channels, tables: Sequence[dict[str, Any]]) -> Columns:
    """Return the tables of the channels as one, with the file's name and the channel's index."""
    lengths = [len(table["start_s"]) for table in tables]
    joined: Columns = {
        "name": np.full(sum(lengths), name, dtype=object),
        "channel": np.repeat([index for index, _ in channels], lengths),
    }
    for column in tables[0]:
        columns = [table[column] for table in tables]
        joined[column] = np.concatenate([_array(each) for each in columns])
    return joined


def _array(column: Any) -> npt.NDArray[Any]:
    """Return a column as an array: words as objects, or they would all be as long as one."""
    array = np.asarray(column)
    return array if array.dtype.kind in "bif" and array.size else np.asarray(column, dtype=object)


_FORMULAS = frozenset("=+-@\t\r")
"""What a formula begins with, or what is dropped in front of one (OWASP, CSV injection)."""

Table = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


def table_of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as columns, in the order in which they first occur; what is missing is None."""
    names = {name: None for row in rows for name in row}
    return {name: [row.get(name) for row in rows] for name in names}


def write_csv(path: Path, table: Table) -> None:
    """Write a table in the place of the file, whole or not at all. Nothing is an empty field.

    Words that a spreadsheet would take for a formula get an apostrophe in front, which it takes for
    "this is text": names of files come from outside.
    """
    with whole_file(path) as partial:
        # Half surrogates of file names that are no UTF-8 must not end the run.
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            columns = [map(as_cell, column) for column in table.values()]
            writer.writerows(zip(*columns, strict=True))


def as_cell(value: Any) -> Any:
    """Return a value as a CSV file has it; see :func:`write_csv`."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULAS else value


def csv_chunks(table: Table) -> Iterator[bytes]:
    """Yield a table as CSV, some rows at a time."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table)
    rows = zip(*(map(as_cell, column) for column in table.values()), strict=True)
    while True:
        writer.writerows(some := list(itertools.islice(rows, _CHUNK_ROWS)))
        yield text.getvalue().encode(errors="backslashreplace")
        text.seek(text.truncate(0))
        if len(some) < _CHUNK_ROWS:
            return


def check_parquet() -> None:
    """See to it that Parquet can be written.

    Raises:
        RuntimeUnavailableError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"Parquet needs the package pyarrow; {how_to_install('tables')}"
        ) from error


def write_parquet(path: Path, table: Table) -> None:
    """Write a table in the place of the file, whole or not at all.

    Raises:
        RuntimeUnavailableError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow
    from pyarrow import parquet

    columns = {name: _parquet_column(column) for name, column in table.items()}
    with whole_file(path) as partial:
        parquet.write_table(pyarrow.table(columns), partial, compression="zstd")


def _parquet_column(
    column: Sequence[Any] | npt.NDArray[Any],
) -> Sequence[Any] | npt.NDArray[Any]:
    """Return a column that is UTF-8 throughout: what else a file's name may hold is spelt out."""
    if not any(isinstance(value, str) for value in column):
        return column
    # A column has one type, and a table that was edited may hold numbers among words.
    return [
        None if value is None else str(value).encode(errors="backslashreplace").decode()
        for value in column
    ]
