from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ser_engine.errors import HubUnavailableError
from ser_engine.models.emotion2vec.model import EMOTION2VEC_PLUS_BASE
from ser_engine.models.hub import Cancelled, FetchProgress, Report, fetch
from tests.support.fake_hub import FakeHub
from tests.support.hub_server import hub_server, silent_server

MODEL = "emotion2vec_plus_base"
PUBLISHED = replace(
    EMOTION2VEC_PLUS_BASE.published,
    repositories={hub: f"org/{MODEL}" for hub in ("huggingface", "modelscope", "a", "b")},
)
LONG_S = 30.0


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def url(published: Path) -> Iterator[str]:
    with hub_server(published) as server:
        yield server.url


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_fetched_once(published, models_dir, url) -> None:
    hub = FakeHub(url=url, published=published)
    folder = fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
    assert folder == models_dir / MODEL
    assert files_of(folder) == files_of(published)
    assert hub.asked == ["endpoint", f"org/{MODEL}"]
    assert fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub]) == folder
    assert len(hub.asked) == 2


def test_progress_is_told(published, models_dir, url) -> None:
    told: list[FetchProgress] = []
    hub = FakeHub(url=url, published=published)
    fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub], progress=told.append)
    size = sum(path.stat().st_size for path in published.iterdir())
    assert told[-1] == FetchProgress(MODEL, "huggingface", size, size)


def test_an_unreachable_hub_is_named(models_dir) -> None:
    with pytest.raises(HubUnavailableError, match=r"huggingface: unreachable.*copy the model's"):
        fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[FakeHub()])
    assert not models_dir.exists()


def test_a_silent_hub_is_given_up_in_time(models_dir) -> None:
    with silent_server() as url, pytest.raises(HubUnavailableError):
        fetch(PUBLISHED, models_dir, timeout_s=0.2, clients=[FakeHub(url=url)])


def test_the_other_hub_stands_in(published, models_dir, url) -> None:
    clients = [FakeHub("modelscope"), FakeHub("huggingface", url, published)]
    fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=clients)
    assert files_of(models_dir / MODEL) == files_of(published)


def test_the_other_hub_stands_in_for_a_download_that_fails(published, models_dir, url) -> None:
    first, second = FakeHub("a", url, published), FakeHub("b", url, published)
    failed: list[str] = []

    def fail_first(name: str) -> None:
        if not failed:
            failed.append(name)
            raise ValueError("quota exceeded")

    first.before = lambda folder, report: fail_first("a")
    second.before = lambda folder, report: fail_first("b")
    fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[first, second])
    assert failed
    assert files_of(models_dir / MODEL) == files_of(published)


def test_only_the_hub_that_is_wanted_is_asked(published, models_dir, url) -> None:
    unwanted = FakeHub("modelscope", url, published)
    wanted = FakeHub("huggingface", url, published)
    clients = [unwanted, wanted]
    fetch(PUBLISHED, models_dir, hub="huggingface", timeout_s=LONG_S, clients=clients)
    assert unwanted.asked == []


def test_a_download_that_fails_is_told_and_leaves_no_model(published, models_dir, url) -> None:
    hub = FakeHub(url=url, published=published)

    def fail(folder: Path, report: Report) -> None:
        (folder / "config.yaml").write_text("half")
        raise ValueError("connection reset")

    hub.before = fail
    with pytest.raises(HubUnavailableError, match="ValueError: connection reset"):
        fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
    assert not (models_dir / MODEL).exists()


@pytest.mark.parametrize("left_out", ["model.pt", "config.yaml"])
def test_a_repository_without_the_files_is_no_model(published, models_dir, url, left_out) -> None:
    class Poor(FakeHub):
        def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
            super().download(repo_id, folder, [name for name in files if name != left_out], report)

    hub = Poor(url=url, published=published)
    with pytest.raises(HubUnavailableError, match=r"tokens\.txt, model\.pt"):
        fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
    assert not (models_dir / MODEL).exists()


def test_a_download_that_stalls_is_given_up_and_told_to_end(published, models_dir, url) -> None:
    hub = FakeHub(url=url, published=published)
    go_on, ended = threading.Event(), threading.Event()

    def stall(folder: Path, report: Report) -> None:
        go_on.wait(LONG_S)
        try:
            report(1, 2)
        except Cancelled:
            ended.set()
            raise

    hub.before = stall
    with pytest.raises(HubUnavailableError, match=r"nothing arrived for 0\.05 s"):
        fetch(PUBLISHED, models_dir, timeout_s=LONG_S, stall_timeout_s=0.05, clients=[hub])
    go_on.set()
    assert ended.wait(LONG_S)
    assert not (models_dir / MODEL).exists()


def test_what_an_earlier_download_left_is_there_for_the_next(published, models_dir, url) -> None:
    hub = FakeHub(url=url, published=published)
    seen: list[list[str]] = []

    def fail_once(folder: Path, report: Report) -> None:
        seen.append(sorted(os.listdir(folder)))
        (folder / "model.pt.incomplete").write_text("half")
        if len(seen) == 1:
            raise ValueError("connection reset")

    hub.before = fail_once
    with pytest.raises(HubUnavailableError):
        fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
    fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
    assert seen == [[], ["model.pt.incomplete"]]
    assert files_of(models_dir / MODEL) == files_of(published)


def test_fetches_at_the_same_time_download_once(published, models_dir, url) -> None:
    hub = FakeHub(url=url, published=published)
    folders: list[Path] = []

    def work() -> None:
        folders.append(fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert folders == [models_dir / MODEL] * 3
    assert hub.asked.count(f"org/{MODEL}") == 1


def test_a_folder_that_cannot_be_written_is_told(published, tmp_path, url) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    hub = FakeHub(url=url, published=published)
    with pytest.raises(HubUnavailableError, match="cannot be written"):
        fetch(PUBLISHED, tmp_path / "models", timeout_s=LONG_S, clients=[hub])


def test_progress_that_raises_ends_the_download(published, models_dir, url) -> None:
    def stop(progress: FetchProgress) -> None:
        raise Cancelled

    hub = FakeHub(url=url, published=published)
    with pytest.raises(HubUnavailableError, match="Cancelled"):
        fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub], progress=stop)
    assert not (models_dir / MODEL).exists()


def test_other_bytes_than_the_first_time_are_refused(published, models_dir, url) -> None:
    hub = FakeHub(url=url, published=published)
    folder = fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
    shutil.rmtree(folder)
    name = PUBLISHED.files[0]
    first = (published / name).read_bytes()
    (published / name).write_bytes(first + b" altered")
    try:
        with pytest.raises(HubUnavailableError, match=rf"got {name} of {MODEL} with the SHA-256"):
            fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub])
        assert not folder.exists()
    finally:
        (published / name).write_bytes(first)
    assert fetch(PUBLISHED, models_dir, timeout_s=LONG_S, clients=[hub]) == folder


def test_bytes_that_are_known_are_held_to(published, models_dir, url) -> None:
    known = replace(PUBLISHED, sha256={PUBLISHED.files[0]: "0" * 64})
    hub = FakeHub(url=url, published=published)
    with pytest.raises(HubUnavailableError, match="expected 0000"):
        fetch(known, models_dir, timeout_s=LONG_S, clients=[hub])
