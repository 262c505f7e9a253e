"""Command lines that are printed can be typed: the options are there, and the programs are named.

``emotion-monitor`` lines are given to the command's own parser. Other lines are of programs listed
here, with why they are not run by this suite or where they are.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from emotion_monitor.app import _settings_first, app
from tests.docs.test_links import pages
from tests.requirements import REPOSITORY

BLOCKS = [
    (page, text)
    for page in pages()
    for text in re.findall(
        r"^```(?:sh|bash|shell|console)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
    )
]
"""Shell blocks of every page."""

SCRIPTS = ("stream_server", "training")
"""Folders whose pages print scripts for other machines; these are not taken apart into lines."""

NOT_RUN = {
    ".": "makes an environment the current one",
    "sudo": "installs packages; CI does",
    "bash": "run.sh and test.sh install packages; CI runs them",
    "pip": "needs the network",
    "uvx": "needs the network",
    "uv": "needs the network",
    "docker": "the image is the reader's own",
    "python": "benchmarks, training and examples have tests of their own",
    "curl": "the paths are those of the API, which its tests call",
    "websocat": "in no Debian package; the protocol's tests send the same",
    "arecord": "needs a sound card",
    "ffmpeg": "a program of its own; what it makes is read by the tests of files",
    "jq": "reads what others print",
    "nats": "the tests of the bus subscribe with a client of their own",
    "nats-server": "the tests of the bus start it",
    "sqlite3": "a program of its own",
    "pg_dump": "a program of PostgreSQL",
    "createdb": "a program of PostgreSQL",
    "git": "needs the network",
    "mosquitto_sub": "the tests of MQTT subscribe with a client of their own",
    "make": "targets call what CI calls",
    "trtexec": "needs TensorRT",
}
"""Programs that begin a command, and why they are not run here."""


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and command of every shell block; lines that go on are one."""
    for page, block in BLOCKS:
        if page.relative_to(REPOSITORY).parts[0] in SCRIPTS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line and not line.startswith("#"):
                yield page.name, line


def parts(line: str) -> Iterator[list[str]]:
    """Yield the words of every command of a pipeline, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in ("|", "||", "&&", ";", "&"):
            if words:
                yield words
            words = []
        elif words or "=" not in word.split("/")[0]:
            words.append(word)


LINES = sorted(set(commands()))


def test_every_program_that_is_not_run_is_printed_somewhere():
    printed = {name for _, line in LINES for words in parts(line) for name in _names(words[0])}
    assert sorted(set(NOT_RUN) - printed) == []


def _names(word: str) -> tuple[str, str]:
    return word, word.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("page", "line"), LINES, ids=[f"{page}:{line[:40]}" for page, line in LINES]
)
def test_a_line_can_be_typed(page: str, line: str):
    for words in parts(line):
        program = words[0].rsplit("/", 1)[-1]
        if words[0] == "bash" and words[1:2] == ["run.sh"] and words[2:3] and words[2][:2] != "--":
            program, words = "emotion-monitor", ["emotion-monitor", *words[2:]]
        if program != "emotion-monitor":
            assert program in NOT_RUN or words[0] in NOT_RUN, f"{program}: say why it is not run"
            continue
        redirected = [at for at, word in enumerate(words) if set(word) <= set("<>&")]
        parse(words[1 : redirected[0] if redirected else None])


COMMAND = typer.main.get_command(app)
"""Made once: of all commands and options, in a twentieth of a second."""


def parse(arguments: list[str]) -> None:
    """Parse a command line as the program does, without running it."""
    given = _settings_first(arguments)
    context: Any = COMMAND.make_context("emotion-monitor", given, resilient_parsing=True)
    rest = _left(context)
    while rest and hasattr(context.command, "resolve_command"):
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None, name
        # Not resilient from here on: unknown options and missing values are errors.
        context = command.make_context(str(name), rest, parent=context, resilient_parsing=False)
        rest = _left(context)


def _left(context: Any) -> list[str]:
    """Return what a group has not parsed; click keeps the command's name apart."""
    return [*getattr(context, "_protected_args", ()), *context.args]


def test_every_block_is_shell():
    together = "\n".join(text for _, text in BLOCKS)
    checked = subprocess.run(["bash", "-n"], input=together, capture_output=True, text=True)
    assert checked.stderr == ""


def test_what_a_line_names_is_there():
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    api = (REPOSITORY / "docs/reference/api.md").read_text(encoding="utf-8")
    missing = []
    for page, text in BLOCKS:
        for names in re.findall(r"(?:emotion-monitor|\.)\[([\w,]+)\]|--extras (\S+)", text):
            missing += [
                f"{page}: extra {x}" for x in ",".join(names).split(",") if x and x not in extras
            ]
        for module in re.findall(r"python -m ([\w.]+)", text):
            if module != "venv" and importlib.util.find_spec(module) is None:
                missing.append(f"{page}: {module}")
        for script in re.findall(r"python (\w+/[\w/]+\.py)", text):
            if not (REPOSITORY / script).exists():
                missing.append(f"{page}: {script}")
        for target in re.findall(r"^make (\S+)", text, re.M):
            if f"\n{target}:" not in makefile:
                missing.append(f"{page}: make {target}")
        for path in re.findall(r"/api/v1(/[\w./]+)", text):
            if f" {path}`" not in api:
                missing.append(f"{page}: {path}")
    assert missing == []
