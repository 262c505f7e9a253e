"""The settings of the whole application: one section a package, read once at the start.

Sources, weakest first: ``config.yaml``, the environment, the command line. A setting is known by
its dotted name, e.g. ``ser_engine.timeline.window_ms``; the environment spells it
``EMOTION_MONITOR__SER_ENGINE__TIMELINE__WINDOW_MS``.

Reading ``config.yaml``: where the installed one is, and YAML without its traps.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_type_hints

import yaml
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from dashboard.config import DashboardConfig
from ser_engine.config import EngineConfig
from ser_engine.errors import ConfigError
from stream_server.config import ServerConfig

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


_PREFIX = "EMOTION_MONITOR__"
_DELIMITER = "__"
_COMMAND_LINE = "--set"

_SettingPath = tuple[str, ...]


class Settings(BaseSettings):
    """Every setting, validated. ``Settings()`` is the defaults, whatever the environment holds."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter=_DELIMITER, extra="forbid", frozen=True
    )

    ser_engine: EngineConfig = Field(default_factory=EngineConfig)
    stream_server: ServerConfig = Field(default_factory=ServerConfig)
    dashboard: DashboardConfig = Field(default_factory=DashboardConfig)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *args: Any, **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the sources to :func:`load_settings`, which can say where a value came from."""
        return (sources["init_settings"],)

    @field_validator("*", mode="wrap")
    @classmethod
    def _name_the_section(
        cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """Put the section in front of what a dataclass says about its fields."""
        try:
            return validate(value)
        except ConfigError as error:
            raise ConfigError(f"{info.field_name}: {error}") from None

    def to_yaml(self) -> str:
        """Return every setting in the form of ``config.yaml``."""
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in _sections()}
        return yaml.safe_dump(_plain(sections), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, as YAML has them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def load_settings(config_file: Path | None = None, assignments: Sequence[str] = ()) -> Settings:
    """Read the settings from all sources.

    Args:
        config_file: read instead of the installed ``config.yaml``.
        assignments: ``section.group.name=value``; of two for one setting the later one holds.

    Raises:
        ConfigError: one line: the setting, where it was set, what was got and what is expected.
    """
    if config_file is None:
        file = _Source("config.yaml", parse_config(default_config_text(), "config.yaml"))
    else:
        file = _Source(str(config_file), read_config_file(config_file))
    sources = (file, _environment(), _Source(_COMMAND_LINE, _tree_of(assignments)))
    values: dict[str, Any] = {}
    for source in sources:
        _refuse_unknown(source)
        values = _merged(values, source.values)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(_first_error(error, sources)) from None


def known_settings() -> tuple[str, ...]:
    """Return the dotted name of every setting."""
    return tuple(
        ".".join((name, *path))
        for name, section in _sections().items()
        for path in _leaves_of_class(section)
    )


@dataclasses.dataclass(frozen=True)
class _Source:
    """One place that settings come from, and its values as a tree."""

    name: str
    values: Mapping[str, Any]

    def spelling(self, path: _SettingPath) -> str:
        """Return how a user finds the setting again: where it is set and under which name."""
        if self.name == _PREFIX:
            return _PREFIX + _DELIMITER.join(path).upper()
        separator = " " if self.name == _COMMAND_LINE else ": "
        return f"{self.name}{separator}{'.'.join(path)}"


def _sections() -> dict[str, type]:
    return {name: cast(type, field.annotation) for name, field in Settings.model_fields.items()}


def _leaves_of_class(section: type) -> Iterator[_SettingPath]:
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(hints[field.name]):
            for path in _leaves_of_class(hints[field.name]):
                yield (field.name, *path)
        else:
            yield (field.name,)


def _environment() -> _Source:
    sections = _sections()
    for name in sorted(os.environ):
        if not name.upper().startswith(_PREFIX):
            continue
        path = tuple(name[len(_PREFIX) :].lower().split(_DELIMITER))
        if path[0] not in sections:
            raise ConfigError(_unknown(name, path))
    try:
        values = EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigError(f"cannot read the environment: {error}") from None
    return _Source(_PREFIX, _parsed(values))


def _parsed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _parsed(inner) for key, inner in value.items()}
    return parse_value(value) if isinstance(value, str) else value


def _tree_of(assignments: Sequence[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        path = name.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(
                f"got --set '{assignment}', expected section.group.name=value, e.g."
                " ser_engine.timeline.window_ms=3000"
            )
        branch: Any = parse_value(text)
        for key in reversed(path):
            branch = {key: branch}
        tree = _merged(tree, branch)
    return tree


def _merged(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(weaker)
    for key, value in stronger.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            value = _merged(merged[key], value)
        merged[key] = value
    return merged


def _refuse_unknown(source: _Source) -> None:
    leaves = {tuple(name.split(".")) for name in known_settings()}
    branches = {leaf[:depth] for leaf in leaves for depth in range(len(leaf))}

    def check(path: _SettingPath, value: Any) -> None:
        if path in leaves:
            return
        if path not in branches:
            while isinstance(value, Mapping) and len(value) == 1:
                (key, value), *_ = value.items()
                path = (*path, str(key))
            raise ConfigError(_unknown(source.spelling(path), path))
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{source.spelling(path)}: got {_shown(value)}, expected a section with settings"
            )
        for key, inner in value.items():
            check((*path, str(key)), inner)

    check((), source.values)


def _unknown(spelling: str, path: _SettingPath) -> str:
    name, known = ".".join(path), known_settings()
    close = [candidate for candidate in known if candidate.endswith("." + name)]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else "`emotion-monitor config` prints all settings"
    return f"{spelling}: there is no such setting; {hint}"


def _first_error(error: ValidationError, sources: Sequence[_Source]) -> str:
    first, *others = error.errors(include_url=False)
    path = tuple(str(part) for part in first["loc"])
    expected = first["msg"].removeprefix("Input should be ").partition(", unable to ")[0]
    where = next(
        (source.spelling(path) for source in reversed(sources) if _holds(source.values, path)),
        ".".join(path),
    )
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: got {_shown(first['input'])}, expected {expected}{more}"


def _holds(tree: Any, path: _SettingPath) -> bool:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
