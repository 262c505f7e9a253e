"""``config.yaml``: read without the traps of YAML, and written with every setting explained."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ser_engine.config import allowed, constraints_of
from ser_engine.errors import ConfigError

_DEFAULT_NAME = "config.yaml"


def default_config_text() -> str:
    """Return the ``config.yaml`` of this installation: a checkout's own, or the package's copy."""
    package = Path(str(resources.files("emotion_monitor")))
    in_checkout = package.parent / _DEFAULT_NAME
    if (package.parent / "pyproject.toml").is_file() and in_checkout.is_file():
        return in_checkout.read_text(encoding="utf-8")
    return (package / _DEFAULT_NAME).read_text(encoding="utf-8")


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or does not hold sections of settings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration file {path}: {reason}") from None
    return parse_config(text, str(path))


def parse_config(text: str, name: str) -> dict[str, Any]:
    """Parse the text of a configuration file called ``name``.

    Raises:
        ConfigError: it is not YAML, or does not hold sections of settings.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: got a {type(values).__name__}, expected sections of settings")
    return values


def parse_value(text: str) -> Any:
    """Return the value that an environment variable or an argument spells.

    Lists and mappings are written as in YAML; everything else stays text, which the type of the
    setting then interprets.
    """
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text


if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    # libyaml reads config.yaml in a twentieth of the time, a quarter of a second at each start.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(SafeLoader):
    """YAML in which only ``true`` and ``false`` are booleans and no key may occur twice."""

    # YAML 1.1, which PyYAML reads, has on, off, yes and no as booleans, too; `vad.detector` may be
    # off. YAML itself forbids a key twice, PyYAML silently takes the last.

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"got the key '{key}' twice, expected it once", key_node.start_mark
                )
            mapping[key] = None
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:bool"]
    for first, pairs in SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


_HEADER = """\
# Every setting with its default. Precedence, weakest first:
#
#   1. this file, or the one given with --config FILE
#   2. the environment:  EMOTION_MONITOR__SER_ENGINE__TIMELINE__WINDOW_MS=3000
#   3. the command line: --set ser_engine.timeline.window_ms=3000   (may be repeated)
#
# A key that is left out keeps its default; an unknown key, a value out of range or a contradiction
# stops the start with one line that names it. `emotion-monitor config` prints what is in effect,
# `emotion-monitor config --defaults` prints this file.
"""
_WIDTH = 100
# The unit in the end of a setting's name; the first that matches counts.
_UNITS = {
    "_per_s": "",  # A rate is a number, not a time.
    "_ms": "Milliseconds",
    "_s": "Seconds",
    "_hours": "Hours",
    "_days": "Days",
    "_bytes": "Bytes",
    "_mb": "MiB",
    "_dbfs": "dBFS",
}


def config_text(sections: dict[str, Any]) -> str:
    """Return a ``config.yaml`` with a comment above every setting: meaning, unit and range."""
    lines = _HEADER.splitlines()
    for name, section in sections.items():
        lines += ["", *_comment(inspect.getdoc(section) or "", 0), f"{name}:", *_group(section, 2)]
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """Return a value as YAML has it: mappings for dataclasses, lists for tuples."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _group(group: Any, indent: int) -> Iterator[str]:
    docs = _field_docs(type(group))
    constraints = constraints_of(group.__class__)
    for field in dataclasses.fields(group):
        name, value = field.name, getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield ""
            yield from _comment(inspect.getdoc(value) or "", indent)
            yield f"{' ' * indent}{name}:"
            yield from _group(value, indent + 2)
            continue
        unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
        limit = "true or false" if isinstance(value, bool) else ""
        if name in constraints:
            limit = allowed(constraints[name])
        sentence = f"{unit}, {limit}" if unit and limit else unit or limit.capitalize()
        yield from _comment(f"{docs[name]} {sentence}." if sentence else docs[name], indent)
        yield from textwrap.indent(_entry(name, plain(value)), " " * indent).splitlines()


def _entry(name: str, value: Any) -> str:
    # None: collections of scalars on one line, what holds other collections on several.
    text = yaml.safe_dump(
        {name: value},
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=_WIDTH,
    )
    return text if isinstance(value, dict | list) else text.strip().removeprefix("{")[:-1]


def _comment(text: str, indent: int) -> list[str]:
    start = " " * indent + "# "
    return textwrap.wrap(
        " ".join(text.replace("``", "").split()),
        width=_WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _field_docs(group: type) -> dict[str, str]:
    """Return the strings below the fields of a dataclass, which Python does not keep."""
    docs: dict[str, str] = {}
    for each in reversed(group.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in itertools.pairwise(definition.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                    docs[name] = text
    return docs
