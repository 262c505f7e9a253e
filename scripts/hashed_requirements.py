"""Print what some extras need, each file with its SHA-256, for ``pip --require-hashes --no-deps``.

::

    python scripts/hashed_requirements.py server,mqtt > hashed.txt

Needs nothing but Python: ``run.sh`` calls it before anything is installed. What depends on what is
read from the ``# via`` comments of ``requirements/hashes.txt``. What builds this package is always
among it; torch and what only its CUDA build needs are not, as their build depends on the machine.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HASHES = ROOT / "requirements" / "hashes.txt"
_APART = re.compile(r"(torch|triton|(nvidia|cuda)-.*)")
_PROJECT = "emotion-monitor"


def hashed_requirements(extras: Iterable[str], pyproject: str, hashes: str) -> str:
    """Return the entries of a requirements file for the package with these extras.

    ``extras`` may have ``all``; those of ``dev`` have no hashes. The others are the contents of
    ``pyproject.toml`` and ``requirements/hashes.txt``.

    Raises:
        LookupError: there is no such extra, or no hash of what it needs.
    """
    entries, needs = _entries(hashes)
    waiting = _direct(extras, pyproject)
    wanted: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted.add(name)
        waiting |= needs.get(name, set())
        if name not in entries and not _APART.fullmatch(name):
            raise LookupError(
                f"got no hashes of {name} in requirements/hashes.txt; run bash scripts/pin.sh"
            )
    return "".join(entry for name, found in entries.items() if name in wanted for entry in found)


def _direct(extras: Iterable[str], pyproject: str) -> set[str]:
    content = tomllib.loads(pyproject)
    groups = content["project"]["optional-dependencies"]
    names = {_name(each) for each in content["build-system"]["requires"]}
    names |= {_name(each) for each in content["project"]["dependencies"]}
    waiting = list(extras)
    while waiting:
        extra = waiting.pop()
        if extra == "dev" or extra not in groups:
            allowed = ", ".join(sorted(set(groups) - {"dev"}))
            raise LookupError(f"got the extra {extra}, expected some of {allowed}")
        for each in groups[extra]:
            if _name(each) == _PROJECT:
                waiting += re.findall(r"[a-z0-9-]+", each.partition("[")[2])
            else:
                names.add(_name(each))
    return names


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise LookupError(f"got the requirement {requirement}, expected a name at its start")
    return re.sub(r"[-_.]+", "-", found[0]).lower()  # PEP 503


def _entries(hashes: str) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Return the entries by name, a package may have several, and what each package needs."""
    entries: dict[str, list[str]] = {}
    needs: dict[str, set[str]] = {}
    name = ""
    for line in hashes.splitlines(keepends=True):
        if line[0].isalnum():
            name = _name(line)
            entries.setdefault(name, []).append(line)
        elif (via := line.strip()).startswith("# via "):
            for other in via.removeprefix("# via ").split(", "):
                needs.setdefault(other, set()).add(name)
        else:
            entries[name][-1] += line
    return entries, needs


if __name__ == "__main__":
    try:
        print(
            hashed_requirements(
                [each for each in sys.argv[1].split(",") if each],
                (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
                HASHES.read_text(encoding="utf-8"),
            ),
            end="",
        )
    except LookupError as error:
        sys.exit(str(error.args[0]))
