from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import check
from benchmarks.check import FLOORS, Floor, faults
from ser_engine.models.built_in import BuiltInModel
from ser_engine.models.registry import MODELS
from tests.requirements import REPOSITORY


def test_a_floor_bounds_from_either_side() -> None:
    assert Floor(least=0.5).holds(0.5)
    assert not Floor(least=0.5).holds(0.49)
    assert not Floor(most=0.1).holds(0.2)
    assert not Floor(least=0.5).holds(math.nan)


def test_a_worse_report_is_status_1(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(check, "FLOORS", {"compact": {"uar_emodb": Floor(least=0.7)}})
    path = tmp_path / "report.json"
    for value, status in ((0.71, 0), (0.69, 1)):
        path.write_text(
            json.dumps({"settings": {"model": "compact"}, "summary": {"uar_emodb": value}})
        )
        with pytest.raises(SystemExit) as ended:
            check.main([str(path)])
        assert ended.value.code == status
    assert "got uar_emodb 0.690, expected at least 0.7" in capsys.readouterr().out


def test_a_slower_ratio_is_named_and_others_are_not() -> None:
    (first, second) = check.RATIOS["detector"]
    published = {first: 4.0, second: 3.0}
    assert check.slower("detector", published, {first: 5.1, second: 2.0}) == []
    (fault,) = check.slower("detector", published, {first: 5.3, second: 3.1})
    assert first in fault
    assert check.slower("detector", published, {first: math.nan, second: 3.0})


def test_every_ratio_is_published() -> None:
    for name, ratios in check.RATIOS.items():
        report = json.loads((REPOSITORY / f"benchmarks/results/{name}.json").read_text())
        assert set(ratios) <= set(report["summary"])


@pytest.mark.parametrize(
    "model", [model.name for model in MODELS if isinstance(model, BuiltInModel)]
)
def test_the_published_figures_of_each_model_hold(model: str) -> None:
    report = json.loads((REPOSITORY / f"training/accuracy_{model}.json").read_text())
    assert FLOORS[model]
    assert set(FLOORS[model]) <= set(report["summary"])
    assert faults(report, model) == []


@pytest.mark.parametrize(
    "model", [model for model in MODELS if isinstance(model, BuiltInModel)], ids=lambda m: m.name
)
def test_the_published_figures_are_of_the_weights_in_the_package(model: BuiltInModel) -> None:
    report = json.loads((REPOSITORY / f"training/accuracy_{model.name}.json").read_text())
    assert report["settings"]["sha256"] == model.read().info.sha256
