"""Dependencies point one way; ``docs/explanation/architecture.md`` says which and why."""

from __future__ import annotations

import ast
import fnmatch
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.requirements import REPOSITORY

PACKAGES = ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor")

MAY_IMPORT = {
    # More specific names first: the first that covers a module is the rule for it.
    "emotion_monitor": PACKAGES,
    "stream_server.wire": ("ser_engine.schema", "stream_server.wire"),
    "stream_server.tracks": ("ser_engine.schema", "stream_server.tracks", "stream_server.wire"),
    # Shells of a platform: ports of its own, and a route that logs.
    "stream_server.platforms.asterisk.call": ("ser_engine.schema", "stream_server"),
    "stream_server.platforms.asterisk.server": ("ser_engine.schema", "stream_server"),
    "stream_server.platforms.amazon_connect.server": ("ser_engine.schema", "stream_server"),
    "stream_server.platforms.rtp.server": ("stream_server",),
    "stream_server.platforms.siprec.call": ("ser_engine.schema", "stream_server"),
    "stream_server.platforms.siprec.server": ("stream_server",),
    "stream_server.platforms.audiohook.route": ("stream_server",),
    "stream_server.platforms": (
        "ser_engine.config",
        "ser_engine.errors",
        "ser_engine.schema",
        "stream_server.access",
        "stream_server.platforms",
        "stream_server.rtp",
        "stream_server.tracks",
        "stream_server.wire",
    ),
    "stream_server": ("ser_engine", "stream_server"),
    "ser_engine": ("ser_engine",),
    "mic_client": ("mic_client", "ser_engine.schema", "stream_server.wire"),
    "dashboard": (
        "dashboard",
        "ser_engine.config",
        "ser_engine.errors",
        "ser_engine.files",
        "ser_engine.schema",
        "ser_engine.timeline.course",
        "stream_server.access.policy",
        "stream_server.alerts.judgement",
        "stream_server.bus",
        "stream_server.feeds",
        "stream_server.http",
        "stream_server.at_rest",
        "stream_server.recording",
        "stream_server.rights",
        "stream_server.store",
        "stream_server.streams.live_streams",
        "stream_server.wire",
    ),
}
"""What a module may import of the five packages, anywhere in its code."""

CORE_MAY_IMPORT = {"torch", "numpy", "msgspec", "ser_engine"}
"""What the engine's core may import at module level besides the standard library."""

MODELS_MAY_IMPORT = CORE_MAY_IMPORT | {"safetensors", "yaml"}
"""The same for ``ser_engine.models``: what the files of a checkpoint are read with."""

NOT_CORE = (
    "ser_engine.resample",
    "ser_engine.files*",
    "ser_engine.core.runtimes.openvino*",
    "ser_engine.core.runtimes.onnx*",
    "ser_engine.core.runtimes.funasr*",
    "ser_engine.models.hub*",
    "ser_engine.speakers.campplus",
    "ser_engine.timeline.speech",
    "ser_engine.timeline.silero",
)
"""Modules of the engine that exist for the sake of another package."""

WITHOUT = {
    "ser_engine.schema": {"torch", "numpy", "asyncio"},
    "stream_server.wire": {"torch", "asyncio"},
    "stream_server.tracks": {"torch", "asyncio"},
    "stream_server.platforms": {"torch", "asyncio"},
    "mic_client": {"torch"},
}
"""What importing a module must not bring along, by whatever way."""

SHELLS = (
    "stream_server.platforms.amazon_connect.server",
    "stream_server.platforms.asterisk.call",
    "stream_server.platforms.asterisk.server",
    "stream_server.platforms.audiohook.route",
    "stream_server.platforms.rtp.server",
    "stream_server.platforms.siprec.call",
    "stream_server.platforms.siprec.server",
)
"""Modules that ``WITHOUT`` does not cover: they are imported only by a server."""


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target``; at its own level or inside a function."""

    module: str
    target: str
    at_module_level: bool


def covers(pattern: str, module: str) -> bool:
    """Tell whether a module is one that ``pattern`` names, or inside one."""
    return any(fnmatch.fnmatchcase(module, end) for end in (pattern, pattern + ".*"))


def modules() -> dict[str, str]:
    """Return the source text of every module of the five packages, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
    return found


