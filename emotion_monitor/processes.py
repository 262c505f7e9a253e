"""The processes of a server that is more than one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emotion_monitor.serve import say, until_signal

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings
    from stream_server.engines.host import EngineHost
    from stream_server.engines.pool import EnginePool


async def run_engine(settings: Settings, url: str) -> int:
    """Lend engines to other processes until SIGINT or SIGTERM.

    Args:
        settings: all of them.
        url: where; see :func:`stream_server.cluster.zeromq.endpoint_of`.

    Returns:
        The exit status: 0, or 1 if the address could not be had.

    Raises:
        SerEngineError: a setting is wrong or the model cannot be loaded.
    """
    from stream_server.cluster.zeromq import ZmqHost
    from stream_server.engines.host import EngineHost
    from stream_server.engines.pool import EnginePool

    stopped = until_signal()
    try:
        host = ZmqHost(url)
    except OSError as error:
        say(str(error))
        return 1
    engines = EnginePool(config=settings.ser_engine)
    serving = asyncio.create_task(_serve_engines(engines, EngineHost(engines, host)))
    try:
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        host.close()
        await engines.aclose()
    return 0


async def _serve_engines(engines: EnginePool, host: EngineHost) -> None:
    await engines.start()
    (engine, *_) = engines.status().engines
    say(f"model: {engine.info.name} ({engine.info.licence}), {engine.runtime}")
    if engine.info.notice:
        say(engine.info.notice)
    await host.run()
