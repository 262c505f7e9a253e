from __future__ import annotations

from pathlib import Path

import pytest

from emotion_monitor.config_file import parse_config, parse_value, read_config_file
from ser_engine.errors import ConfigError


def test_words_for_switches_stay_text():
    parsed = parse_config("{a: off, b: on, c: yes, d: no, e: true, f: false}", "x")
    assert parsed == {"a": "off", "b": "on", "c": "yes", "d": "no", "e": True, "f": False}


def test_numbers_and_nulls_are_read_as_in_yaml():
    assert parse_config("{a: 1, b: -2.5, c: null, d: ~/x}", "x") == {
        "a": 1,
        "b": -2.5,
        "c": None,
        "d": "~/x",
    }


def test_an_empty_file_sets_nothing():
    assert parse_config("# nothing\n", "x") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  b: 1\n  b: 2\n", "x, line 3: got the key 'b' twice"),
        ("a: [\n", "x, line 2: "),
        ("- 1\n", "x: got a list, expected sections of settings"),
        ("a: \x00", "x: "),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    file = tmp_path / "none.yaml"
    with pytest.raises(
        ConfigError, match=r"cannot read the configuration file .*none.yaml: No such"
    ):
        read_config_file(file)


def test_a_file_that_is_not_text_is_named(tmp_path: Path):
    file = tmp_path / "bytes.yaml"
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match=r"bytes.yaml: it is not UTF-8 text"):
        read_config_file(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3000", "3000"),
        ("off", "off"),
        ("[a, off, 3]", ["a", "off", 3]),
        ("{a: 1}", {"a": 1}),
        ("[a", "[a"),
        ("", ""),
    ],
)
def test_lists_and_mappings_are_parsed_and_the_rest_is_text(text: str, value: object):
    assert parse_value(text) == value
