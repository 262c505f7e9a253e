"""The files of ``deploy/`` name settings and metrics that exist."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from typing import Any

import pytest
import yaml

from emotion_monitor.settings import Settings
from tests.docs.test_grafana_dashboard import series
from tests.requirements import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes/emotion-monitor.yaml"])
def test_settings_in_the_environment_exist(name: str):
    text = (DEPLOY / name).read_text("utf-8")
    assert list(yaml.safe_load_all(text))
    spelled = set(re.findall(r"\bEMOTION_MONITOR_(\w+__\w+)", text))
    assert spelled
    known = set(_names(Settings().sections(), ""))
    assert {each.lower().replace("__", ".") for each in spelled} <= known


def _names(tree: Any, prefix: str) -> list[str]:
    if dataclasses.is_dataclass(tree):
        tree = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    if not isinstance(tree, dict):
        return [prefix]
    return [
        prefix,
        *(each for key, one in tree.items() for each in _names(one, f"{prefix}.{key}".strip("."))),
    ]


def test_rules_ask_for_metrics_that_exist():
    rules = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text("utf-8"))
    known = series()
    for rule in rules["groups"][0]["rules"]:
        for name in re.findall(r"emotion_monitor_\w+", rule["expr"]):
            assert name in known, name


def test_the_page_on_prometheus_fetches_from_where_the_rules_look():
    page = (REPOSITORY / "docs" / "how-to" / "monitoring.md").read_text("utf-8")
    config = yaml.safe_load(re.findall(r"```yaml\n(scrape_configs:.*?)```", page, re.DOTALL)[0])
    (job,) = config["scrape_configs"]
    rules = (DEPLOY / "prometheus-rules.yaml").read_text("utf-8")
    assert f'job="{job["job_name"]}"' in rules


def test_the_page_on_prometheus_names_metrics_that_exist():
    page = (REPOSITORY / "docs" / "how-to" / "monitoring.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    named = re.findall(r"`(\w+_\w+)(?:\{.*?\})?`", " ".join(row.split(" | ")[1] for row in rows))
    assert len(named) > 10
    known = {re.sub("_(bucket|sum|count)$", "", name) for name in series()}
    assert {f"emotion_monitor_{name}" for name in named} <= known


def test_the_table_of_extras_is_whole():
    page = (REPOSITORY / "docs" / "how-to" / "install.md").read_text("utf-8")
    told = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    # What only developers use is in CONTRIBUTING.md.
    assert told == set(project["optional-dependencies"]) - {"dev"}
