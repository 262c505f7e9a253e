"""Get a model onto this disk, ready to be opened, while the server serves.

::

    probe the hubs (a daemon thread, hub_timeout_s) ──▶ fetch in a child ──▶ prepare in a child
             │ none answers                                  │                    │
             ▼                                               ▼                    ▼
    HubUnavailableError                            <models_dir>/<name>/   prepared/ and graphs/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ser_engine.batching.worker import ThreadWorker
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.errors import HubUnavailableError
from ser_engine.models.hub import HUB_CLIENTS, FetchProgress, ProgressCallback
from ser_engine.models.hub_clients import HubClient
from ser_engine.models.probe import answers
from stream_server.engines.child import run_child

__all__ = ["Fetch", "Prepare", "fetch_in_child", "in_daemon_thread", "prepare_in_child"]


class Fetch(Protocol):
    """Fetches a known model into ``models_dir``. Cancelled, it stops at once."""

    async def __call__(
        self, name: str, config: EngineConfig, *, progress: ProgressCallback
    ) -> None:
        """Return when all files are there.

        Raises:
            HubUnavailableError: no hub gave it.
        """


class Prepare(Protocol):
    """Makes the files a model on disk is opened from. Cancelled, it stops at once."""

    async def __call__(self, config: EngineConfig) -> None:
        """Return when they are there.

        Raises:
            SerEngineError: the model cannot be used.
        """


async def fetch_in_child(
    name: str,
    config: EngineConfig,
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
        f" or copy the model's folder to {Path(config.models_dir).expanduser() / name}"
    )
