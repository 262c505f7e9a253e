"""Tables of results, as CSV and Parquet.

A table is columns by name, all of one length. CSV takes the standard library only; Parquet takes
pyarrow, which the extra ``tables`` brings.

Results as columns by name, and as pandas data frames.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ser_engine.errors import RuntimeUnavailableError
from ser_engine.files.folders import whole_file
from ser_engine.files.results import FrameResult, Result, StreamResult
from ser_engine.frames import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import pandas

    from ser_engine.files.results import FileAnalysis

Columns = dict[str, npt.NDArray[Any]]


def columns_of_results(analysis: FileAnalysis) -> Columns:
    """Return a row an utterance, frame or point of every channel, from 1.

    Columns: ``file``, ``channel``, ``start_s``, ``end_s``, ``emotion``, ``confidence`` (of a
    frame: its score), ``speech_share`` (of a point), and one a class.
    """
    return _joined(
        analysis, [_columns(channel.result, analysis.duration_s) for channel in analysis.channels]
    )


def columns_of_segments(analysis: FileAnalysis) -> Columns:
    """Return a row a segment; ``emotion`` is None where there is no speech."""
    tables: list[dict[str, Any]] = []
    for channel in analysis.channels:
        labels, rows = channel.result.labels, channel.segments
        nothing = np.full(len(labels), np.nan)
        posteriors = [nothing if row.posteriors is None else row.posteriors for row in rows]
        tables.append(
            {
                "start_s": [row.start_s for row in rows],
                "end_s": [row.end_s for row in rows],
                "emotion": [row.emotion for row in rows],
                "confidence": [
                    np.nan if row.confidence is None else row.confidence for row in rows
                ],
                "speech": [row.has_speech for row in rows],
                "speaker": [row.speaker for row in rows],
                **_classes(labels, posteriors),
            }
        )
    return _joined(analysis, tables)


def _columns(result: Result, duration_s: float) -> dict[str, Any]:
    match result:
        case FrameResult():
            winners = result.posteriors.argmax(axis=1)
            return {
                "start_s": result.times_s,
                "end_s": result.times_s + result.hop_samples / SAMPLE_RATE_HZ,
                "emotion": np.array(result.labels, dtype=object)[winners],
                "confidence": result.posteriors.max(axis=1),
                **_classes(result.labels, result.posteriors),
            }
        case StreamResult(points=points):
            return {
                "start_s": [point.start_s for point in points],
                "end_s": [point.end_s for point in points],
                "emotion": [point.label for point in points],
                "confidence": [point.confidence for point in points],
                "speech_share": [point.speech_share for point in points],
                **_classes(result.labels, [point.posteriors for point in points]),
            }
    return {
        "start_s": [0.0],
        "end_s": [result.num_samples / SAMPLE_RATE_HZ],
        "emotion": [result.emotion],
        "confidence": [result.confidence],
        **_classes(result.labels, [result.posteriors]),
    }


def _classes(labels: Sequence[str], rows: Any) -> dict[str, Any]:
    posteriors = np.asarray(rows, dtype=np.float64).reshape(-1, len(labels))
    return {label: posteriors[:, place] for place, label in enumerate(labels)}


def data_frame(columns: Columns) -> pandas.DataFrame:
    """Return columns as a data frame.

    Raises:
        RuntimeUnavailableError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise RuntimeUnavailableError(
            "got no package pandas, expected it for a data frame; pip install"
            " 'emotion-monitor[tables]'"
        ) from None
    return pandas.DataFrame(columns)


def _joined(analysis: FileAnalysis, tables: Sequence[dict[str, Any]]) -> Columns:
    """Return the tables of the channels as one, with the file's name and the channel's number."""
    lengths = [len(table["start_s"]) for table in tables]
    joined: Columns = {
        "file": np.full(sum(lengths), analysis.name, dtype=object),
        "channel": np.repeat(np.arange(1, len(tables) + 1), lengths),
    }
    for name in tables[0]:
        columns = [table[name] for table in tables]
        joined[name] = np.concatenate([_array(column) for column in columns])
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
            columns = [_as_text(column) for column in table.values()]
            writer.writerows(zip(*columns, strict=True))


def _as_text(column: Iterable[Any]) -> Iterator[Any]:
    for value in column:
        yield f"'{value}" if isinstance(value, str) and value[:1] in _FORMULAS else value


def check_parquet() -> None:
    """See to it that Parquet can be written.

    Raises:
        RuntimeUnavailableError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise RuntimeUnavailableError(
            "got no pyarrow, which writes Parquet; pip install 'emotion-monitor[tables]'"
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
