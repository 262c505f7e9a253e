from __future__ import annotations

import csv
import gc
import importlib
import os
import shutil
import sys
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from sqlalchemy import Connection, inspect
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling, Scheduling

from ser_engine.types import FloatArray
from tests.requirements import missing, shared_data_dir

# The same examples in every run, and no verdict by the clock: a busy machine is not a failure.
hypothesis_settings.register_profile("deterministic", derandomize=True, deadline=None)
hypothesis_settings.load_profile("deterministic")


_TOGETHER: dict[str, tuple[str, ...]] = {
    # One server and one Chromium. What is left of their folder has its own, below: these tests wait
    # a lot, and all in one process would be left when the others have ended.
    "pages": (
        "dashboard/browser/test_accessibility.py",
        "dashboard/browser/test_chart.py",
        "dashboard/browser/test_doubt.py",
        "dashboard/browser/test_pages.py",
        "dashboard/browser/test_stream_page.py",
        "dashboard/browser/test_wall.py",
    ),
    # The compilers of networks, which take seconds to import, and what they made.
    "compilers": (
        "ser_engine/core/runtimes/",
        "ser_engine/models/standard/test_model.py",
        "ser_engine/models/compact/test_model.py",
    ),
    # FunASR, which takes as long to import, and a folder of 375 MB.
    "funasr": (
        "ser_engine/test_promises.py",
        "ser_engine/models/emotion2vec/test_network.py",
        "ser_engine/speakers/test_campplus.py",
        "benchmarks/test_random_checkpoint.py",
        "test_fixtures.py",
    ),
    "browser": ("dashboard/browser/",),
}
"""Folders and files whose tests share what is made once a process: one process runs them. A path
belongs to the first that names it."""

_LONG = (
    *(path for paths in _TOGETHER.values() for path in paths),
    "chaos/",
    "emotion_monitor/test_processes.py",
    "emotion_monitor/compare/test_command.py",
    "test_wheel.py",
    "stream_server/engines/",
    "emotion_monitor/test_serve.py",
    "emotion_monitor/test_stream.py",
    "dashboard/test_server_process.py",
    "ser_engine/files/test_memory.py",
    "benchmarks/",
)
"""What takes long is begun first, so that no process has it left while the others have ended."""


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process whole files: what the tests of a file share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0].removeprefix("tests/")
        for name, together in _TOGETHER.items():
            if path.startswith(together):
                return name
        return path


# In place of `--dist loadgroup`, which writes the group into `_nodeid`: pytest 9.2 does not read
# that, and each test would go to whichever process is free. First, or xdist's own is taken.
@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return _ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what all modules and tests are made of out of the garbage collector's passes.

    A pass over these half a million objects takes half a second, in the middle of a test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long."""
    folder = Path(__file__).parent
    ranks: dict[pytest.Item, int] = {}
    for item in items:
        path = item.path.relative_to(folder).as_posix() if item.path.is_relative_to(folder) else ""
        long = [rank for rank, each in enumerate(_LONG) if path.startswith(each)]
        ranks[item] = long[0] if long else len(_LONG)
    items.sort(key=ranks.__getitem__)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        lacking = missing(mark.args)
        if lacking is None:
            continue
        message = f"{lacking.reason}: {lacking.how_to_get}"
        if os.environ.get("REQUIRE_ALL") == "1" and not lacking.is_hardware:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@dataclass(frozen=True, slots=True, eq=False)
class SpeechClip:
    """One acted recording.

    Attributes:
        path: its file.
        corpus: ``emodb``, ``ravdess`` or ``nemo_pl``.
        speaker: the corpus's name of the actor.
        language: ``de``, ``en`` or ``pl``.
        emotion: what the actor was asked for.
        samples: float32 ``(samples,)``, mono 16 kHz.
    """

    path: Path
    corpus: str
    speaker: str
    language: str
    emotion: str
    samples: FloatArray


@pytest.fixture(scope="session", autouse=True)
def _migrated_once() -> Iterator[None]:
    """Fill empty SQLite files with the tables that the migrations made in the first of them.

    Step by step they take a sixth of a second of each of hundreds of stores. The tests of the
    migrations, and servers in processes of their own, go through all steps.
    """
    store = sys.modules.get("stream_server.store.store")
    if store is None:
        yield
        return
    migrate = store.upgrade_schema
    made: list[str] = []

    def upgrade_schema(connection: Connection) -> None:
        if connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
            migrate(connection)
        elif not made:
            migrate(connection)
            driver = connection.connection.driver_connection
            assert driver is not None
            made.extend(driver.iterdump())
        else:
            for statement in made:
                if statement not in ("BEGIN TRANSACTION;", "COMMIT;"):
                    connection.exec_driver_sql(statement)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "upgrade_schema", upgrade_schema)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recordings. Needs ``shared-data``."""
    return shared_data_dir()


@pytest.fixture(scope="session")
def speech_clips(shared_data: Path) -> tuple[SpeechClip, ...]:
    """Three clips of each corpus, at least 1.5 s long, of three emotions. Needs ``shared-data``."""
    import soundfile

    folder = shared_data / "emotional-speech"
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as manifest:
        rows = [row for row in csv.DictReader(manifest) if float(row["duration_s"]) >= 1.5]
    clips: list[SpeechClip] = []
    for corpus in ("emodb", "ravdess", "nemo_pl"):
        first_of_emotion: dict[str, dict[str, str]] = {}
        for row in rows:
            if row["corpus"] == corpus:
                first_of_emotion.setdefault(row["emotion"], row)
        for row in list(first_of_emotion.values())[:3]:
            path = folder / row["path"]
            samples, rate = soundfile.read(path, dtype="float32")
            assert rate == 16_000
            assert samples.ndim == 1
            clips.append(
                SpeechClip(path, corpus, row["speaker"], row["language"], row["emotion"], samples)
            )
    return tuple(clips)


@pytest.fixture(scope="session")
def tiny_checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as FunASR publishes them: 64 wide, 1 + 2 blocks, random weights."""
    from benchmarks.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("tiny") / "emotion2vec_tiny")


@pytest.fixture(scope="session")
def base_checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model folder in the size of emotion2vec+ base, 375 MB, random weights."""
    from benchmarks.random_checkpoint import write_random_checkpoint

    folder = tmp_path_factory.mktemp("base") / "emotion2vec_plus_base"
    yield write_random_checkpoint(folder, "base")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def converted_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runtimes keep the graphs they converted, for all tests of a process."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="session")
def funasr() -> ModuleType:
    """FunASR, imported; what it imports warns of its own ageing. Needs ``funasr``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("funasr")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
