"""Start the process that downloads or prepares a model, hear how far it is, and end it.

A process, because in a thread neither can be interrupted, both take turns with the event loop for
the interpreter (the conversion of a graph holds it for seconds), and a hub's client has thread
pools that are waited for when the interpreter ends. A process can be ended at any moment; what it
has fetched is resumed by the next one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ser_engine import errors
from ser_engine.config import EngineConfig
from ser_engine.errors import RuntimeUnavailableError, SerEngineError

__all__ = ["Told", "run_child"]

_MODULE = "stream_server.engines.child_main"
_ROOT = Path(__file__).resolve().parents[2]
"""Where the packages are; the child must run the same ones, installed or not."""

Told = Callable[[dict[str, Any]], None]


async def run_child(
    job: Literal["fetch", "prepare"], name: str, config: EngineConfig, told: Told
) -> None:
    """Run one job to its end. Cancelled, it ends the child at once.

    Args:
        job: what is to be done.
        name: the model's name.
        config: the engine's settings.
        told: called on the event loop with what the child says.

    Raises:
        SerEngineError: of the kind the child met; RuntimeUnavailableError where it was ended.
    """
    arguments = {"job": job, "name": name, "config": dataclasses.asdict(config)}
    python_path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        _MODULE,
        json.dumps(arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path},
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
            f"got status {status} of the process that was to {job} {name}, expected it to end by"
            " itself; it may have been out of memory (-9)"
        )
    if ending["failed"]:
        kind = getattr(errors, ending["kind"], SerEngineError)
        raise kind(ending["failed"])
