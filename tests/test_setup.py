"""``scripts/setup.sh``, which ``run.sh`` and ``test.sh`` share, against made-up machines."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.hashed_requirements import HASHES, hashed_requirements
from tests.requirements import REPOSITORY

TORCH = re.search(
    r"^torch==(.+)$", (REPOSITORY / "requirements" / "constraints.txt").read_text(), re.MULTILINE
).group(1)  # type: ignore[union-attr]

PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
PINNED = HASHES.read_text(encoding="utf-8")

TOOLS = ("bash", "cat", "dirname", "env", "grep", "mkdir", "sed")


PACKAGE = """
[build-system]
requires = []
[project]
name = "emotion-monitor"
dependencies = ["tiny>=1"]
optional-dependencies = {}
"""


@dataclass
class Machine:
    """A machine whose programs are the few of ``TOOLS`` and those that a test adds."""

    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def add(self, program: str, script: str) -> None:
        path = self.folder / "bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)

    def add_python(self, program: str, minor: int) -> None:
        supported = "true" if 11 <= minor <= 13 else "false"
        self.add(program, f'[ "$1" = --version ] && echo "Python 3.{minor}.0" || {supported}')

    def add_gpu(self) -> None:
        self.add("nvidia-smi", 'echo "GPU 0: something"')

    def set_up_venv(self, installed_torch: str = "", failing: str = "nothing") -> None:
        """Make a ``.venv`` whose python records what pip and uv are asked for."""
        self.venv.mkdir()
        self.add(
            "../venv/bin/python",
            'if [ "$1" = -c ]; then\n'
            f'  [ -n "{installed_torch}" ] && echo "{installed_torch}"; exit\n'
            "fi\n"
            f'echo "$*" >>"{self.folder}/calls"\n'
            f'case "$*" in {failing}) echo "some reason" >&2; exit 1 ;; esac',
        )

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        script = f'. "{REPOSITORY}/scripts/setup.sh"; venv="{self.venv}"; {command}'
        return subprocess.run(
            ["bash", "-c", f"set -euo pipefail; {script}"],
            env={"PATH": str(self.folder / "bin"), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        os.symlink(found, tmp_path / "bin" / tool)
    made.add("uname", "echo Linux")
    return made


class TestPython:
    def test_the_default_python_is_taken_where_it_will_do(self, machine: Machine):
        machine.add_python("python3", 12)
        machine.add_python("python3.13", 13)
        assert machine.run("find_python").stdout.strip().endswith("/bin/python3")

    @pytest.mark.parametrize("minor", [9, 14])
    def test_another_is_looked_for_where_it_will_not(self, machine: Machine, minor: int):
        machine.add_python("python3", minor)
        machine.add_python("python3.12", 12)
        assert machine.run("find_python").stdout.strip().endswith("/bin/python3.12")

    def test_the_named_one_comes_first(self, machine: Machine):
        machine.add_python("python3", 12)
        machine.add_python("mine", 11)
        assert machine.run("find_python", PYTHON="mine").stdout.strip().endswith("/bin/mine")

    @pytest.mark.parametrize("minor", [9, 14])
    def test_too_old_or_too_new_is_one_line(self, machine: Machine, minor: int):
        machine.add_python("python3", minor)
        result = machine.run("make_venv")
        assert result.returncode == 1
        assert result.stderr == (
            f"emotion-monitor: got Python 3.{minor}.0, expected Python 3.11, 3.12 or 3.13;"
            " install one, or name it with PYTHON=...\n"
        )

    def test_none_at_all_is_one_line(self, machine: Machine):
        result = machine.run("make_venv")
        assert result.returncode == 1
        assert result.stderr.startswith("emotion-monitor: got no Python, expected Python 3.11")


class TestTorch:
    def test_without_a_gpu_the_cpu_build_is_asked_for_by_name(self, machine: Machine):
        machine.set_up_venv()
        assert machine.run("install_torch").returncode == 0
        (call,) = machine.calls
        assert call.startswith("-m pip install")
        assert call.endswith(f"torch=={TORCH}+cpu")

    def test_where_no_such_wheel_is_found_uv_gets_the_cpu_build(self, machine: Machine):
        machine.set_up_venv(failing="*+cpu")
        assert machine.run("install_torch").returncode == 0
        _, uv, torch = machine.calls
        assert uv.endswith(" uv")
        assert torch.startswith("-m uv pip install")
        assert "--torch-backend=cpu" in torch
        assert torch.endswith(f" torch=={TORCH}")

    def test_a_cuda_build_is_never_the_way_out_without_a_gpu(self, machine: Machine):
        machine.set_up_venv(failing="*")
        result = machine.run("install_torch")
        assert result.returncode == 1
        assert result.stderr.splitlines()[1:] == [
            f"emotion-monitor: the CPU build of torch {TORCH} could not be installed; see"
            f" {machine.venv}/torch-install.log"
        ]
        assert "some reason" in (machine.venv / "torch-install.log").read_text()
        assert not [call for call in machine.calls if call.endswith(f"install torch=={TORCH}")]

    def test_with_a_gpu_the_plain_build_is_asked_for(self, machine: Machine):
        machine.set_up_venv()
        machine.add_gpu()
        assert machine.run("install_torch").returncode == 0
        (call,) = machine.calls
        assert call.endswith(f" torch=={TORCH}")

    def test_a_cpu_build_gives_way_once_there_is_a_gpu(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu")
        machine.add_gpu()
        assert machine.run("install_torch").returncode == 0
        removal, install = machine.calls
        assert removal.startswith("-m pip uninstall")
        assert install.endswith(f" torch=={TORCH}")

    def test_a_driver_without_a_gpu_counts_as_none(self, machine: Machine):
        machine.set_up_venv()
        machine.add("nvidia-smi", 'echo "No devices found"; exit 6')
        machine.run("install_torch")
        assert machine.calls[0].endswith(f"torch=={TORCH}+cpu")

    def test_on_macos_the_plain_build_is_asked_for(self, machine: Machine):
        machine.set_up_venv()
        machine.add("uname", "echo Darwin")
        assert machine.run("install_torch").returncode == 0
        (call,) = machine.calls
        assert call.endswith(f" torch=={TORCH}")

    @pytest.mark.parametrize("installed", [TORCH, f"{TORCH}+cpu"])
    def test_what_is_installed_is_not_installed_again(self, machine: Machine, installed: str):
        machine.set_up_venv(installed_torch=installed)
        assert machine.run("install_torch").returncode == 0
        assert machine.calls == []


class TestExtras:
    def test_an_optional_extra_that_fails_does_not_stop_the_rest(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu", failing="*hub*")
        result = machine.run('make_venv() { :; }; setup run "" hub openvino; echo done')
        assert result.returncode == 0
        assert result.stdout == "done\n"
        assert "going on without the extra hub" in result.stderr
        assert [call for call in machine.calls if call.endswith(" ,openvino,")]
        assert machine.calls[-1].endswith(f"--no-deps --no-build-isolation --editable {REPOSITORY}")

    def test_all_extras_are_installed_at_once_where_that_works(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu")
        assert machine.run('make_venv() { :; }; setup run "" hub openvino').returncode == 0
        names, hashed, package = machine.calls[-3:]
        assert names.endswith("scripts/hashed_requirements.py ,hub,openvino,")
        assert "pip install" in hashed and "--require-hashes --no-deps" in hashed
        assert "pip install" in package and "--no-deps" in package

    def test_developers_tools_are_not_among_what_is_hashed(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu")
        assert machine.run("make_venv() { :; }; setup everything all,dev").returncode == 0
        (names,) = [call for call in machine.calls if "hashed_requirements" in call]
        assert names.endswith(" ,all,")
        assert machine.calls[-1].endswith("[all,dev]")

    def test_everything_holds_every_other_set(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu")
        assert machine.run("make_venv() { :; }; setup everything all,dev").returncode == 0
        calls = len(machine.calls)
        assert machine.run('make_venv() { :; }; setup run "" hub').stderr == ""
        assert not [call for call in machine.calls[calls:] if "pip" in call]

    def test_what_was_set_up_is_not_set_up_again(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu")
        command = "make_venv() { :; }; setup run ''"
        assert machine.run(command).returncode == 0
        calls = len(machine.calls)
        assert machine.run(command).stderr == ""
        assert not [call for call in machine.calls[calls:] if "pip" in call]

    def test_packages_that_cannot_be_installed_are_one_line(self, machine: Machine):
        machine.set_up_venv(installed_torch=f"{TORCH}+cpu", failing="*editable*")
        result = machine.run("make_venv() { :; }; setup run ''")
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == (
            "emotion-monitor: the packages could not be installed; is the package index reachable?"
        )


class TestHashes:
    @pytest.mark.parametrize("is_ours", [True, False])
    def test_other_bytes_than_the_pinned_ones_are_not_installed(
        self, tmp_path: Path, is_ours: bool
    ):
        for folder in ("requirements", "scripts", "wheels"):
            (tmp_path / folder).mkdir()
        wheel = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("tiny.py", "")
            about = "tiny-1.0.dist-info"
            file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
            file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            file.writestr(f"{about}/RECORD", "")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if not is_ours:
            with zipfile.ZipFile(wheel, "a") as file:
                file.writestr("more.py", "")
        (tmp_path / "pyproject.toml").write_text(PACKAGE)
        (tmp_path / "requirements" / "constraints.txt").write_text("tiny==1.0\n")
        (tmp_path / "requirements" / "hashes.txt").write_text(
            f"tiny==1.0 \\\n    --hash=sha256:{digest}\n    # via pyproject.toml\n"
        )
        for name in ("setup.sh", "hashed_requirements.py"):
            shutil.copy(REPOSITORY / "scripts" / name, tmp_path / "scripts")
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        python = tmp_path / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        installed = tmp_path / "installed"
        result = subprocess.run(
            ["bash", "-c", f'set -euo pipefail; . {tmp_path}/scripts/setup.sh; install_hashed ""'],
            env={
                "PATH": os.environ["PATH"],
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(wheel.parent),
                "PIP_TARGET": str(installed),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (result.returncode == 0) is is_ours, result.stderr
        assert (installed / "tiny.py").exists() is is_ours
        if not is_ours:
            assert "DO NOT MATCH THE HASHES" in result.stderr

    def test_only_what_extras_need_is_asked_for(self):
        packages = {
            extras: {
                line.partition("==")[0]
                for line in hashed_requirements(extras, PYPROJECT, PINNED).splitlines()
                if "==" in line
            }
            for extras in (("server",), ("server", "mqtt"), ("all",))
        }
        server = packages["server",]
        # Of torch, which is not among them, what it needs is.
        assert {"aiohttp", "yarl", "sympy", "hatchling"} <= server
        assert not server & {"aiomqtt", "funasr", "pytest", "torch"}
        assert packages["server", "mqtt"] - server == {"aiomqtt", "paho-mqtt"}
        # Whoever adds a dependency pins it.
        assert {"funasr", "nncf", "psycopg-binary"} <= packages["all",]

    def test_what_has_no_hashes_says_what_to_do(self):
        with pytest.raises(LookupError, match=r"hashes of unicorn in .*; run bash scripts/pin.sh"):
            hashed_requirements((), PACKAGE.replace("tiny", "unicorn"), "")
