"""Tables of results, as CSV and Parquet.

A table is columns by name, all of one length. CSV takes the standard library only; Parquet takes
pyarrow, which the extra ``tables`` brings.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ser_engine.errors import RuntimeUnavailableError
from ser_engine.offline.whole_files import whole_file

__all__ = ["Table", "check_parquet", "table_of_rows", "write_csv", "write_parquet"]

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
