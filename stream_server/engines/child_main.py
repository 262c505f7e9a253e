"""A process that downloads or prepares a model: ``python -m stream_server.engines.child_main JOB``.

``JOB`` is a JSON object. The process says on standard output how far it is, one JSON object a
line; the last one is ``{"failed": "", "kind": ""}`` or says why and which error that is.
:mod:`stream_server.engines.fetching` starts it and reads that. It ends when nobody reads any more.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ser_engine.config import EngineConfig
from ser_engine.errors import CheckpointError, RuntimeUnavailableError, SerEngineError
from ser_engine.models.hub import FetchProgress, fetch
from ser_engine.models.registry import published_named

_TELL_EVERY_S = 0.2
# Whoever scores goes first: people wait for that.
_NICENESS = 10

Say = Callable[[dict[str, Any]], None]


def main(arguments: dict[str, Any], say: Say) -> None:
    """Do one job.

    Args:
        arguments: ``job``, ``fetch`` or ``prepare``; ``name`` of the model; ``config``, the fields
            of EngineConfig.
        say: told a line; called from several threads. What it raises ends a download.
    """
    config = TypeAdapter(EngineConfig).validate_python(arguments["config"])
    try:
        if arguments["job"] == "fetch":
            _fetch(arguments["name"], config, say)
        else:
            _prepare(config)
    except SerEngineError as error:
        say({"failed": str(error), "kind": type(error).__name__})
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
        say({"failed": failed, "kind": RuntimeUnavailableError.__name__})
    else:
        say({"failed": "", "kind": ""})


def _fetch(name: str, config: EngineConfig, say: Say) -> None:
    told_s = float("-inf")

    def tell(progress: FetchProgress) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s >= _TELL_EVERY_S or progress.done_bytes == progress.total_bytes:
            told_s = now_s
            say({each.name: getattr(progress, each.name) for each in dataclasses.fields(progress)})

    published = published_named(name)
    if published is None:
        raise CheckpointError(f"got {name}, expected a model that a hub has")
    fetch(
        published,
        Path(config.model.models_dir).expanduser(),
        hub=config.model.hub,
        timeout_s=config.model.hub_timeout_s,
        progress=tell,
    )


def _prepare(config: EngineConfig) -> None:
    from ser_engine.core.runtimes.select import choose_device
    from ser_engine.models.registry import find_model
    from stream_server.engines.opening import load_beside_another

    if choose_device(config.model.device) == "cpu":
        load_beside_another(config)()
    else:
        # No graph is kept for a GPU, and its memory is not to be held twice.
        find_model(config.model)


def _write(lines: int, message: dict[str, Any]) -> None:
    # One call a line, so that lines of several threads do not mix.
    os.write(lines, json.dumps(message).encode() + b"\n")


def _run() -> None:
    # Libraries print what they like on standard output; it must not get among the lines.
    lines = os.dup(1)
    os.dup2(2, 1)
    os.nice(_NICENESS)
    status = 1
    try:
        main(json.loads(sys.argv[1]), lambda message: _write(lines, message))
        status = 0
    finally:
        # Threads of a library that still wait for the network are not waited for.
        os._exit(status)


if __name__ == "__main__":
    _run()
