"""The real child process and Hugging Face's client, against a server on the loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.errors import CheckpointError, HubUnavailableError, RuntimeUnavailableError
from ser_engine.models.emotion2vec.reference import is_published_folder
from ser_engine.models.hub import FetchProgress
from stream_server.engines import child_main
from stream_server.engines.fetching import fetch_in_child, in_daemon_thread, prepare_in_child
from tests.support.fake_hub import FakeHub
from tests.support.hub_server import HubServer, silent_server

MODEL = "emotion2vec_plus_base"
LONG_S = 60.0


def config(models_dir: Path, *, hub_timeout_s: float = LONG_S, **model: Any) -> EngineConfig:
    fields: dict[str, Any] = {"hub": "huggingface", "hub_timeout_s": hub_timeout_s} | model
    return EngineConfig(model=ModelConfig(models_dir=str(models_dir), **fields))


def ignore(progress: FetchProgress) -> None:
    pass


@pytest.mark.needs("huggingface-hub")
async def test_a_model_is_fetched_with_progress(hub: HubServer, tmp_path: Path) -> None:
    told: list[FetchProgress] = []
    await fetch_in_child(MODEL, config(tmp_path), progress=told.append)
    assert is_published_folder(tmp_path / MODEL)
    assert told[-1].model == MODEL
    assert told[-1].hub == "huggingface"
    assert told[-1].done_bytes == told[-1].total_bytes


@pytest.mark.needs("huggingface-hub")
def test_what_a_hub_does_not_give_is_told(hub: HubServer, tmp_path: Path) -> None:
    # In this process: how it comes out of a child is seen of a model that cannot be prepared.
    hub.missing = True
    told: list[dict[str, Any]] = []
    job = {"job": "fetch", "name": MODEL, "config": dataclasses.asdict(config(tmp_path))}
    child_main.main(job, told.append)
    assert told[-1]["kind"] == "HubUnavailableError"
    assert "got no emotion2vec_plus_base from a hub" in told[-1]["failed"]


@pytest.mark.needs("huggingface-hub")
async def test_cancelled_it_leaves_no_process(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def note(*args: str, **kwargs: object) -> asyncio.subprocess.Process:
        started.append(await create(*args, **kwargs))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    hub.hold = threading.Event()
    task = asyncio.create_task(fetch_in_child(MODEL, config(tmp_path), progress=ignore))
    await in_daemon_thread(lambda: hub.half_is_sent.wait(LONG_S), name="test")
    began_s = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began_s < LONG_S / 2
    assert started[0].returncode == -9
    assert not (tmp_path / MODEL / "model.pt").exists()
    hub.hold.set()


async def test_a_child_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_server.engines.fetching._MODULE", "no_such_module")
    monkeypatch.setattr("stream_server.engines.fetching._probe", lambda *_: None)
    with pytest.raises(RuntimeUnavailableError, match="ended with status 1"):
        await fetch_in_child(MODEL, config(tmp_path), progress=ignore)


async def test_a_model_is_prepared_in_the_child(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    name = str(tiny_checkpoint_dir)
    await prepare_in_child(config(tmp_path, name=name, runtime="torch", device="cpu"))
    assert len(list((tmp_path / "prepared").iterdir())) == 1


async def test_what_is_wrong_with_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    with pytest.raises(CheckpointError, match=r"without config\.yaml"):
        await prepare_in_child(config(tmp_path, name=str(tmp_path / "bad")))


async def test_a_hub_that_is_away_costs_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none)
    with silent_server() as url:
        clients = [FakeHub("huggingface", url), FakeHub("modelscope", url)]
        with pytest.raises(HubUnavailableError, match=r"huggingface: no answer within 0\.5 s"):
            await fetch_in_child(
                MODEL, config(tmp_path, hub_timeout_s=0.5), progress=ignore, clients=clients
            )
    assert clients[1].asked == []


async def test_a_thread_left_behind_does_not_hold_the_process() -> None:
    code = (
        "import asyncio, threading\n"
        "from stream_server.engines.fetching import in_daemon_thread\n"
        "async def main():\n"
        "    task = asyncio.create_task(in_daemon_thread(threading.Event().wait, name='x'))\n"
        "    await asyncio.sleep(0)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        timeout=LONG_S,
        check=False,
    )
    assert ended.returncode == 0
