"""Engines on Ray Serve for as long as a process runs: ``emotion-monitor engine --listen ray://…``.

::

    engine --listen ray:///calls, model a ──▶ application calls-1f2e… ◀── streams that began then
    engine --listen ray:///calls, model b ──▶ application calls-9c0a… ◀── new streams
    SIGTERM to the first ──▶ waits for its last stream ──▶ its application is deleted

Ray Serve looks after the replicas by itself, also when this process is killed; started again with
the same settings it takes the application over.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import structlog

from emotion_monitor.event_loop import say, until_signal
from stream_server.engines.fetching import in_daemon_thread
from stream_server.engines.ray_pool import SERVING, RayAddress, join, ray_address, take_signals_back
from stream_server.engines.ray_replica import ReplicaSettings, application
from stream_server.engines.remote import SILENCE_S

_log = structlog.get_logger(__name__)

_LOOK_S = 2.0


async def run_ray_engine(settings: ReplicaSettings, url: str) -> int:
    """Have Ray Serve run engines until a signal; see the module's picture.

    Returns:
        The exit status: 0, or 1 if there is no such cluster or its replicas do not start.

    Raises:
        ConfigError: the address is none.
        RuntimeUnavailableError: Ray is not installed.
    """
    address = ray_address(url)
    name = settings.application_name(address.pool)
    stopped = until_signal()
    deploying = asyncio.ensure_future(
        in_daemon_thread(lambda: _deploy(address, name, settings), name="ray")
    )
    await asyncio.wait([deploying, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not deploying.done():
        deploying.cancel()
        return 0
    try:
        await deploying
    except (ConnectionError, RuntimeError) as error:
        say(f"the engines could not be had: {error}")
        return 1
    take_signals_back()
    _log.info("engine_ready", application=name)
    await stopped
    while await in_daemon_thread(lambda: _is_used(address, name), name="ray"):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    await in_daemon_thread(lambda: _delete(name), name="ray")
    return 0


def _deploy(address: RayAddress, name: str, settings: ReplicaSettings) -> None:
    join(address.cluster)
    from ray import serve

    if name == _newest(address):
        return  # Of a former process; to run it again would start its replicas anew.
    # Audio comes in at the gateways: no proxy for HTTP is needed.
    serve.start(proxy_location="Disabled")
    serve.run(application(asdict(settings)), name=name, route_prefix=None)


def _is_used(address: RayAddress, name: str) -> bool:
    """Return whether streams stay with an application while new ones use another."""
    from ray import serve

    if name not in serve.status().applications or name == _newest(address):
        return False
    idle_s = serve.get_app_handle(name).broadcast("idle_s").results(timeout_s=SILENCE_S)
    return min(idle_s, default=SILENCE_S) < SILENCE_S


def _newest(address: RayAddress) -> str:
    """Return the name of the application that new streams use; "": there is none."""
    from ray import serve

    deployed_s = {
        name: status.last_deployed_time_s
        for name, status in serve.status().applications.items()
        if address.has(name) and status.status in SERVING
    }
    return max(deployed_s, key=deployed_s.__getitem__, default="")


def _delete(name: str) -> None:
    from ray import serve

    serve.delete(name)
