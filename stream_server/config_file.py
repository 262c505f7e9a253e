"""Reading ``config.yaml``: where the installed one is, and YAML without its traps."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ser_engine.errors import ConfigError

__all__ = ["default_config_text", "parse_config", "parse_value", "read_config_file"]

_DEFAULT_NAME = "config.yaml"


def default_config_text() -> str:
    """Return the ``config.yaml`` of this installation: a checkout's own, or the package's copy."""
    package = Path(str(resources.files("stream_server")))
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


class _Loader(yaml.SafeLoader):
    """YAML in which only ``true`` and ``false`` are booleans and no key may occur twice.

    The words ``on``, ``off``, ``yes`` and ``no`` stay text, for a setting may be called so.
    """

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
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
