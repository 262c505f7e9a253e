"""Write docs/reference/command-line.md from the commands themselves.

    python -m scripts.command_line_reference

A test holds the page to what this prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from emotion_monitor.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "command-line.md"

_HEAD = """# Command line

Written from the commands by `python -m scripts.command_line_reference`; `emotion-monitor COMMAND
--help` shows the same. In a checkout `bash run.sh COMMAND …` is `emotion-monitor COMMAND …`.

| exit status | |
|---|---|
| 0 | done |
| 1 | the command failed, or some of the files it was given did; the reason is on standard error |
| 2 | the arguments or the settings are wrong; nothing was started |
| 130 | interrupted by Ctrl-C |
"""


def page() -> str:
    """Return the page, in Markdown."""
    return _HEAD + "".join(_sections(typer.main.get_group(app), ("emotion-monitor",)))


def _sections(command: TyperCommand | TyperGroup, words: tuple[str, ...]) -> Iterator[str]:
    """Yield the section of ``command``, called by ``words``, and of those below it."""
    context = typer.Context(command, info_name=" ".join(words))
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    yield f"\n## `{' '.join(words)}`\n\n{_plain(command.help or '')}\n\n```\n{usage}\n```\n"
    rows = []
    for parameter in command.params:
        if isinstance(parameter, TyperOption | TyperArgument):
            record = parameter.get_help_record(context)
            if record is not None:  # None: hidden.
                name, meaning = record
                rows.append(f"| `{_cell(name)}` | {_cell(meaning)} |\n")
    if rows:
        yield "\n| | |\n|---|---|\n" + "".join(rows)
    if isinstance(command, TyperGroup):
        for name in sorted(command.commands):
            below = command.commands[name]
            assert isinstance(below, TyperCommand | TyperGroup)
            yield from _sections(below, (*words, name))


def _cell(text: str) -> str:
    return " ".join(_plain(text).split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return help text without marks for the terminal."""
    return re.sub(r"\[/?(bold|dim)\]", "", text.replace("\b", "")).replace("``", "`").strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
