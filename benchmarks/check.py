"""``python -m benchmarks.check REPORT...``: hold reports of ``benchmarks.accuracy`` to floors.

A floor is what a model in the package must not fall below, so that a change of training, of the
engine or of the timeline that makes it worse does not go unseen. ``neutral`` must not merely mean
"unlike acting": so an unseen corpus's anger, and its emotions called neutral, have floors too.
Status 1: a figure is past its floor; each is named. A figure a report does not hold is not checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FLOORS", "Floor", "faults", "main"]


@dataclass(frozen=True, slots=True)
class Floor:
    """What a figure may be.

    Attributes:
        least: not less than this; None: no bound.
        most: not more than this; None: no bound.
    """

    least: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether a figure is within bounds; NaN never is."""
        above = self.least is None or value >= self.least
        below = self.most is None or value <= self.most
        return above and below and value == value


FLOORS: Mapping[str, Mapping[str, Floor]] = {
    "standard": {
        "uar_emodb": Floor(least=0.87),
        "uar_ravdess": Floor(least=0.60),
        "uar_nemo_pl": Floor(least=0.70),
        "angry_uar_mulaw8k": Floor(least=0.87),
        "unseen_emovo_anger_recall": Floor(least=0.89),
        "unseen_emovo_emotion_called_neutral": Floor(most=0.38),
        "natural_emotion": Floor(most=0.05),
        "natural_telephone_emotion": Floor(most=0.06),
        "natural_changes_per_min": Floor(most=8),
        "natural_alerts_per_hour": Floor(most=2),
        "tones_emotion": Floor(most=0.02),
        "anger_alerts_hit": Floor(least=0.8),
        "ece": Floor(most=0.13),
    },
    "compact": {
        "uar_emodb": Floor(least=0.65),
        "uar_ravdess": Floor(least=0.61),
        "uar_nemo_pl": Floor(least=0.46),
        "angry_uar_mulaw8k": Floor(least=0.75),
        "unseen_emovo_anger_recall": Floor(least=0.75),
        "unseen_emovo_emotion_called_neutral": Floor(most=0.40),
        "natural_emotion": Floor(most=0.08),
        "natural_telephone_emotion": Floor(most=0.08),
        "natural_changes_per_min": Floor(most=13),
        "natural_alerts_per_hour": Floor(most=3),
        "tones_emotion": Floor(most=0.03),
        "anger_alerts_hit": Floor(least=0.6),
        "ece": Floor(most=0.14),
    },
}
"""For each model in the package, a little below what its card reports."""


def faults(report: Mapping[str, Mapping[str, float]], model: str) -> list[str]:
    """Return a sentence for each figure past its floor."""
    found = []
    for name, floor in FLOORS.get(model, {}).items():
        value = report["summary"].get(name)
        if value is not None and not floor.holds(value):
            bound = (
                f"at least {floor.least}" if floor.least is not None else f"at most {floor.most}"
            )
            found.append(f"{model}: got {name} {value:.3f}, expected {bound}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__)
    parser.add_argument("reports", nargs="+", type=Path)
    given = parser.parse_args(argv)
    found = []
    for path in given.reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        found += faults(report, report["settings"]["model"])
    for fault in found:
        print(fault)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
