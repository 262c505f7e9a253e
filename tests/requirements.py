"""What a test may need of the machine: ``@pytest.mark.needs("funasr", "shared-data")``.

Where something is missing the test is skipped, with the reason and how to get it. With
``REQUIRE_ALL=1`` it fails instead, unless the requirement is hardware that not every machine has.

A test that needs an optional package imports it inside the test, never at the top of its file.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REPOSITORY", "REQUIREMENTS", "Requirement", "missing", "shared_data_dir"]

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something a machine has or lacks.

    Attributes:
        is_met: whether this machine has it.
        reason: what is missing, as the reader of a skipped test sees it.
        how_to_get: the command or setting that helps.
        is_hardware: never demanded, not even with ``REQUIRE_ALL=1``.
    """

    is_met: Callable[[], bool]
    reason: str
    how_to_get: str
    is_hardware: bool = False


def shared_data_dir() -> Path:
    """Return the folder of recordings beside the checkout, whether or not it is there."""
    override = os.environ.get("EMOTION_MONITOR_SHARED_DATA")
    return Path(override) if override else REPOSITORY.parent / "shared" / "data"


def missing(names: tuple[str, ...]) -> Requirement | None:
    """Return the first of the named requirements that this machine does not meet.

    Raises:
        KeyError: there is no requirement of that name.
    """
    return next((REQUIREMENTS[name] for name in names if not REQUIREMENTS[name].is_met()), None)


def _package(module: str, extra: str) -> Requirement:
    return Requirement(
        lambda: importlib.util.find_spec(module) is not None,
        f"the package {module} is not installed",
        f"pip install 'emotion-monitor[{extra}]'",
    )


def _proxy(program: str) -> Requirement:
    return _server(program, "web server")


def _server(program: str, kind: str) -> Requirement:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return Requirement(
        lambda: shutil.which(program, path=path) is not None,
        f"there is no {kind} {program}",
        f"apt-get install {program}",
    )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_postgresql() -> bool:
    from emotion_monitor.local_services import bin_dir

    return bin_dir() is not None and importlib.util.find_spec("psycopg") is not None


def _has_recordings() -> bool:
    return (shared_data_dir() / "emotional-speech" / "manifest.csv").is_file()


def _has_real_recordings() -> bool:
    from scripts.make_stand_ins import STAND_INS

    return _has_recordings() and not (shared_data_dir() / STAND_INS).exists()


def _is_checkout() -> bool:
    if shutil.which("git") is None:
        return False
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--show-toplevel"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return bool(found) and Path(found).resolve() == REPOSITORY


REQUIREMENTS: dict[str, Requirement] = {
    "funasr": _package("funasr", "funasr"),
    "modelscope": _package("modelscope", "hub"),
    "huggingface-hub": _package("huggingface_hub", "hub"),
    "openvino": _package("openvino", "openvino"),
    "nncf": _package("nncf", "openvino"),
    "onnx": _package("onnx", "onnx"),
    "onnxscript": _package("onnxscript", "onnx"),
    "onnxruntime": _package("onnxruntime", "onnx"),
    "parselmouth": _package("parselmouth", "dev"),
    "pyarrow": _package("pyarrow", "tables"),
    "pympi": _package("pympi", "dev"),
    "pandas": _package("pandas", "tables"),
    "silero": _package("silero_vad", "dev"),
    "scikit-learn": _package("sklearn", "embeddings"),
    "deepgram": _package("deepgram", "dev"),
    "aiomqtt": _package("aiomqtt", "mqtt"),
    "apprise": _package("apprise", "notify"),
    "av": _package("av", "media"),
    "boto3": _package("boto3", "amazon-connect"),
    "pylibsrtp": _package("pylibsrtp", "srtp"),
    "grpc": _package("grpc", "vss"),
    "scipy": _package("scipy", "train"),
    "kaldi-native-fbank": _package("kaldi_native_fbank", "dev"),
    "mosquitto": Requirement(
        lambda: (
            shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None
        ),
        "there is no MQTT broker mosquitto",
        "apt-get install mosquitto",
    ),
    "codespell": _package("codespell_lib", "dev"),
    "nats": _package("nats", "cluster"),
    "ray": _package("ray", "ray"),
    "tracing": _package("opentelemetry", "tracing"),
    "nats-server": _server("nats-server", "NATS server"),
    "nginx": _proxy("nginx"),
    "caddy": _proxy("caddy"),
    "sipp": Requirement(
        lambda: shutil.which("sipp") is not None,
        "there is no SIP client sipp",
        "apt-get install sip-tester",
    ),
    "c++": Requirement(
        lambda: any(shutil.which(name) for name in ("g++", "clang++")),
        "there is no C++ compiler",
        "apt-get install g++ python3-dev",
    ),
    "chromium": Requirement(
        lambda: any(
            shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")
        ),
        "there is no Chromium browser",
        "apt-get install chromium",
    ),
    "axe": _package("axe_playwright_python", "dev"),
    "playwright": _package("playwright", "dev"),
    "portaudio": Requirement(
        lambda: ctypes.util.find_library("portaudio") is not None,
        "the PortAudio library is not installed",
        "apt-get install libportaudio2",
    ),
    "postgresql": Requirement(
        _has_postgresql,
        "there is no PostgreSQL server, or no driver for it",
        "apt-get install postgresql; pip install 'emotion-monitor[postgresql]'",
    ),
    "pulseaudio": Requirement(
        lambda: (
            all(shutil.which(name) for name in ("pulseaudio", "paplay"))
            and any(Path("/usr").glob("lib*/*/alsa-lib/libasound_module_pcm_pulse.so"))
        ),
        "there is no PulseAudio server, or ALSA does not know of it",
        "apt-get install pulseaudio pulseaudio-utils libasound2-plugins",
    ),
    "pyjwt": _package("jwt", "server"),
    "twilio": _package("twilio", "dev"),
    "git-checkout": Requirement(
        _is_checkout,
        "this is not a git checkout",
        "git clone the repository",
    ),
    "shared-data": Requirement(
        _has_recordings,
        f"there are no recordings in {shared_data_dir()}",
        "python -m scripts.make_stand_ins FOLDER makes synthetic ones (CONTRIBUTING.md)",
    ),
    "real-recordings": Requirement(
        _has_real_recordings,
        f"there are no recordings of people in {shared_data_dir()}",
        "put them there, or set EMOTION_MONITOR_SHARED_DATA to their folder (CONTRIBUTING.md)",
    ),
    "gpu": Requirement(
        _has_cuda, "there is no CUDA GPU", "run on a machine that has one", is_hardware=True
    ),
}
