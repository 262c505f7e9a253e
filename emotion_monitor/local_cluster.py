"""Several servers with their engines, NATS and PostgreSQL, on this machine and for a while.

::

    calls ─▶ gateway-a ─┬─▶ engine-0     windows, by ``zmq://``, or ``ray://`` to replicas
    calls ─▶ gateway-b ─┼─▶ engine-1
                        ├─▶ NATS         results of all, for every wall
    pages ─▶ dashboard ─┴─▶ PostgreSQL   timelines

What docs/how-to/cluster.md describes, to look at (``emotion-monitor cluster-demo``), to be measured
(``benchmarks/cluster.py``) and to be killed in parts by a test. All processes but NATS and
PostgreSQL are forked from one that has loaded the packages, so that they start quickly.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import multiprocessing
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from emotion_monitor.local_services import (
    NatsServer,
    PostgreSQL,
    RayCluster,
    bin_dir,
    free_port,
    nats_program,
)
from mic_client import ArraySource, StreamClient, StreamOptions, load_sample_call
from mic_client.audio_file import SAMPLE_CALL_ROLES
from stream_server.engines.ray_pool import leave
from stream_server.wire.messages import ChannelSpec

GATEWAYS = ("gateway-a", "gateway-b")
DASHBOARD = "dashboard"
_REPLICAS = "replicas"
_START_TIMEOUT_S = 300.0
_END_TIMEOUT_S = 30.0
_PRELOADED = ("emotion_monitor.processes", "emotion_monitor.dashboard", "stream_server.server")


def what_is_missing() -> list[str]:
    """Return the commands that install what a cluster needs and this machine lacks."""
    commands = []
    packages = [
        package
        for package, is_there in (
            ("nats-server", nats_program() is not None),
            ("postgresql", bin_dir() is not None),
        )
        if not is_there
    ]
    if packages:
        commands.append(f"apt-get install {' '.join(packages)}")
    extras = [
        extra
        for extra, module in (("cluster", "nats"), ("postgresql", "psycopg"))
        if importlib.util.find_spec(module) is None
    ]
    if extras:
        commands.append(f"pip install 'emotion-monitor[{','.join(extras)}]'")
    return commands


def has_ray() -> bool:
    """Return whether engines may run on Ray Serve."""
    return importlib.util.find_spec("ray") is not None


@dataclass(frozen=True, slots=True)
class _Pool:
    """Replicas of Ray Serve."""

    min_replicas: int
    max_replicas: int


class LocalCluster:
    """Runs while it is entered.

    ``on_ray``: the engines are replicas of Ray Serve, else processes of their own. ``assignments``:
    further settings of all servers, as of ``--set``.
    """

    def __init__(
        self,
        *,
        engines: int = 2,
        on_ray: bool = False,
        model: str = "compact",
        assignments: Sequence[str] = (),
        dashboard_port: int = 0,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="em-cluster-")
        self.folder = Path(self._folder.name)
        self.ray = RayCluster(self.folder / "ray") if on_ray else None
        # What they are forked from has that of before.
        self._environment = {} if self.ray is None else self.ray.environment
        self._pools: dict[str, _Pool] = {_REPLICAS: _Pool(engines, engines)} if on_ray else {}
        self._engines = (
            tuple(self._pools) if on_ray else tuple(f"engine-{each}" for each in range(engines))
        )
        self._model = model
        self._assignments = tuple(assignments)
        self._ports = {name: (free_port(), free_port()) for name in (*GATEWAYS, DASHBOARD)}
        if dashboard_port:
            self._ports[DASHBOARD] = (free_port(), dashboard_port)
        self._processes: dict[str, BaseProcess] = {}
        self._stack = contextlib.ExitStack()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*_PRELOADED, *(["ray.serve"] if on_ray else [])])
        self.nats = NatsServer(self.folder / "jetstream")
        self.store_url = ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._folder.cleanup)
            database = PostgreSQL()
            stack.callback(database.close)
            self.store_url = database.new_database()
            self.nats.start()
            stack.callback(self.nats.kill)
            if self.ray is not None:
                stack.callback(self.ray.close)
                stack.callback(leave)
                self.ray.start()
                # Who asks its engines from here joins it, too.
                os.environ.update(self._environment)
            stack.callback(self._end_all)
            for name in (*self._engines, *GATEWAYS, DASHBOARD):
                self.start(name)
            for name in (*GATEWAYS, DASHBOARD):
                self.wait_ready(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def ingest_url(self, name: str) -> str:
        """Return where a server takes audio."""
        return f"ws://127.0.0.1:{self._ports[name][0]}"

    def http_url(self, name: str) -> str:
        """Return where a server has its pages, feeds and metrics."""
        return f"http://127.0.0.1:{self._ports[name][1]}"

    def engine_address(self, number: int) -> str:
        """Return the address of the first ``number`` engines together; on Ray, of all replicas."""
        if self.ray is not None:
            return self._engine_url(_REPLICAS)
        return "zmq://" + ",".join(f"{self.folder}/{name}" for name in self._engines[:number])

    def start(self, name: str) -> None:
        """Start one of the processes, also again."""
        process = (
            self._context.Process(
                target=_run_engine,
                args=(
                    self._environment,
                    self._engine_settings(),
                    self._engine_url(name),
                    self._pools.get(name),
                ),
                daemon=True,
            )
            if name in self._engines
            else self._context.Process(
                target=_run_server,
                args=(self._environment, self._server_settings(name)),
                daemon=True,
            )
        )
        process.start()
        self._processes[name] = process

    def kill(self, name: str) -> None:
        """End one of the processes as a crash would."""
        process = self._processes.pop(name)
        process.kill()
        process.join()

    def kill_replica(self) -> None:
        """End the oldest replica of Ray Serve as a crash would."""
        assert self.ray is not None, "engines are on Ray"
        os.kill(self.ray.replicas()[0], signal.SIGKILL)

    def add_replicas(self, pool: str, number: int, at_most: int = 0) -> str:
        """Start another pool of replicas and return its address, once it is there.

        ``number`` of them are always there, ``at_most`` under load, which is looked at as often as
        Ray Serve can; 0: no more.

        Raises:
            TimeoutError: it is not.
        """
        from stream_server.engines.ray_pool import ServeApplications, ray_address

        self._pools[pool] = _Pool(number, at_most or number)
        self._engines = tuple(self._pools)
        self.start(pool)
        url = self._engine_url(pool)
        applications = ServeApplications(ray_address(url))
        until_s = time.monotonic() + _START_TIMEOUT_S
        while not asyncio.run(applications.running()):
            if time.monotonic() > until_s:
                raise TimeoutError(
                    f"the replicas of {pool} did not start in {_START_TIMEOUT_S:g} s"
                )
            time.sleep(0.1)
        return url

    def end(self, name: str) -> None:
        """End one of the processes as an operator would."""
        process = self._processes.pop(name)
        process.terminate()
        process.join(_END_TIMEOUT_S)

    def wait_ready(self, name: str) -> None:
        """Wait until a server takes streams.

        Raises:
            TimeoutError: it does not.
        """
        until_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until_s:
            if not self._processes[name].is_alive():
                raise TimeoutError(f"{name} has ended; see what it printed")
            with contextlib.suppress(OSError, urllib.error.URLError):
                with urllib.request.urlopen(f"{self.http_url(name)}/readyz", timeout=5):
                    return
            time.sleep(0.05)
        raise TimeoutError(f"{name} is not ready after {_START_TIMEOUT_S:g} s")

    def _engine_url(self, name: str) -> str:
        if self.ray is not None:
            return f"ray://{self.ray.address}/{name}"
        return f"zmq://{self.folder}/{name}"

    def _engine_settings(self) -> list[str]:
        return [
            f"ser_engine.model.name={self._model}",
            "ser_engine.model.offline=true",
            "stream_server.logging.level=warning",
        ]

    def _server_settings(self, name: str) -> list[str]:
        port, http_port = self._ports[name]
        return [
            f"ser_engine.model.name={self.engine_address(len(self._engines))}",
            f"stream_server.listen.port={port}",
            f"stream_server.listen.http_port={http_port}",
            "stream_server.telephony.audiosocket.port=-1",
            f"stream_server.store.url={self.store_url}",
            f"stream_server.bus.url={self.nats.url}",
            f"stream_server.bus.name={name}",
            f"stream_server.bus.outbox_dir={self.folder}/outbox",
            # Of servers on one machine each needs its own.
            f"dashboard.analyse.dir={self.folder}/{name}",
            "stream_server.logging.level=warning",
            *self._assignments,
        ]

    def _end_all(self) -> None:
        # Servers first: their streams need the engines to end.
        for names in ((*GATEWAYS, DASHBOARD), self._engines):
            ending = [self._processes[name] for name in names if name in self._processes]
            for process in ending:
                process.terminate()
            for process in ending:
                process.join(_END_TIMEOUT_S)
                if process.is_alive():
                    process.kill()
                    process.join()


def _run_server(environment: dict[str, str], assignments: list[str]) -> None:
    os.environ.update(environment)
    from emotion_monitor.event_loop import run
    from emotion_monitor.serve import run_server
    from emotion_monitor.settings import load_settings
    from stream_server.engines.pool import end_process
    from stream_server.logs import configure_logging

    settings = load_settings(None, assignments)
    configure_logging(settings.stream_server.logging)
    end_process(run(run_server(settings)))


def _run_engine(
    environment: dict[str, str], assignments: list[str], url: str, pool: _Pool | None
) -> None:
    os.environ.update(environment)
    from emotion_monitor.event_loop import run
    from emotion_monitor.processes import run_engine
    from emotion_monitor.ray_application import run_ray_engine
    from emotion_monitor.settings import load_settings
    from stream_server.engines.pool import end_process
    from stream_server.engines.ray_replica import ReplicaSettings
    from stream_server.logs import configure_logging

    settings = load_settings(None, assignments)
    configure_logging(settings.stream_server.logging)
    if pool is None:
        end_process(run(run_engine(settings, url)))
    replica = ReplicaSettings(
        settings.ser_engine,
        pool.min_replicas,
        pool.max_replicas,
        upscale_delay_s=0.0,
        downscale_delay_s=0.0,
    )
    end_process(run(run_ray_engine(replica, url)))


async def play_call(url: str, name: str, seconds: float | None = None) -> None:
    """Stream the sample call to a server at the speed of speech."""
    samples, rate_hz = await asyncio.to_thread(load_sample_call)
    if seconds is not None:
        samples = samples[: round(seconds * rate_hz)]
    options = StreamOptions(
        channels=tuple(ChannelSpec(role=role) for role in SAMPLE_CALL_ROLES), name=name
    )
    async with StreamClient(ArraySource(samples, rate_hz), url, options) as client:
        async for _ in client:
            pass
