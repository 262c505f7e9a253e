"""Follow the tutorials of ``docs/tutorials`` as they are printed, in an empty folder.

    .venv/bin/python -m scripts.walk_tutorials FOLDER [TUTORIAL …]
    .venv/bin/python -m scripts.walk_tutorials --demo

Programs that a tutorial says to save are saved, and lines of its shell blocks are run in order with
nothing in the environment but a path, a home and a language. Each must end as its page says.
``scripts/newcomer.sh`` does that on a new Debian, installation included; the suite does it with the
packages that are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent

LAST_LINES = {
    "microphone-in-python": r"^(unclear|[a-z]+) \d+%$",
    "recordings-as-a-table": r"analysed",
    "call-with-an-alert": r'"rule":"customer is angry","state":"raised"',
}
"""What each tutorial ends in. ``first-emotion`` is for eyes; what it waits for is an alert, and
``--demo`` waits for that of a server that ``bash run.sh --demo`` started."""

DEMO_RULE = "customer stays angry"

SET_UP = ("bash run.sh ", ". .venv/bin/activate", "sudo ")
"""Lines that install: they are followed before, once for all tutorials."""

NO_MICROPHONE = {
    "import MicrophoneSource": "import ArraySource, load_sample_call",
    "MicrophoneSource()": "ArraySource(*load_sample_call())",
}
"""Replacements that the tutorial gives for a machine without a microphone."""

LONGEST_STEP_S = 600

READY_URL = "http://localhost:7860/readyz"
"""Answers once what was started in other terminals is ready; a reader sees it there."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader does.

    Attributes:
        kind: ``save`` a file, ``run`` a command and wait for it, or ``start`` one in a terminal.
        text: the file's content, or the command.
        name: of the file.
    """

    kind: Literal["save", "run", "start"]
    text: str
    name: str = ""


def steps(page: str) -> Iterator[Step]:
    """Yield what a page tells its reader to do, in order, without what installs."""
    before = 0
    for block in re.finditer(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        told = page[before : block.start()]
        before = block.end()
        language, text = block[1], block[2]
        if language == "sh":
            kind: Literal["run", "start"] = "start" if "in a terminal" in told else "run"
            for line in text.splitlines():
                command = line.split("  #")[0].strip()
                if command and not command.startswith(SET_UP):
                    yield Step(kind, command)
        elif named := re.search(r"as `([\w.]+\.(?:py|yaml))`", told):
            yield Step("save", text, named[1])
        elif language == "python":
            yield Step("save", text, "typed.py")
            yield Step("run", "python typed.py")


def walk(
    name: str,
    folder: Path,
    environment: Mapping[str, str],
    changes: Mapping[str, str],
    ready_url: str = READY_URL,
) -> None:
    """Follow one tutorial.

    A ``python`` is on the path of ``environment``. ``changes``: texts to write instead of others
    that are printed, such as ports.

    Raises:
        RuntimeError: a command fails, or the tutorial does not end as it says.
    """
    page = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    for printed, written in changes.items():
        page = page.replace(printed, written)
    output = folder / f"{name}.log"
    terminals: list[subprocess.Popen[bytes]] = []
    try:
        with output.open("wb") as log:
            for step in steps(page):
                if step.kind == "save":
                    (folder / step.name).write_text(step.text, encoding="utf-8")
                    continue
                if step.kind == "run" and terminals:
                    _wait_until_ready(ready_url, output, terminals)
                # A shell that is left between would keep the signal that ends a terminal's program.
                command = f"exec {step.text}" if step.kind == "start" else step.text
                process = subprocess.Popen(
                    ["bash", "-c", command],
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                if step.kind == "start":
                    terminals.append(process)
                elif process.wait(timeout=LONGEST_STEP_S) != 0:
                    raise RuntimeError(f"{name}: `{step.text}` failed:\n{output.read_text()}")
        _wait_for(LAST_LINES[name], output, name)
    finally:
        for process in terminals:
            process.terminate()
            process.wait()


# Without the proxies of the environment: what is opened is on this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_for_demo(url: str = "http://localhost:7860/api/v1/alerts") -> None:
    """Wait for the alert that the sample call of ``bash run.sh --demo`` raises.

    Raises:
        TimeoutError: it does not come.
    """
    deadline_s = time.monotonic() + LONGEST_STEP_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), _opener.open(url, timeout=10) as answer:
            if any(alert["rule"] == DEMO_RULE for alert in json.load(answer)["alerts"]):
                return
        time.sleep(0.5)
    raise TimeoutError(f"first-emotion: no alert {DEMO_RULE!r} in {LONGEST_STEP_S} s")


def _wait_until_ready(url: str, output: Path, terminals: list[subprocess.Popen[bytes]]) -> None:
    deadline_s = time.monotonic() + LONGEST_STEP_S
    while True:
        try:
            with _opener.open(url, timeout=10):
                return
        except OSError as error:
            has_ended = any(process.poll() is not None for process in terminals)
            if has_ended or time.monotonic() > deadline_s:
                raise RuntimeError(f"{url}: {error}:\n{output.read_text()}") from error
            time.sleep(0.1)


def _wait_for(last_line: str, output: Path, name: str) -> None:
    deadline_s = time.monotonic() + 60
    while not re.search(last_line, output.read_text(encoding="utf-8"), re.MULTILINE):
        if time.monotonic() > deadline_s:
            raise RuntimeError(
                f"{name}: expected a line with {last_line}, got:\n{output.read_text()}"
            )
        time.sleep(0.05)


def main() -> int:
    """Follow the tutorials; return the exit status."""
    parser = argparse.ArgumentParser(description="Follow the tutorials as they are printed.")
    parser.add_argument("folder", type=Path, nargs="?", help="an empty folder")
    parser.add_argument("--demo", action="store_true", help="wait for the alert of a running demo")
    parser.add_argument("tutorials", nargs="*", default=sorted(LAST_LINES), metavar="TUTORIAL")
    given = parser.parse_args()
    if given.demo:
        wait_for_demo()
        print("first-emotion: the alert is raised")
        return 0
    folder: Path | None = given.folder
    if folder is None:
        parser.error("got no folder, expected an empty one")
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        "LANG": "C.UTF-8",
        # Scripts of the checkout are run from its folder, where the tutorials begin.
        "PYTHONPATH": str(ROOT),
    }
    for name in given.tutorials:
        try:
            walk(name, folder, environment, NO_MICROPHONE)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{name}: reached its last line")
    return 0


if __name__ == "__main__":
    sys.exit(main())
