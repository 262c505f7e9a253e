"""A server of many processes: which there are, how they are started, watched and ended.

::

    front (this one: serve) ── HTTP, dashboard, feeds, store, alerts
      ├── engine              the model, for all of them           zmq://…/engine
      ├── worker-0            ports for audio, streams             zmq://…/front
      └── worker-1 …

``python -m emotion_monitor.processes ROLE NAME FOLDER`` is one of the children. Its settings come
in a line of standard input, which stays open: when the front is gone it is at its end, and so is
the child. A child that cannot start says why in a line of standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from emotion_monitor.config_file import plain
from emotion_monitor.event_loop import run, say, until_signal
from ser_engine import errors
from ser_engine.errors import ConfigError, EngineDeadError, SerEngineError

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings
    from stream_server.cluster.worker import FrontLink
    from stream_server.engines.host import EngineHost
    from stream_server.engines.pool import EnginePool
    from stream_server.feeds.source import FeedSource
    from stream_server.server import Server

_log = structlog.get_logger(__name__)

# The packages' folder; a child must run the same ones, installed or not.
# Longest that a child may take to end after it was told to, beside the streams' drain_timeout_s.
_END_S = 20.0
# A child that ends sooner than this after its start is started again after a pause, which doubles.
_SHORT_LIFE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_ALIVE_INTERVAL_S = 1.0


# -- the front -------------------------------------------------------------------------------------


def front_server(
    settings: Settings, serve_more: Callable[[Server, FeedSource], None] | None
) -> Server:
    """Return a server whose streams and engine are in processes of their own.

    Raises:
        ConfigError: the system cannot share a port among processes.
    """
    from stream_server.cluster.front import WorkersIngest
    from stream_server.cluster.zeromq import ZmqHost
    from stream_server.server import Server
    from stream_server.streams.ingest import IngestContext

    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError(
            f"got processes.workers {settings.stream_server.processes.workers} on a system whose"
            " processes cannot share a port (SO_REUSEPORT), expected 0"
        )
    children = Children(settings)

    def make_ingest(context: IngestContext) -> WorkersIngest:
        restarts = context.metrics.restarts
        children.on_restarted = lambda kind: restarts.labels(kind).inc()
        return WorkersIngest(
            context,
            host=ZmqHost(f"zmq://{children.path}/front"),
            workers=children,
            num_workers=settings.stream_server.processes.workers,
        )

    engine = children.worker_settings.ser_engine
    return Server(engine, settings.stream_server, serve_more=serve_more, make_ingest=make_ingest)


class Children:
    """The processes of a server; :class:`~stream_server.cluster.front.Workers`.

    Attributes:
        path: folder of their sockets.
        worker_settings: those of the workers: their engine is elsewhere.
        on_restarted: told the kind of each process that is started again.
    """

    def __init__(self, settings: Settings) -> None:
        # For this user alone.
        self._folder = tempfile.TemporaryDirectory(prefix="emotion-monitor-")
        self.path = self._folder.name
        engine = settings.ser_engine
        self._has_engine = "://" not in engine.model.name
        if self._has_engine:
            model = replace(engine.model, name=f"zmq://{self.path}/engine")
            engine = replace(engine, model=model)
        self.worker_settings = settings.model_copy(update={"ser_engine": engine})
        self.on_restarted: Callable[[str], None] = lambda kind: None
        self._settings = settings
        self._reserved: list[socket.socket] = []
        self._is_ending = False
        self._on_ended: Callable[[str], None] = lambda name: None
        self._keeping: list[asyncio.Task[None]] = []
        self._running: set[asyncio.subprocess.Process] = set()
        self._failure: asyncio.Future[None] | None = None
        self._end_s = _END_S + 2 * settings.stream_server.limits.drain_timeout_s

    @property
    def port(self) -> int:
        """The port for audio."""
        port: int = self._reserved[0].getsockname()[1]
        return port

    async def start(self, on_ended: Callable[[str], None]) -> None:
        """See :class:`Workers`.

        Raises:
            OSError: the port cannot be had.
        """
        from stream_server.streams.listeners import named_port

        listen = self._settings.stream_server.listen
        with named_port("listen.port", listen.host, listen.port, "--port"):
            self._reserved = await _reserve(listen.host, listen.port)
        self._failure = asyncio.get_running_loop().create_future()
        self._on_ended = on_ended
        server = replace(self.worker_settings.stream_server, listen=replace(listen, port=self.port))
        workers = self.worker_settings.model_copy(update={"stream_server": server})
        if self._has_engine:
            self._keep("engine", "engine", self._settings)
        for number in range(server.processes.workers):
            self._keep("worker", f"worker-{number}", workers)

    async def wait_failed(self) -> None:
        """See :class:`Workers`."""
        assert self._failure is not None, "started"
        await asyncio.shield(self._failure)

    def expect_end(self) -> None:
        """See :class:`Workers`."""
        self._is_ending = True

    async def wait_ended(self) -> None:
        """See :class:`Workers`; the engine goes last, for streams that end need it."""
        self._is_ending = True
        workers = [task for task in self._keeping if task.get_name() != "engine"]
        engine = [task for task in self._keeping if task.get_name() == "engine"]
        for tasks in (workers, engine):
            if tasks is engine:
                self._end_input()
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=self._end_s)
                for task in late:
                    task.cancel()
                if late:
                    await asyncio.wait(late)
        for each in self._reserved:
            each.close()
        self._folder.cleanup()
        if self._failure is not None and self._failure.done():
            self._failure.exception()  # Seen, or asyncio complains that it never was.

    def _expects_end(self) -> bool:
        return self._is_ending

    def _end_input(self) -> None:
        for process in self._running:
            assert process.stdin is not None
            process.stdin.close()

    def _keep(self, kind: str, name: str, settings: Settings) -> None:
        self._keeping.append(asyncio.create_task(self._run(kind, name, settings), name=name))

    async def _run(self, kind: str, name: str, settings: Settings) -> None:
        """Keep a process of a name running."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while not self._is_ending:
            began_s = loop.time()
            failure = await self._run_once(kind, name, settings)
            self._on_ended(name)
            if self._expects_end():
                return
            if failure is not None and self._failure is not None and not self._failure.done():
                self._failure.set_exception(failure)
            _log.error("process_ended", process=name, reason=str(failure or ""))
            if loop.time() - began_s > _SHORT_LIFE_S:
                pause_s = _FIRST_PAUSE_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self.on_restarted(kind)

    async def _run_once(self, kind: str, name: str, settings: Settings) -> Exception | None:
        """Run a process to its end; return what it says it failed with."""
        from stream_server.engines.fetching import child_environment

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "emotion_monitor.processes", kind, name, self.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(),
            # Ctrl+C is for the front, which then ends the others in order.
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        self._running.add(process)
        failure: Exception | None = None
        try:
            process.stdin.write(json.dumps(plain(settings.sections())).encode() + b"\n")
            async for line in process.stdout:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    failure = _error_of(json.loads(line))
            await process.wait()
        finally:
            self._running.discard(process)
            if process.returncode is None:
                process.kill()
                await process.wait()
        return failure


