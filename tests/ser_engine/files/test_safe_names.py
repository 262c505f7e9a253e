from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.files.whole_files import MAX_NAME_BYTES, safe_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("call.wav", "call.wav"),
        ("Grüße, 你好.wav", "Grüße, 你好.wav"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("/absolute.wav", "absolute.wav"),
        ("..", "audio"),
        ("", "audio"),
        ("a/", "audio"),
        (".hidden.wav", "hidden.wav"),
        ("two\nlines\x00.wav", "two_lines_.wav"),
        ("right\u202eto left.wav", "right_to left.wav"),
        ("half\ud800.wav", "half_.wav"),
        ("CON.wav", "_CON.wav"),
        ("lpt1", "_lpt1"),
        ("console.wav", "console.wav"),
        ("what?.wav", "what_.wav"),
        ("C:evil.wav", "C_evil.wav"),
        ("end. .", "end"),
    ],
)
def test_names(name: str, expected: str):
    assert safe_name(name) == expected


def test_two_writings_of_one_name_are_one():
    assert safe_name(unicodedata.normalize("NFD", "é.wav")) == safe_name("é.wav")


def test_a_long_name_keeps_its_ending_and_stays_apart_from_others():
    names = [safe_name("长" * 300 + f"{number}.flac") for number in range(2)]
    assert names[0] != names[1]
    for name in names:
        assert name.endswith(".flac")
        assert MAX_NAME_BYTES - 3 < len(name.encode()) <= MAX_NAME_BYTES


@given(st.text(st.characters(), max_size=400))
def test_every_name_can_be_written(tmp_path_factory: pytest.TempPathFactory, name: str):
    folder = Path(tmp_path_factory.getbasetemp()) / "names"
    folder.mkdir(exist_ok=True)
    made = safe_name(name)
    target = folder / made
    target.write_bytes(b"")
    assert target.parent == folder
    assert len(made.encode()) <= MAX_NAME_BYTES
    assert safe_name(made) == made
    target.unlink()
