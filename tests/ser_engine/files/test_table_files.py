from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_engine.errors import RuntimeUnavailableError
from ser_engine.files.tables import check_parquet, table_of_rows, write_csv, write_parquet

TABLE = table_of_rows(
    [
        {"file": 'a,\n"b".wav', "confidence": 0.5, "angry": 0.25},
        {"file": "名\udcff.wav", "confidence": 1.0, "error": "it is cut off"},
    ]
)


def test_rows_become_columns():
    assert list(TABLE) == ["file", "confidence", "angry", "error"]
    assert TABLE["angry"] == [0.25, None]
    assert TABLE["error"] == [None, "it is cut off"]
    assert table_of_rows([]) == {}


def test_csv(tmp_path: Path):
    write_csv(tmp_path / "t.csv", TABLE)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"file": 'a,\n"b".wav', "confidence": "0.5", "angry": "0.25", "error": ""}
    assert rows[1]["file"] == "名\\udcff.wav"
    assert os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize("name", ["=1+1.wav", "+1.wav", "-1.wav", "@SUM(A1).wav", "\t=1.wav"])
def test_a_name_is_no_formula_in_a_spreadsheet(name: str, tmp_path: Path):
    write_csv(tmp_path / "t.csv", {"file": [name, ""], "score": [-1.5, None]})
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[f"'{name}", "-1.5"], ["", ""]]


def test_columns_of_different_lengths_are_a_mistake_and_leave_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="argument"):
        write_csv(tmp_path / "t.csv", {"a": [1, 2], "b": [1]})
    assert os.listdir(tmp_path) == []


@pytest.mark.needs("pyarrow")
def test_parquet(tmp_path: Path):
    from pyarrow import parquet

    write_parquet(tmp_path / "t.parquet", {**TABLE, "score": np.array([1, 2], np.float32)})
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.column("confidence").to_pylist() == [0.5, 1.0]
    assert table.column("angry").to_pylist() == [0.25, None]
    assert table.column("file").to_pylist()[1] == "名\\udcff.wav"
    assert str(table.schema.field("score").type) == "float"
    assert os.listdir(tmp_path) == ["t.parquet"]


@pytest.mark.needs("pyarrow")
def test_numbers_among_words_are_words(tmp_path: Path):
    from pyarrow import parquet

    write_parquet(tmp_path / "t.parquet", {"a": ["x", 1, None]})
    assert parquet.read_table(tmp_path / "t.parquet").column("a").to_pylist() == ["x", "1", None]


@pytest.mark.needs("pyarrow")
def test_an_empty_table_can_be_read(tmp_path: Path):
    from pyarrow import parquet

    write_parquet(tmp_path / "t.parquet", {})
    assert parquet.read_table(tmp_path / "t.parquet").num_rows == 0


def test_without_pyarrow_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(RuntimeUnavailableError, match=r"emotion-monitor\[tables\]"):
        check_parquet()
    with pytest.raises(RuntimeUnavailableError):
        write_parquet(tmp_path / "t.parquet", TABLE)
