"""The dashboard asks for metrics that exist, and shows all of them."""

from __future__ import annotations

import json
import re

from prometheus_client.parser import text_string_to_metric_families

from tests.requirements import REPOSITORY
from tests.stream_server.test_metrics import touched

DASHBOARD = json.loads(
    (REPOSITORY / "docs" / "reference" / "grafana-dashboard.json").read_text("utf-8")
)
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def series() -> dict[str, str]:
    """Return the name of every series that can be asked for, and its family's."""
    names: dict[str, str] = {}
    for family in text_string_to_metric_families(touched().exposition().decode()):
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for ending in endings.get(family.type, [""]):
            names[family.name + ending] = family.name
    return names


def test_what_is_asked_for_exists_and_is_asked_for_as_it_has_to_be():
    known = series()
    for query in QUERIES:
        asked = re.findall(r"(?:emotion_monitor|process)_\w+", query)
        assert asked, query
        for name in asked:
            assert name in known, name
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert "rate(" in query or "increase(" in query, query


def test_every_metric_is_shown():
    known = series()
    shown = {known[name] for query in QUERIES for name in re.findall(r"emotion_monitor_\w+", query)}
    ours = {family for family in known.values() if family.startswith("emotion_monitor")}
    assert ours - shown == {"emotion_monitor_points"}


def test_every_metric_is_documented():
    page = (REPOSITORY / "docs" / "reference" / "metrics.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    ours = {name for name in series() if name.startswith("emotion_monitor_")}
    histograms = re.compile(r"_(bucket|sum|count)$")
    assert listed == {histograms.sub("", name).removeprefix("emotion_monitor_") for name in ours}


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
