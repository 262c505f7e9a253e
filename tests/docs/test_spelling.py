"""What people read is spelled right, and British throughout: "colour", "analyse", "licence".

Markdown, the pages' words, and comments, docstrings and messages of the code. Names of other
people's programs and fields are code: they stand in backticks, or are listed in ``pyproject.toml``.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import REPOSITORY

AMERICAN_TOO = {
    "analyze": "the command's second name",
    "authorization": "HTTP's header",
    "authorize": "OpenID Connect's endpoint",
    "authorized": "in AudioHook's and HTTP's words",
    "behavior": "in the name of a journal",
    "biased": "British, too",
    "dialog": "SIP's term, and HTML's element",
    "dialogs": "SIP's term",
    "finalize": "Deepgram's message",
    "focused": "British, too",
    "license": "the verb, and in the name of a licence",
    "licensed": "the verb",
    "meter": "what measures; a metre is a length",
    "normalize": "FunASR's field",
    "practice": "the noun",
    "unauthorized": "HTTP's status 401",
}
"""American spellings that are right here, and why."""


def committed(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()]


def misspelled(*files: str | Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "codespell_lib", *files],
        cwd=REPOSITORY,  # Its settings are in pyproject.toml.
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.needs("codespell", "git-checkout")
def test_no_word_is_misspelled():
    assert misspelled(*committed()) == ""


@pytest.mark.needs("codespell")
def test_a_misspelled_word_is_found(tmp_path: Path):
    (tmp_path / "page.md").write_text("A call was rec" + "ieved.\n", encoding="utf-8")
    assert "==> received" in misspelled(tmp_path / "page.md")


def british_of_american() -> dict[str, str]:
    """Return the British spelling of each American one, of words that have both."""
    import codespell_lib

    assert codespell_lib.__file__ is not None
    source = Path(codespell_lib.__file__).parent / "data" / "dictionary_en-GB_to_en-US.txt"
    return {
        american.strip(): british
        for line in source.read_text(encoding="utf-8").splitlines()
        for british, _, meant in [line.partition("->")]
        for american in meant.split(",")
        if american.strip() and american.strip() not in AMERICAN_TOO
    }


_CODE = re.compile(r"^```.*?^```|``.*?``|`[^`\n]*`|\]\([^)]*\)|<[^>\n]*>", re.M | re.S)
_WORD = re.compile(r"(?<![\w.{/=\[-])[A-Za-z]+(?![\w={(\]]|\.\w|/\w|-\w)")


def prose(name: str) -> Iterator[str]:
    """Yield what a file says to people."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            # A string without a space is a name.
            if token.type == tokenize.COMMENT or (
                token.type == tokenize.STRING
                and " " in token.string
                and "<style>" not in token.string
            ):
                yield _CODE.sub("", token.string)
    elif name.endswith(".js"):
        yield from re.findall(r'"((?:[^"\\]|\\.)* (?:[^"\\]|\\.)*)"', text)
    else:
        yield _CODE.sub("", text)


def americanisms(text: str, british: dict[str, str]) -> list[str]:
    return [word for word in _WORD.findall(text) if word.lower() in british]


@pytest.mark.needs("codespell", "git-checkout")
def test_one_spelling_of_english():
    british = british_of_american()
    packages = ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor")
    code = [f"{package}/*.py" for package in (*packages, "benchmarks", "scripts", "training")]
    names = [
        name
        for name in committed("*.md", "dashboard/*words.en.js*", *code)
        if not name.startswith("docs/zh/")
    ]
    found = {
        f"{name}: {word}, for {british[word.lower()]}"
        for name in names
        for text in prose(name)
        for word in americanisms(text, british)
    }
    assert sorted(found) == []


@pytest.mark.needs("codespell")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The color of a labeled center.", ["color", "labeled", "center"]),
        ("The colour is `color`, in color: red.", ["color"]),
        ("Use --color, color=red, self.color or color().", []),
    ],
)
def test_american_words_are_found_in_sentences_only(text: str, found: list[str]):
    assert americanisms(_CODE.sub("", text), british_of_american()) == found
