from __future__ import annotations

from pathlib import Path

import pytest

from ser_engine.core.runtimes.select import has_int8_instructions, usable_cores


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("Features\t: fp asimd asimddp\n", True),
        ("flags\t\t: fpu avx2\n", False),
        ("model name\t: avx512_vnni\n", False),
        ("", False),
    ],
)
def test_int8_instructions_are_read_off_the_flags(
    tmp_path: Path, cpuinfo: str, expected: bool
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)

    assert has_int8_instructions(file) is expected


def test_a_system_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert not has_int8_instructions(tmp_path / "nowhere")


def test_there_is_a_core() -> None:
    assert usable_cores() >= 1
