"""The process that downloads a model: ``python -m stream_server.engines.fetch_child ARGUMENTS``.

Says on standard output how far it is, one JSON object a line; the last one is ``{"failed": ""}``
or says why. :mod:`stream_server.engines.fetching` starts it and reads that. It ends when nobody
reads any more.
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

from ser_engine.config import ModelConfig
from ser_engine.errors import SerEngineError
from ser_engine.models.hub import FetchProgress, fetch

__all__ = ["main"]

_TELL_EVERY_S = 0.2
_NICENESS = 10
"""The network goes first: it has people waiting."""
_PROGRESS_FIELDS = tuple(field.name for field in dataclasses.fields(FetchProgress))


def main(arguments: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Fetch a model.

    Args:
        arguments: ``name`` of the model, and ``config``, the fields of ModelConfig.
        say: told a line; called from several threads. What it raises ends the download.
    """
    config = ModelConfig(**arguments["config"])
    told_s = float("-inf")

    def tell(progress: FetchProgress) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if now_s - told_s < _TELL_EVERY_S and progress.done_bytes != progress.total_bytes:
            return
        told_s = now_s
        say({name: getattr(progress, name) for name in _PROGRESS_FIELDS})

    try:
        fetch(
            arguments["name"],
            Path(config.models_dir).expanduser(),
            hub=config.hub,
            timeout_s=config.hub_timeout_s,
            progress=tell,
        )
    except SerEngineError as error:
        say({"failed": str(error)})
    else:
        say({"failed": ""})


def _write(lines: int, message: dict[str, Any]) -> None:
    # One call a line, so that lines of several threads do not mix.
    os.write(lines, json.dumps(message).encode() + b"\n")


def _run() -> None:
    # The clients print what they like on standard output; it must not get among the lines.
    lines = os.dup(1)
    os.dup2(2, 1)
    os.nice(_NICENESS)
    status = 1
    try:
        main(
            json.loads(sys.argv[1]),
            lambda message: _write(lines, message),
        )
        status = 0
    finally:
        # Threads of a client that still wait for the network are not waited for.
        os._exit(status)


if __name__ == "__main__":
    _run()
