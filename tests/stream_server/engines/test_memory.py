from __future__ import annotations

from pathlib import Path

import pytest

from stream_server.engines.opening import available_bytes

MIB = 1 << 20


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  8192 kB\nMemFree:  1024 kB\nMemAvailable:  4096 kB\n")
    return file


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    folder = tmp_path / "cgroup"
    folder.mkdir()
    (folder / "memory.current").write_text(f"{3 * MIB}\n")
    (folder / "memory.stat").write_text(f"anon {MIB}\ninactive_file {MIB}\n")
    return folder


def test_a_machine_has_what_it_says(meminfo: Path, tmp_path: Path) -> None:
    assert available_bytes(meminfo, tmp_path / "none") == 4 * MIB


@pytest.mark.parametrize(("limit_mib", "expected_mib"), [(5, 3), (100, 4), (1, 0)])
def test_a_container_has_what_its_limit_leaves(
    meminfo: Path, cgroup: Path, limit_mib: int, expected_mib: int
) -> None:
    (cgroup / "memory.max").write_text(f"{limit_mib * MIB}\n")
    assert available_bytes(meminfo, cgroup) == expected_mib * MIB


def test_a_container_without_limit_has_the_machines(meminfo: Path, cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, cgroup) == 4 * MIB


@pytest.mark.parametrize("text", ["", "MemAvailable:\n", "MemAvailable: much kB\n"])
def test_a_system_that_does_not_tell(tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert available_bytes(tmp_path / "meminfo", tmp_path) is None
    assert available_bytes(tmp_path / "missing", tmp_path) is None
