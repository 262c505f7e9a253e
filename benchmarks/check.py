"""Hold figures to what they were: accuracy to floors, speed to the ratios that were published.

``python -m benchmarks.check REPORT...`` holds reports of ``benchmarks.accuracy`` to floors. A floor
is what a model in the package must not fall below, so that a change of training, of the engine or
of the timeline that makes it worse does not go unseen. ``neutral`` must not merely mean "unlike
acting": so an unseen corpus's anger, and its emotions called neutral, have floors too. A figure a
report does not hold is not checked.

``python -m benchmarks.check --speed`` runs quick benchmarks and compares ratios, which machines
agree on better than on times, with those of the committed reports. It is for one who looks at it,
on a machine with little else to do, and no part of the tests.

Status 1: a figure is past its bound; each is named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import detector, session


@dataclass(frozen=True, slots=True)
class Floor:
    """The bounds of a figure, both inclusive; None: unbounded on that side."""

    least: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether a figure is within bounds; NaN never is."""
        above = self.least is None or value >= self.least
        below = self.most is None or value <= self.most
        return above and below and value == value


FLOORS: Mapping[str, Mapping[str, Floor]] = {
    "standard": {
        "uar_emodb": Floor(least=0.89),
        "uar_ravdess": Floor(least=0.68),
        "uar_nemo_pl": Floor(least=0.71),
        "angry_uar_mulaw8k": Floor(least=0.89),
        "unseen_emovo_anger_recall": Floor(least=0.92),
        "unseen_emovo_emotion_called_neutral": Floor(most=0.30),
        "natural_emotion": Floor(most=0.05),
        "natural_telephone_emotion": Floor(most=0.06),
        "natural_changes_per_min": Floor(most=6),
        "natural_alerts_per_hour": Floor(most=2),
        "tones_emotion": Floor(most=0.02),
        "anger_alerts_hit": Floor(least=0.8),
        "ece": Floor(most=0.10),
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
        "natural_changes_per_min": Floor(most=8),
        "natural_alerts_per_hour": Floor(most=3),
        "tones_emotion": Floor(most=0.03),
        "anger_alerts_hit": Floor(least=0.8),
        "ece": Floor(most=0.15),
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


SPEED_TOLERANCE = 1.3
"""A quick run's ratio may be so many times the published one: a shared machine moves it by 0.15."""
RATIOS: Mapping[str, tuple[str, ...]] = {
    "session": (
        "16 kHz pcm_s16le mono, times the reference",
        "8 kHz mulaw stereo, times the reference",
        "the same as Twilio's JSON, times the reference",
    ),
    "detector": ("alone, times webrtc", "together, times webrtc"),
}
"""Figures of reports in ``benchmarks/results`` in which less is better."""
_BENCHMARKS = {"session": session.main, "detector": detector.main}
_RESULTS = Path(__file__).with_name("results")


def slower(name: str, published: Mapping[str, float], measured: Mapping[str, float]) -> list[str]:
    """Return a sentence for each ratio of a benchmark that is worse than it was."""
    return [
        f"{name}: got {ratio} {measured[ratio]:.2f}, expected at most {SPEED_TOLERANCE} times the"
        f" published {published[ratio]:.2f}"
        for ratio in RATIOS[name]
        if not measured[ratio] <= SPEED_TOLERANCE * published[ratio]
    ]


def _check_speed() -> list[str]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, benchmark in _BENCHMARKS.items():
            path = Path(folder) / f"{name}.json"
            benchmark(["--quick", "--json", str(path)])
            published, measured = (
                json.loads(each.read_text(encoding="utf-8"))["summary"]
                for each in (_RESULTS / path.name, path)
            )
            found += slower(name, published, measured)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__)
    parser.add_argument("reports", nargs="*", type=Path)
    parser.add_argument("--speed", action="store_true", help="run quick benchmarks and compare")
    given = parser.parse_args(argv)
    if not given.reports and not given.speed:
        parser.error("got neither reports nor --speed, expected one of them")
    found = _check_speed() if given.speed else []
    for path in given.reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        found += faults(report, report["settings"]["model"])
    for fault in found:
        print(fault)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
