"""What every file under version control has to keep to."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib

import pytest

from tests.requirements import REPOSITORY

# Put together from pieces, so that this file does not contain what it looks for.
MACHINE_PATHS = tuple(f"/{name}/" for name in ("work", "root", "farm"))
REGISTRY_HOSTS = (
    "pypi" + ".org",
    "pypi.python" + ".org",
    "pythonhosted" + ".org",
    "download.pytorch" + ".org",
    "registry.npmjs" + ".org",
    "anaconda" + ".org",
)
FORBIDDEN = re.compile(
    "|".join(
        [rf"(?<![\w.~-]){re.escape(path)}" for path in MACHINE_PATHS]
        + [re.escape(host) for host in REGISTRY_HOSTS]
    )
)


def committed_files() -> list[str]:
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")[:-1]


@pytest.mark.needs("git-checkout")
def test_no_file_names_a_machine_or_a_registry():
    found = []
    for name in committed_files():
        path = REPOSITORY / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        # No text: weights, pictures and sounds, whose search takes longer than all the rest.
        text = "" if b"\0" in content[:1024] else content.decode("utf-8", errors="ignore")
        found += [f"{name}: {match.group()}" for match in FORBIDDEN.finditer(f"{name}\n{text}")]
    assert found == []


@pytest.mark.parametrize("text", [f"cd {MACHINE_PATHS[0]}main", f"https://{REGISTRY_HOSTS[0]}/"])
def test_a_machine_or_a_registry_is_found(text: str):
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize(
    "text", ["frame" + MACHINE_PATHS[0], "~" + MACHINE_PATHS[0], "a framework/"]
)
def test_other_paths_are_left_alone(text: str):
    assert not FORBIDDEN.search(text)


def constraints() -> list[str]:
    text = (REPOSITORY / "requirements" / "constraints.txt").read_text(encoding="utf-8")
    return text.splitlines()


def test_constraints_hold_pinned_packages_and_nothing_else():
    pin = re.compile(r"[a-z0-9-]+==[\w.!+]+( ; .+)?")
    assert [line for line in constraints() if not pin.fullmatch(line)] == []


def test_every_dependency_is_pinned():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")
        for requirements in (
            project["dependencies"],
            *project["optional-dependencies"].values(),
        )
        for requirement in requirements
    ]
    pinned = {line.partition("==")[0] for line in constraints()}
    assert set(wanted) - pinned == {project["name"]}


def test_the_build_uses_the_pinned_hatchling():
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert build["build-system"]["requires"][0] in constraints()


def test_constructors_with_more_than_five_parameters_take_keywords_only():
    found = []
    for package in ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.FunctionDef) or node.name != "__init__":
                    continue
                by_place = len(node.args.posonlyargs) + len(node.args.args) - 1
                if by_place and by_place + len(node.args.kwonlyargs) > 5:
                    found.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert found == []
