"""Fetch a model while the server serves: asked for in seconds, downloaded in a process of its own.

::

    probe the hubs (a daemon thread, hub_timeout_s) ──▶ child process: ser_engine.models.hub.fetch
             │ none answers                                │ one JSON object a line:
             ▼                                             ▼ progress, at last "" or what failed
    HubUnavailableError                            <models_dir>/<name>/

A process, because a hub's client cannot be interrupted in a thread: it retries for minutes, its
thread pools are waited for when the interpreter ends, and its work takes turns with the event
loop's. A process can be ended at any moment, and what it has fetched is resumed by the next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ser_engine.batching.worker import ThreadWorker
from ser_engine.config import ModelConfig
from ser_engine.errors import HubUnavailableError
from ser_engine.models.hub import HUB_CLIENTS, FetchProgress, ProgressCallback
from ser_engine.models.hub_clients import HubClient
from ser_engine.models.probe import answers

__all__ = ["Fetch", "fetch_in_child", "in_daemon_thread"]

_CHILD = "stream_server.engines.fetch_child"
_ROOT = Path(__file__).resolve().parents[2]
"""Where the packages are; the child must run the same ones, installed or not."""


class Fetch(Protocol):
    """Fetches a known model into ``config.models_dir``. Cancelled, it stops at once."""

    async def __call__(self, name: str, config: ModelConfig, *, progress: ProgressCallback) -> None:
        """Return when all files are there.

        Raises:
            HubUnavailableError: no hub gave it.
        """


async def fetch_in_child(
    name: str,
    config: ModelConfig,
    *,
    progress: ProgressCallback,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> None:
    """Fetch a known model, see :class:`Fetch`.

    Args:
        name: e.g. ``emotion2vec_plus_base``.
        config: where it goes, which hub is asked and how long that may take.
        progress: told how far the download has come; on the event loop.
        clients: the hubs there are; the child has the same ones.

    Raises:
        HubUnavailableError: no hub answered within ``config.hub_timeout_s``, or the download
            failed.
    """
    await in_daemon_thread(lambda: _probe(name, config, clients), name="hub-probe")
    python_path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        _CHILD,
        json.dumps({"name": name, "config": asdict(config)}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path},
        # Ctrl+C is for this process, which then ends the child in its own time.
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        ending: dict[str, Any] = {}
        async for line in child.stdout:
            told = json.loads(line)
            if "failed" in told:
                ending = told
            else:
                progress(FetchProgress(**told))
        status = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    failed = ending.get("failed", f"the download ended with status {status}")
    if failed:
        raise HubUnavailableError(failed)


async def in_daemon_thread(job: Callable[[], Any], *, name: str) -> Any:
    """Return what ``job`` returns or raises.

    Unlike :func:`asyncio.to_thread` it never keeps the process from ending: cancelled, it leaves
    the thread behind.
    """
    worker = ThreadWorker(name)
    try:
        return await asyncio.wrap_future(worker.submit(job))
    finally:
        worker.close()


def _probe(name: str, config: ModelConfig, clients: Sequence[HubClient]) -> None:
    """Return once a hub has answered.

    Raises:
        HubUnavailableError: none did.
    """
    endpoints = {
        client.name: client.endpoint for client in clients if config.hub in ("auto", client.name)
    }
    problems = []
    for hub, problem in answers(endpoints, config.hub_timeout_s):
        if not problem:
            return
        problems.append(f"{hub}: {problem}")
    raise HubUnavailableError(
        f"got no answer of a hub for {name} ({'; '.join(problems)}); check the network and proxy,"
        f" copy the model's folder to {Path(config.models_dir).expanduser() / name}, or turn"
        " model.offline on"
    )
