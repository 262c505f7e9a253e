"""Alert rules from a file: a whole ``config.yaml``, or its ``alerts`` group alone."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ser_engine.errors import ConfigError
from stream_server.alerts.rule import AlertRule
from stream_server.config_file import read_config_file
from stream_server.settings import Settings, load_settings

__all__ = ["read_rules"]


def read_rules(path: Path) -> tuple[AlertRule, ...]:
    """Read rules.

    Args:
        path: a configuration file, or one with ``alerts: {rules: [...]}`` or ``rules: [...]``.

    Raises:
        ConfigError: one line that names the file and what is wrong.
    """
    values = read_config_file(path)
    if {"ser_engine", "stream_server"} & set(values):
        return load_settings(path).stream_server.alerts.rules
    group = values.get("alerts", values)
    if not isinstance(group, dict) or set(group) != {"rules"}:
        raise ConfigError(
            f"{path}: got {', '.join(map(str, values)) or 'nothing'}, expected 'rules:' with a list"
            " of rules as in config.yaml, or a whole config.yaml"
        )
    try:
        settings = Settings.model_validate({"stream_server": {"alerts": group}})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][2:])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings.stream_server.alerts.rules