parsed = functools.cache(ast.parse)
"""Every rule here reads every module."""


def imports_of(
    name: str, source: str, known: Iterable[str], *, for_checkers: bool = False
) -> Iterator[Import]:
    """Yield the imports of a module; ``for_checkers``: those that only type checkers read, too."""
    known = set(known)

    def visit(node: ast.AST, at_module_level: bool) -> Iterator[Import]:
        if (
            isinstance(node, ast.If)
            and ast.unparse(node.test).endswith("TYPE_CHECKING")
            and not for_checkers
        ):
            for statement in node.orelse:
                yield from visit(statement, at_module_level)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, at_module_level)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports are not used"
            assert node.module
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                target = submodule if submodule in known else node.module
                yield Import(name, target, at_module_level)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_module_level and not inside)

    yield from visit(parsed(source), True)


def wrong_directions(sources: Mapping[str, str]) -> list[str]:
    """Return every import between the packages that the rule forbids."""
    wrong = []
    for name, source in sources.items():
        allowed = next(allowed for prefix, allowed in MAY_IMPORT.items() if covers(prefix, name))
        for found in imports_of(name, source, sources):
            ours = found.target.partition(".")[0] in PACKAGES
            if ours and not any(covers(prefix, found.target) for prefix in allowed):
                wrong.append(f"{name} imports {found.target}")
    return wrong


def strangers_in_the_core(sources: Mapping[str, str]) -> list[str]:
    """Return every module-level import of the engine's core beyond torch and numpy."""
    wrong = []
    for name, source in sources.items():
        if not covers("ser_engine", name):
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in NOT_CORE):
            continue
        allowed = MODELS_MAY_IMPORT if covers("ser_engine.models", name) else CORE_MAY_IMPORT
        for found in imports_of(name, source, sources):
            top = found.target.partition(".")[0]
            if found.at_module_level and top not in allowed | sys.stdlib_module_names:
                wrong.append(f"{name} imports {found.target}")
    return wrong


def brought_along(name: str, imports: Mapping[str, Sequence[Import]]) -> set[str]:
    """Return the top-level packages that importing a module imports, directly or not."""
    waiting, done, tops = [name], set(), set()
    while waiting:
        module = waiting.pop()
        if module in done or module not in imports:
            continue
        done.add(module)
        parts = module.split(".")
        waiting += [".".join(parts[:depth]) for depth in range(1, len(parts))]
        for found in imports[module]:
            if found.at_module_level:
                tops.add(found.target.partition(".")[0])
                waiting.append(found.target)
    return tops


def unwanted_company(sources: Mapping[str, str]) -> list[str]:
    """Return the modules that bring along what they promise to do without."""
    imports = {name: tuple(imports_of(name, text, sources)) for name, text in sources.items()}
    return [
        f"{name} brings {unwanted}"
        for prefix, forbidden in WITHOUT.items()
        for name in sources
        if covers(prefix, name) and name not in SHELLS
        for unwanted in sorted(forbidden & brought_along(name, imports))
    ]


