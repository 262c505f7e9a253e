"""What every measurement writes: its numbers, and what they were had on."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ser_engine.cpu import usable_cores

__all__ = ["write_report"]


def write_report(
    path: Path | None,
    summary: Mapping[str, float],
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Print ``summary`` and write everything to ``path``, where there is one."""
    for name, value in summary.items():
        print(f"{name:28} {value:8.3f}")
    if path is None:
        return
    report = {
        "summary": dict(summary),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "system": platform.system(),
            "usable_cores": usable_cores(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "emotion-monitor")},
        },
        "settings": dict(settings),
        "rows": list(rows),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
