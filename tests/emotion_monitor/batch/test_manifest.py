from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_monitor.batch import MANIFEST_NAME, Entry, Manifest
from ser_engine.files.cache import Fingerprint

DONE = Entry(
    source="/calls/a\udcff.wav",
    place="a.wav",
    fingerprint=Fingerprint(10, 20, 30),
    sha256="ab",
    key="cd",
    formats=("json", "csv"),
    outputs=("a.wav.json",),
    rows=({"file": "a.wav", "emotion": "生气", "confidence": 0.1},),
    model="ef",
)


def test_what_is_noted_is_known_to_the_next_run(tmp_path: Path):
    manifest = Manifest(tmp_path)
    assert manifest.get(DONE.source) is None
    manifest.add(DONE)
    assert manifest.get(DONE.source) == DONE
    assert Manifest(tmp_path).get(DONE.source) == DONE


def test_the_last_line_about_a_file_counts(tmp_path: Path):
    failed = Entry(source=DONE.source, place="a.wav", error="it is cut off")
    first = Manifest(tmp_path)
    first.add(failed)
    first.add(DONE)
    first.add(dataclasses.replace(DONE, source="/calls/0.wav", place="0.wav"))
    again = Manifest(tmp_path)
    assert again.get(DONE.source) == DONE
    assert [entry.place for entry in again] == ["0.wav", "a.wav"]


@pytest.mark.parametrize("lost", [1, 2, 50])
def test_a_line_that_is_cut_off_costs_that_file_only(tmp_path: Path, lost: int):
    path = tmp_path / MANIFEST_NAME
    first = Manifest(tmp_path)
    first.add(DONE)
    first.add(dataclasses.replace(DONE, source="/b.wav", place="b.wav"))
    path.write_bytes(path.read_bytes()[:-lost])
    second = Manifest(tmp_path)
    assert (second.get("/b.wav") is None) == (lost > 1)
    second.add(dataclasses.replace(DONE, source="/c.wav", place="c.wav"))
    third = Manifest(tmp_path)
    assert third.get(DONE.source) is not None
    assert third.get("/c.wav") is not None


@given(line=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_lines_of_others_are_passed_over(line: bytes):
    assert Entry.from_line(line) is None


@pytest.mark.parametrize(
    "change",
    [b'"a.wav.json"', b'"sha256":"ab"', b'"fingerprint":{', b'"rows":[{', b'"size_bytes":10'],
)
def test_edited_lines_are_passed_over(change: bytes):
    line = DONE.to_line()
    assert change in line
    assert Entry.from_line(line.replace(change, b"7")) is None


def test_rows_hold_plain_values_only():
    line = DONE.to_line().replace(b'"confidence":0.1', b'"confidence":[1]')
    assert Entry.from_line(line) is None


def test_long_lines_are_not_read_at_once(tmp_path: Path):
    (tmp_path / MANIFEST_NAME).write_bytes(b"x" * (3 << 20) + b"\n" + DONE.to_line())
    assert Manifest(tmp_path).get(DONE.source) == DONE


def _add_many(folder: Path, worker: int) -> None:
    manifest = Manifest(folder)
    for number in range(200):
        source = f"/{worker}/{number}.wav"
        manifest.add(dataclasses.replace(DONE, source=source, place=source[1:]))


def test_runs_at_the_same_time_do_not_spoil_each_others_lines(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(tmp_path, each)) for each in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(list(Manifest(tmp_path))) == 400
    assert len((tmp_path / MANIFEST_NAME).read_bytes().splitlines()) == 400
