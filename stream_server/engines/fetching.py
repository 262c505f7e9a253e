"""Get a model onto this disk, ready to be opened, while the server serves.

::

    probe the hubs (a daemon thread, hub_timeout_s) ──▶ fetch in a child ──▶ prepare in a child
             │ none answers                                  │                    │
             ▼                                               ▼                    ▼
    HubUnavailableError                            <models_dir>/<name>/   prepared/ and graphs/

Both run in a process of their own. In a thread neither could be interrupted, both would take turns
with the event loop for the interpreter (the conversion of a graph holds it for seconds), and a
hub's client has thread pools that are waited for when the interpreter ends. A process can be ended
at any moment; what it has fetched is resumed by the next one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ser_engine import errors
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.host import ThreadWorker
from ser_engine.errors import HubUnavailableError, RuntimeUnavailableError, SerEngineError
from ser_engine.models.hub import HUB_CLIENTS, FetchProgress, HubClient, ProgressCallback, answers

_MODULE = "stream_server.engines.child_main"
# Where the packages are; the child must run the same ones, installed or not.
_ROOT = Path(__file__).resolve().parents[2]

Told = Callable[[dict[str, Any]], None]


def child_environment() -> dict[str, str]:
    """Return the environment in which a child imports these packages, wherever it is started."""
    python_path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": python_path}


async def run_child(
    job: Literal["fetch", "prepare"], name: str, config: EngineConfig, told: Told
) -> None:
    """Run one job to its end. Cancelled, it ends the child at once.

    Args:
        told: called on the event loop with what the child says.

    Raises:
        SerEngineError: of the kind the child met; RuntimeUnavailableError where it was ended.
    """
    arguments = {"job": job, "name": name, "config": dataclasses.asdict(config)}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        _MODULE,
        json.dumps(arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
        # Ctrl+C is for this process, which then ends the child in its own time.
        start_new_session=True,
    )
    ending: dict[str, str] | None = None
    try:
        assert child.stdout is not None
        async for line in child.stdout:
            message = json.loads(line)
            if "failed" in message:
                ending = message
            else:
                told(message)
        status = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if ending is None:
        raise RuntimeUnavailableError(
            f"the process that was to {job} {name} ended with status {status}; -9 usually means"
            " that memory ran out"
        )
    if ending["failed"]:
        kind = getattr(errors, ending["kind"], SerEngineError)
        raise kind(ending["failed"])


class Fetch(Protocol):
    """Fetches a known model into ``models_dir``. Cancelled, it stops at once."""

    async def __call__(
        self, name: str, config: EngineConfig, *, progress: ProgressCallback
    ) -> None:
        """Return when all files are there. Raises HubUnavailableError: no hub gave it."""


class Prepare(Protocol):
    """Makes the files a model on disk is opened from. Cancelled, it stops at once."""

    async def __call__(self, config: EngineConfig) -> None:
        """Return when they are there. Raises SerEngineError: the model cannot be used."""


async def fetch_in_child(
    name: str,
    config: EngineConfig,
    *,
    progress: ProgressCallback,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> None:
    """Fetch a known model, see :class:`Fetch`.

    Args:
        progress: told how far the download has come; on the event loop.

    Raises:
        HubUnavailableError: no hub answered within ``config.model.hub_timeout_s``, or the
            download failed.
        SerEngineError: the child could not do its work.
    """
    await in_daemon_thread(lambda: _probe(name, config.model, clients), name="hub-probe")
    await run_child("fetch", name, config, lambda message: progress(FetchProgress(**message)))


async def prepare_in_child(config: EngineConfig) -> None:
    """Prepare the model ``config.model.name``, see :class:`Prepare`.

    Raises:
        SerEngineError: the model cannot be used, or there is no memory to prepare it.
    """
    await run_child("prepare", config.model.name, config, lambda message: None)


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
    """Return once a hub has answered. Raises HubUnavailableError: none did."""
    endpoints = {
        client.name: client.endpoint for client in clients if config.hub in ("auto", client.name)
    }
    problems = []
    for hub, problem in answers(endpoints, config.hub_timeout_s):
        if not problem:
            return
        problems.append(f"{hub}: {problem}")
    raise HubUnavailableError(
        f"got no answer from a hub for {name} ({'; '.join(problems)}); check the network and proxy,"
        f" or copy the model's folder to {Path(config.models_dir).expanduser() / name}"
    )
