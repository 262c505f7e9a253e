"""The real clients against a server on the loopback."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ser_engine.errors import HubUnavailableError
from ser_engine.models.emotion2vec.model import EMOTION2VEC_PLUS_BASE
from ser_engine.models.hub import FetchProgress, HubClient, HuggingFace, ModelScope, fetch
from tests.support.hub_server import HubServer, hub_server

MODEL = "emotion2vec_plus_base"
PUBLISHED = EMOTION2VEC_PLUS_BASE.published
NEEDED = {"config.yaml", "tokens.txt", "configuration.json", "model.pt"}
LONG_S = 60.0

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def server(published: Path) -> Iterator[HubServer]:
    (published / "README.md").write_text("not needed")
    (published / "example.wav").write_bytes(bytes(1000))
    with hub_server(published) as server:
        yield server


MODELSCOPE = pytest.param("modelscope", marks=pytest.mark.needs("modelscope"))
HUGGINGFACE = pytest.param("huggingface", marks=pytest.mark.needs("huggingface-hub"))


@pytest.fixture(params=[MODELSCOPE, HUGGINGFACE])
def client(
    request: pytest.FixtureRequest,
    server: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> HubClient:
    """A client set to ask the server, with caches of the test's own."""
    monkeypatch.setenv("no_proxy", "*")
    if request.param == "modelscope":
        # Imported here, for that takes seconds and some tests have less patience.
        importlib.import_module("modelscope.hub.snapshot_download")
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
        # The client keeps the settings it finds when it is first used.
        config = importlib.import_module("modelscope_hub.config")
        monkeypatch.setattr(config, "_default_config", None)
        return ModelScope()
    from huggingface_hub import constants

    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return HuggingFace()


def test_the_needed_files_are_fetched_with_progress(client, server, published, tmp_path) -> None:
    told: list[FetchProgress] = []
    folder = fetch(
        PUBLISHED, tmp_path / "models", timeout_s=LONG_S, clients=[client], progress=told.append
    )
    assert {path.name for path in folder.iterdir()} == NEEDED
    assert server.fetched == NEEDED
    for name in NEEDED:
        assert (folder / name).read_bytes() == (published / name).read_bytes()
    size = sum((published / name).stat().st_size for name in NEEDED)
    assert max(progress.done_bytes for progress in told) == size
    assert told[-1].total_bytes == size
    assert told[-1].hub == client.name


def test_a_repository_that_is_not_there_is_told(client, server, tmp_path) -> None:
    server.missing = True
    with pytest.raises(HubUnavailableError, match=client.name):
        fetch(PUBLISHED, tmp_path / "models", timeout_s=LONG_S, clients=[client])


def test_a_download_that_is_cut_short_is_no_model(client, server, tmp_path, monkeypatch) -> None:
    server.cut_short = {"model.pt"}
    if client.name == "modelscope":
        import modelscope_hub._download as module

        monkeypatch.setattr(module, "DOWNLOAD_RETRY_TIMES", 0)
    with pytest.raises(HubUnavailableError, match=client.name):
        fetch(
            PUBLISHED, tmp_path / "models", timeout_s=LONG_S, stall_timeout_s=1.0, clients=[client]
        )
    assert not (tmp_path / "models" / MODEL).exists()
    # It was told to end, and does at the next bytes.
    for thread in threading.enumerate():
        if thread.name == "hub-download":
            thread.join(LONG_S)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("client", "layout"),
    [
        pytest.param(hub, layout, marks=pytest.mark.needs(requirement))
        for hub, requirement, layout in [
            ("modelscope", "modelscope", "models/iic--{model}/snapshots/master"),
            ("modelscope", "modelscope", "models/iic/{model}"),
            ("modelscope", "modelscope", "hub/models/iic/{model}"),
            ("modelscope", "modelscope", "hub/iic/{model}"),
            ("modelscope", "modelscope", "iic/{model}"),
            ("huggingface", "huggingface-hub", "models--emotion2vec--{model}/snapshots/0123abc"),
        ]
    ],
    indirect=["client"],
)
def test_what_the_client_has_cached_is_found(client, tmp_path, layout) -> None:
    repository = PUBLISHED.repositories[client.name]
    assert not [f for f in client.cached_folders(repository) if f.exists()]
    folder = tmp_path / "cache" / layout.format(model=MODEL)
    folder.mkdir(parents=True)
    assert folder in client.cached_folders(repository)


@pytest.mark.needs("huggingface-hub")
def test_a_client_that_is_set_to_offline_has_no_endpoint(monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="offline"):
        HuggingFace().endpoint()