def _error_of(told: dict[str, Any]) -> Exception:
    if told["kind"] == OSError.__name__:
        return OSError(told["failed"])
    kind: type[Exception] = getattr(errors, told["kind"], SerEngineError)
    return kind(told["failed"])


async def _reserve(host: str, port: int) -> list[socket.socket]:
    """Return sockets that hold a port for processes that share it, without listening.

    Raises:
        OSError: another program has it.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    reserved: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            address = (address[0], reserved[0].getsockname()[1] if reserved else port, *address[2:])
            # First without sharing: two servers of one user must not share it by mistake.
            with _bound(family, kind, protocol, address, shared=False):
                pass
            reserved.append(_bound(family, kind, protocol, address, shared=True))
    except BaseException:
        for each in reserved:
            each.close()
        raise
    return reserved


def _bound(
    family: int, kind: int, protocol: int, address: tuple[Any, ...], *, shared: bool
) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


# -- the children ----------------------------------------------------------------------------------


async def run_engine(settings: Settings, url: str, link: FrontLink | None = None) -> int:
    """Lend engines to other processes until a signal, or the end of standard input with a link.

    ``url``: see :func:`stream_server.cluster.zeromq.endpoint_of`. ``link``: to the front that is
    told how the engine is doing; None: there is no front.

    Returns:
        The exit status: 0, or 1 if the address could not be had or the engine is dead.

    Raises:
        SerEngineError: a setting is wrong or the model cannot be loaded.
    """
    # Before anybody can connect: it takes seconds, in which the event loop stands still.
    import ser_engine.core.factory  # noqa: F401
    from stream_server.cluster.zeromq import ZmqHost
    from stream_server.engines.host import EngineHost
    from stream_server.engines.pool import EnginePool
    from stream_server.metrics import Metrics

    stopped = until_signal() if link is None else await _until_alone()
    try:
        host = ZmqHost(url)
    except OSError as error:
        say(str(error))
        return 1
    metrics = Metrics()
    engines = EnginePool(config=settings.ser_engine, on_step=metrics.step)
    serving = [asyncio.create_task(_serve_engines(engines, EngineHost(engines, host)))]
    if link is not None:
        serving.append(asyncio.create_task(_tell_front(link, metrics)))
    try:
        await asyncio.wait([serving[0], stopped], return_when=asyncio.FIRST_COMPLETED)
        if serving[0].done():
            serving[0].result()
    except EngineDeadError as error:
        say(str(error))
        return 1
    finally:
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)
        host.close()
        await engines.aclose()
    return 0


async def _serve_engines(engines: EnginePool, host: EngineHost) -> None:
    """Serve until the engine is dead.

    Raises:
        EngineDeadError: it is.
    """
    await engines.start()
    (engine, *_) = engines.status().engines
    say(f"model: {engine.info.name} ({engine.info.licence}), {engine.runtime}")
    if engine.info.notice:
        say(engine.info.notice)
    running = asyncio.create_task(host.run(), name="engine-host")
    try:
        while engines.is_ready:
            done, _ = await asyncio.wait([running], timeout=_ALIVE_INTERVAL_S)
            if done:
                running.result()
        raise EngineDeadError("the engine is dead; see what was logged")
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _tell_front(link: FrontLink, metrics: Any) -> None:
    from stream_server.cluster import PeerLostError
    from stream_server.cluster.messages import Status

    try:
        with contextlib.suppress(PeerLostError):
            await link.join()
            await link.run_status(lambda: Status(None, None, metrics.families()))
    finally:
        link.close()


async def _run_worker(settings: Settings, name: str, link: FrontLink) -> int:
    from stream_server.cluster.worker import Worker

    worker = Worker(
        settings.ser_engine,
        settings.stream_server,
        link,
        # Of one process only: their ports cannot be shared, nor need they.
        has_listeners=name == "worker-0",
    )
    alone = await _until_alone()
    running = asyncio.create_task(worker.run(), name="worker")
    await asyncio.wait([running, alone], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        # The front is dead: what streams say goes nowhere.
        running.cancel()
        await asyncio.wait([running])
        return 1
    running.result()
    return 0


async def _until_alone() -> asyncio.Future[Any]:
    """Return a future, done when standard input is at its end: the front is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    return asyncio.ensure_future(reader.read())


