"""The settings of the whole application: one section a package, read once at the start.

Sources, weakest first: ``config.yaml``, the environment, the command line. A setting is known by
its dotted name, e.g. ``ser_engine.timeline.window_ms``; the environment spells it
``EMOTION_MONITOR__SER_ENGINE__TIMELINE__WINDOW_MS``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
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
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from dashboard.config import DashboardConfig
from emotion_monitor.config_file import (
    config_text,
    default_config_text,
    parse_config,
    parse_value,
    plain,
    read_config_file,
)
from ser_engine.config import EngineConfig
from ser_engine.errors import ConfigError
from stream_server.config import ServerConfig
from stream_server.wire.masking import MASK, is_secret, masked

_PREFIX = "EMOTION_MONITOR__"
_DELIMITER = "__"
_COMMAND_LINE = "--set"
_LONGEST_SHOWN = 3
"""Characters of a value that is shown though its setting is not known: too few for a secret."""

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
        """Read nothing but arguments: :func:`load_settings` names its sources itself."""
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

    def sections(self) -> dict[str, Any]:
        """Return the dataclass of each section, by name."""
        return {name: getattr(self, name) for name in _sections()}

    def to_yaml(self) -> str:
        """Return every setting in the form of ``config.yaml``, without comments."""
        return yaml.safe_dump(plain(self.sections()), sort_keys=False, allow_unicode=True)

    def to_commented_yaml(self) -> str:
        """Return every setting as a ``config.yaml`` that explains each."""
        return config_text(self.sections())


def load_settings(config_file: Path | None = None, assignments: Sequence[str] = ()) -> Settings:
    """Read the settings from all sources.

    ``config_file`` is read instead of the installed ``config.yaml``. Of two ``assignments``
    (``section.group.name=value``) for one setting the later one holds.

    Raises:
        ConfigError: one line: the setting, where it was set, what was got and what is allowed.
    """
    if config_file is None:
        file = _Tree("config.yaml", parse_config(default_config_text(), "config.yaml"))
    else:
        file = _Tree(str(config_file), read_config_file(config_file))
    # Strongest first, as pydantic-settings has it.
    sources = (_Tree(_COMMAND_LINE, _tree_of(assignments)), _Environment(), file)
    for source in reversed(sources):
        _refuse_unknown(source)
    try:
        # An option of every BaseSettings, which mypy takes for a field.
        return Settings(_build_sources=(sources, {}))  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigError(_first_error(error, sources)) from None


@functools.cache
def known_settings() -> tuple[str, ...]:
    """Return the dotted name of every setting."""
    return tuple(
        ".".join((name, *path))
        for name, section in _sections().items()
        for path in _leaves_of_class(section)
    )


class _Tree(InitSettingsSource):
    """Settings that have been read already: a file's, or those of the command line."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        super().__init__(Settings, values)
        self.values = values
        self._name = name

    def spelling(self, path: _SettingPath) -> str:
        """Return how a user finds the setting again: where it is set and under which name."""
        separator = " " if self._name == _COMMAND_LINE else ": "
        return f"{self._name}{separator}{'.'.join(path)}"


class _Environment(EnvSettingsSource):
    """The environment, in which lists and mappings are YAML (JSON is YAML, too)."""

    def __init__(self) -> None:
        super().__init__(Settings)
        # pydantic-settings looks for the names it knows; a misspelt section must not go unnoticed.
        for name in sorted(self.env_vars):
            path = tuple(name.removeprefix(_PREFIX.lower()).split(_DELIMITER))
            if name.startswith(_PREFIX.lower()) and path[0] not in _sections():
                raise ConfigError(_unknown(name.upper(), path))
            for section in _sections():
                # One underscore less, and tokens or keys would go unnoticed.
                if name.startswith(f"{_PREFIX.lower().removesuffix('_')}{section}{_DELIMITER}"):
                    rest = name.upper().removeprefix(_PREFIX.removesuffix("_"))
                    raise ConfigError(f"got the variable {name.upper()}, expected {_PREFIX}{rest}")
        try:
            self.values = self()
        except SettingsError as error:
            raise ConfigError(f"cannot read the environment: {error}") from None

    def __call__(self) -> dict[str, Any]:
        """Return the settings of the environment as a tree."""
        # pydantic-settings decodes whole sections, but not the fields of a standard dataclass.
        return cast(dict[str, Any], _parsed(super().__call__()))

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read a whole section."""
        return parse_value(value)

    def spelling(self, path: _SettingPath) -> str:
        """Return the variable of a setting."""
        return _PREFIX + _DELIMITER.join(path).upper()


_Source = _Tree | _Environment


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
                f"got --set '{_name_of(assignment)}', expected section.group.name=value, e.g."
                " ser_engine.timeline.window_ms=3000"
            )
        branch: Any = parse_value(text)
        for key in reversed(path):
            branch = {key: branch}
        tree = _merged(tree, branch)
    return tree


def _name_of(assignment: str) -> str:
    """Return an assignment without its value, which may be secret."""
    name, separator, value = re.split(r"([=:\s]|$)", assignment, maxsplit=1)
    return name + separator + (value if len(value) <= _LONGEST_SHOWN else "…")


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
                f"{source.spelling(path)}: got {_shown(value, path)}, expected a section with"
                " settings"
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
    path, message = first_error(error)
    # Sources come strongest first: the first that has the setting is the one that counts.
    where = next(
        (source.spelling(path) for source in sources if _holds(source.values, path)), ".".join(path)
    )
    return f"{where}: {message}"


def first_error(error: ValidationError) -> tuple[_SettingPath, str]:
    """Return where pydantic found its first error, and what was got and what is allowed."""
    first, *others = error.errors(include_url=False)
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    expected = expected.partition(", unable to ")[0]
    more = f" (and {len(others)} more)" if others else ""
    path = tuple(str(part) for part in first["loc"])
    return path, f"got {_shown(first['input'], path)}, expected {expected}{more}"


def _holds(tree: Any, path: _SettingPath) -> bool:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def _shown(value: Any, path: _SettingPath = ()) -> str:
    """Return a value that was got, without what may be secret in it."""
    names = [name for name in path if not name.isdigit()]
    below = [
        name.split(".")[len(path) :]
        for name in known_settings()
        if name.startswith(".".join(path) + ".")
    ]
    if any(is_secret(name) for name in names) or (
        not isinstance(value, Mapping) and any(is_secret(part) for parts in below for part in parts)
    ):
        # Also where a secret's section, e.g. ``access``, is a text by mistake.
        return MASK
    value = masked(value, names[-1] if names else "")
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