def circles(sources: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of modules that import one another, directly or by way of others.

    Imports count wherever they stand: at the top, inside a function, for type checkers only.
    Whoever reads such modules can begin with none of them.
    """
    imports = {
        name: {each.target for each in imports_of(name, source, sources, for_checkers=True)}
        for name, source in sources.items()
    }
    reached: dict[str, set[str]] = {}
    for name in sources:
        waiting, found = list(imports[name]), set[str]()
        while waiting:
            module = waiting.pop()
            if module in imports and module not in found:
                found.add(module)
                waiting += imports[module]
        reached[name] = found
    groups = (
        sorted(other for other in reached[name] if name in reached[other]) for name in sources
    )
    return sorted(map(list, {tuple(group) for group in groups if group}))


def test_no_modules_import_one_another():
    assert circles(modules()) == []


@pytest.mark.parametrize(
    "back",
    [
        "from dashboard.a import name",
        "def f():\n    import dashboard.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dashboard import a",
    ],
)
def test_a_circle_is_found_and_named(back: str):
    sources = {
        "dashboard": "",
        "dashboard.a": "import dashboard.b",
        "dashboard.b": "from dashboard import c",
        "dashboard.c": back,
        "dashboard.d": "import dashboard.a",
    }
    assert circles(sources) == [["dashboard.a", "dashboard.b", "dashboard.c"]]


def test_packages_depend_in_one_direction():
    assert wrong_directions(modules()) == []


def test_the_core_of_the_engine_needs_torch_and_numpy_only():
    assert strangers_in_the_core(modules()) == []


def test_clients_and_protocols_bring_no_torch():
    assert unwanted_company(modules()) == []


def test_all_five_packages_are_looked_at():
    assert {name.partition(".")[0] for name in modules()} == set(PACKAGES)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ser_engine.core.engine", "import emotion_monitor.settings"),
        ("ser_engine.core.engine", "def f():\n    from dashboard import app"),
        ("stream_server.gateway", "from mic_client import sender"),
        ("stream_server.gateway", "import dashboard"),
        ("stream_server.wire.native", "from emotion_monitor.settings import Settings"),
        ("stream_server.wire.native", "import ser_engine.frames"),
        ("stream_server.wire.native", "from ser_engine.files import results"),
        ("stream_server.platforms.twilio.dialect", "from ser_engine.types import Window"),
        ("mic_client.sender", "from stream_server import settings"),
        ("mic_client.sender", "import ser_engine"),
        ("mic_client.sender", "import ser_engine.frames"),
        ("dashboard.app", "import stream_server.gateway"),
        ("dashboard.app", "from ser_engine.core.engine import EngineCore"),
    ],
)
def test_a_wrong_direction_is_found(module: str, source: str):
    sources = {module: source, "emotion_monitor.settings": ""}
    assert len(wrong_directions(sources)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "emotion_monitor.serve",
            "import dashboard, mic_client, ser_engine, stream_server",
        ),
        ("mic_client.sender", "from stream_server.wire import native"),
        ("mic_client.sender", "from ser_engine.schema import Point"),
        ("stream_server.wire.native", "from ser_engine import schema"),
        ("dashboard.app", "from ser_engine.files import analyse"),
        ("dashboard.app", "import stream_server.feeds"),
        (
            "ser_engine.core.engine",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import stream_server",
        ),
    ],
)
def test_a_right_direction_is_left_alone(module: str, source: str):
    assert (
        wrong_directions({module: source, "ser_engine.schema": "", "stream_server.wire": ""}) == []
    )


@pytest.mark.parametrize(
    ("module", "source", "is_wrong"),
    [
        ("ser_engine.core.engine", "import pydantic", True),
        ("ser_engine.core.engine", "try:\n    import scipy\nexcept ImportError:\n    pass", True),
        ("ser_engine.core.engine", "class A:\n    import yaml", True),
        ("ser_engine.core.engine", "import safetensors", True),
        ("ser_engine.models.emotion2vec.checkpoint", "import safetensors.torch", False),
        ("ser_engine.core.engine", "def f():\n    import yaml", False),
        ("ser_engine.core.engine", "import json\nimport torch.nn\nimport numpy as np", False),
        ("ser_engine.core.runtimes.openvino_runtime", "import openvino", False),
        ("emotion_monitor.settings", "import pydantic", False),
    ],
)
def test_a_stranger_in_the_core_is_found(module: str, source: str, is_wrong: bool):
    assert bool(strangers_in_the_core({module: source})) is is_wrong


def test_torch_behind_another_module_is_found():
    sources = {
        "stream_server": "",
        "stream_server.wire": "",
        "stream_server.wire.native": "from stream_server.wire import messages",
        "stream_server.wire.messages": "import torch.nn",
        "mic_client": "",
        "mic_client.sender": "import stream_server.wire.native",
    }
    assert "stream_server.wire.native brings torch" in unwanted_company(sources)
    assert "mic_client.sender brings torch" in unwanted_company(sources)
    sources["stream_server.wire.messages"] = "def f():\n    import torch"
    assert unwanted_company(sources) == []


def test_what_a_parent_package_imports_is_found():
    sources = {"stream_server": "import asyncio", "stream_server.wire": ""}
    assert unwanted_company(sources) == ["stream_server.wire brings asyncio"]


def test_modules_are_known_by_their_dotted_names():
    assert {"ser_engine", "ser_engine.frames", "emotion_monitor", "mic_client"} <= set(modules())