def _run_child(kind: str, name: str, path: str) -> int:
    """Be one of the children; return the exit status."""
    from emotion_monitor.settings import Settings
    from stream_server.cluster.worker import FrontLink
    from stream_server.cluster.zeromq import ZmqPeer
    from stream_server.logs import configure_logging
    from stream_server.tracing import configure_tracing

    # A service manager tells all processes of a service to stop: it is the front that stops the
    # others, in order, when streams have their last results.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Unbuffered, so that nothing of what follows is taken out of the pipe with it.
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return 1
        line += byte
    settings = Settings.model_validate(json.loads(line))
    configure_logging(settings.stream_server.logging)
    configure_tracing(settings.stream_server.tracing, name)

    async def main() -> int:
        link = FrontLink(name, ZmqPeer(f"zmq://{path}/front"))
        if kind == "engine":
            return await run_engine(settings, f"zmq://{path}/engine", link)
        return await _run_worker(settings, name, link)

    return run(main())


def _main(kind: str, name: str, path: str) -> None:
    from stream_server.engines.pool import end_process

    # Libraries print what they like on standard output; it must not get among the lines.
    told = os.dup(1)
    os.dup2(2, 1)
    status = 1
    try:
        status = _run_child(kind, name, path)
    except (SerEngineError, OSError) as error:
        failed = {"failed": str(error), "kind": _kind_of(error)}
        os.write(told, json.dumps(failed).encode() + b"\n")
    end_process(status)


def _kind_of(error: Exception) -> str:
    return OSError.__name__ if isinstance(error, OSError) else type(error).__name__


if __name__ == "__main__":
    _main(*sys.argv[1:])
