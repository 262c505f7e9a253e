"""Emotions have the same colours in charts, style sheets and terminals, with readable text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emotion_monitor.report import COLOURS

SHELL = Path(__file__).parents[2] / "dashboard" / "shell"
SCRIPT = (SHELL / "palette.js").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"const {name} = Object\.freeze\((.*?)\);", SCRIPT, re.DOTALL)
    assert found is not None
    return found[1]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2, 0 to 1."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of WCAG 2, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_charts_and_style_sheets_have_the_same_colours() -> None:
    assert dict(re.findall(r'(\w+): "(#\w{6})"', block("COLOURS"))) == COLOURS
    tokens = (SHELL / "tokens.css").read_text(encoding="utf-8")
    styles = dict(re.findall(r"--emotion-(\w+): (#\w{6});", tokens))
    assert {name: value.upper() for name, value in styles.items()} == COLOURS


def test_every_label_has_a_colour_and_a_place_in_the_stack() -> None:
    assert COLOURS.keys() == set(re.findall(r'"(\w+)"', block("STACK_ORDER")))


@pytest.mark.parametrize("name", COLOURS)
def test_words_are_readable_on_their_colour(name: str) -> None:
    inks = dict(re.findall(r'(\w+): "(#\w{6})"', block("INKS")))
    assert contrast(COLOURS[name], inks.get(name, "#111318")) >= 4.5
