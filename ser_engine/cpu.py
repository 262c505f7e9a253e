"""What this machine's processor offers."""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["has_int8_instructions", "usable_cores"]

_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Return the physical cores this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(torch.get_num_threads(), allowed or 1))


def has_int8_instructions(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the processor multiplies int8 in one instruction (VNNI, AMX, Arm's dot).

    Without it int8 inference is no faster than fp32. False where the system does not tell.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags: set[str] = set()
    for line in text.splitlines():
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags.update(values.split())
    return bool(flags & _INT8_FLAGS)
