"""What every benchmark prints and writes, so that figures can be compared and traced.

A report is a JSON object::

    summary    flat name -> number, the unit in the name
    machine    processor, cores, memory, accelerator, load when the run began
    versions   Python and the packages that matter
    settings   what the run was asked for
    rows       one object a measurement

Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "openvino", "nncf", "onnxruntime", "funasr", "emotion-monitor")


@dataclass(slots=True)
class Report:
    """The findings of one run.

    Attributes:
        summary: the figures to quote.
        rows: every measurement behind them.
    """

    settings: dict[str, Any]
    summary: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: _machine())
    versions: dict[str, str] = field(default_factory=lambda: _versions())

    def add(self, **row: Any) -> None:
        """Add a measurement and print it."""
        self.rows.append(row)
        print("  ".join(f"{name}={_short(value)}" for name, value in row.items()), flush=True)

    def finish(self, path: Path | None) -> None:
        """Print the summary and write the report to ``path``, if there is one."""
        width = max((len(name) for name in self.summary), default=0)
        print()
        for name, value in self.summary.items():
            print(f"{name:<{width}}  {_short(value)}")
        if path is not None:
            document = {
                "summary": self.summary,
                "machine": self.machine,
                "versions": self.versions,
                "settings": self.settings,
                "rows": self.rows,
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark has: ``--quick`` and ``--json``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a rough run of under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    return parser


def alternate(
    contestants: Mapping[str, Callable[[int], object]], rounds: int
) -> dict[str, list[float]]:
    """Time contestants in turn, so that each meets the same moods of the machine.

    A contestant is given the number of the round. Return the seconds of each round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run(number)
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return percentile(list(values), 50)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, linear between values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _machine() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.system(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1
        )
    if hasattr(os, "getloadavg"):
        facts["load_at_start"] = round(os.getloadavg()[0], 2)
    return facts


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    text = cpuinfo.read_text()
    facts = dict(
        (key.strip(), value.strip())
        for key, _, value in (line.partition(":") for line in text.splitlines())
    )
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
    features = " ".join(flag for flag in wanted if flag in flags)
    return f"{facts.get('model name', platform.machine())} ({features})"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
