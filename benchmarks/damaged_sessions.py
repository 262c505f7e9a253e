"""Looks for messages that a whole session does not take: ``python -m benchmarks.damaged_sessions``.

Connections of every protocol over WebSocket are sent what :mod:`benchmarks.damaged_messages` makes,
through a real gateway with streams, windows and an engine, in virtual time. Some of them are cut,
end in the middle or do not read. A close with 1011, an exception in the log, a stream that does not
end or an engine that is not given back is printed with its seed, and the run goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import logging
import random

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.damaged_messages import Kind, connection, kinds
from stream_server.access import AccessConfig
from stream_server.config import ServerConfig
from stream_server.wire.results import StreamClosed, StreamOpened
from tests.support.live_lab import Lab, live_lab
from tests.support.virtual_time import run

PATHS = {
    "native": "/",
    "native query": "/?sample_rate=8000",
    "deepgram": "/v1/listen?encoding=linear16&sample_rate=8000",
    "vonage": "/vonage",
    "freeswitch": "/freeswitch?rate=8k&mix=stereo",
    "chan_websocket": "/asterisk?role=customer",
    "audiohook": "/audiohook",
}
"""Of the protocols in :func:`kinds`; a media stream's is its name."""
_NOT_OVER_WEBSOCKET = ("native client", "audiosocket")
_END_S = 60.0
"""Longer than a lost client is waited for."""


class _Errors(logging.Handler):
    """Keeps what is logged with a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(repr(record.exc_info[1])[:300])


async def session(lab: Lab, path: str, kind: Kind, seed: str) -> tuple[int, int | None]:
    """Send one connection its messages; return how many, and the code of the close."""
    rng = random.Random(seed)
    number = 0
    headers = {"Audiohook-Session-Id": "s", "Audiohook-Organization-Id": "o"}
    try:
        socket = await lab.connect(path, additional_headers=headers)
    except InvalidHandshake:
        return 0, None
    reader = asyncio.create_task(_read(socket)) if rng.random() < 0.9 else None
    with contextlib.suppress(ConnectionClosed):
        for message in connection(kind, seed):
            await socket.send(message)
            number += 1
            if rng.random() < 0.1:
                await asyncio.sleep(rng.choice((0.02, 0.5, 5.0)))
    if rng.random() < 0.3:
        socket.transport.abort()
    await socket.close()
    if reader is not None:
        await reader
    return number, socket.close_code


async def _read(socket: object) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in socket:  # type: ignore[attr-defined]
            pass


async def _run(names: list[str], seeds: range, outcomes: collections.Counter[str]) -> None:
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    by_name = kinds()
    config = ServerConfig(access=AccessConfig(refusal_delay_ms=0))
    for number in seeds:
        async with live_lab(config=config) as lab:
            tasks = {}
            for name in names:
                path = PATHS.get(name, f"/{name}")
                tasks[name] = asyncio.create_task(
                    session(lab, path, by_name[name], f"{name} {number}")
                )
            for name, task in tasks.items():
                sent, code = await task
                outcomes["messages"] += sent
                outcomes[f"closed with {code}"] += 1
                if code == 1011:
                    errors.found.append(f"{name}: closed with 1011")
            await asyncio.sleep(_END_S)
            opened = sum(isinstance(each, StreamOpened) for each in lab.published)
            closed = sum(isinstance(each, StreamClosed) for each in lab.published)
            outcomes["streams"] += opened
            if opened != closed or lab.engine.released != opened:
                errors.found.append(f"{opened} opened, {closed} closed, {lab.engine.released} back")
        for each in errors.found:
            outcomes["not taken"] += 1
            print(f"seed {number}: {each}", flush=True)
        errors.found.clear()


def main() -> int:
    """Run it; return how many faults were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=100, help="connections of each protocol")
    given = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    names = [name for name in kinds() if name not in _NOT_OVER_WEBSOCKET]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    run(_run(names, seeds, outcomes))
    print(", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())))
    return outcomes["not taken"]


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
