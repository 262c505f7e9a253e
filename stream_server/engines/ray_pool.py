"""Engines that Ray Serve runs, as one: ``ray:///NAME``, or ``ray://HOST:PORT/NAME``.

::

    windows of a turn ─▶ RayPeer ─┬─ one call ─▶ replica ─▶ answers        (:mod:`.ray_replica`)
                                  ├─ one call ─▶ replica ─▶ lost ──▶ another replica ─▶ answers
                                  └─ one call a second: is somebody there, is there a newer model?

Ray Serve starts replicas, as many as the load needs, routes a call to one that has room, and
replaces those that die. Here is the way there: a :class:`~stream_server.cluster.Peer` whose other
side is all replicas of an application together, for
:class:`~stream_server.engines.remote.RemoteEngine`, which accounts for every window. A call whose
replica is lost is made again: to score a window twice changes nothing, and of two answers to one
window the second is dropped.

All replicas of an application have one model. Another model, or release, is another application of
the same name with ``-`` and something behind; new streams use the newest one that runs. A stream
stays with the model that it began with, and moves where a newer application has the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import structlog

from ser_engine.config import EngineConfig
from ser_engine.core.batcher import OnStep
from ser_engine.errors import (
    ConfigError,
    EngineDeadError,
    RuntimeUnavailableError,
    WindowError,
    how_to_install,
)
from stream_server.cluster import Frame, PeerLostError
from stream_server.engines import Engine
from stream_server.engines.fetching import in_daemon_thread
from stream_server.engines.remote import (
    VERSION,
    Answered,
    Answers,
    Asked,
    Bye,
    Forget,
    FromHost,
    FromPeer,
    Hello,
    Ping,
    Pong,
    Refused,
    RemoteEngine,
    Score,
    Welcome,
    Withdraw,
)

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_log = structlog.get_logger(__name__)

SCHEME = "ray"
SERVING = ("RUNNING", "UNHEALTHY")
"""States of an application of Ray Serve whose replicas answer; in the second, not all of them."""
LOOK_AGAIN_S = 5.0
"""Time after which it is looked again whether there is a newer application."""
_PAUSES_S = (0.0, 0.1, 0.5, 1.0)  # before a call is made again; the last one from then on
# Calls with windows at once, of a part. A call takes some 10 ms of a gateway's core whatever it
# carries, so that under load windows wait for an answer and then go together.
_MOST_CALLS = 2
# A controller that is being replaced does not answer for a moment; calls to replicas go on.
_FAILURES_TO_LEAVE = 3
_LOOK_TIMEOUT_S = 20.0
# Of windows that go to a replica directly. Larger ones go through the shared memory of this
# machine's Ray node, and a process whose node dies while it writes there is ended by Ray.
_LARGEST_BYTES = 64 << 20
# A head of the cluster that is restarted is waited for. Ray's own limit ends this process.
_HEAD_TIMEOUT_S = 7 * 24 * 3600

_encode = msgspec.msgpack.Encoder().encode
_decode_peer = msgspec.msgpack.Decoder(FromPeer).decode
_decode_host = msgspec.msgpack.Decoder(FromHost).decode


@dataclass(frozen=True, slots=True)
class RayAddress:
    """Where the engines are.

    Attributes:
        cluster: HOST:PORT of the head; "": the cluster that this machine is part of.
        pool: what the applications' names begin with.
    """

    cluster: str
    pool: str

    def has(self, application: str) -> bool:
        return application == self.pool or application.startswith(f"{self.pool}-")


def ray_address(url: str) -> RayAddress:
    """Return the parts of an address. Raises ConfigError: it is none."""
    scheme, _, rest = url.partition("://")
    cluster, _, pool = rest.partition("/")
    host, _, port = cluster.rpartition(":")
    if scheme != SCHEME or not pool or "/" in pool or (cluster and not (host and port.isdecimal())):
        raise ConfigError(
            f"got the address {url!r}, expected ray:///NAME for the Ray cluster that this machine"
            " is part of, or ray://HOST:PORT/NAME"
        )
    return RayAddress(cluster, pool)


class ReplicaLostError(Exception):
    """A replica died before it answered; another one may."""


class Application(Protocol):
    """Replicas with one model."""

    @property
    def name(self) -> str:
        """Its name, of it alone."""

    @property
    def num_replicas(self) -> int:
        """How many replicas it has, or had a moment ago."""

    async def ask(self, engine: str, frames: Sequence[Frame], part: int) -> list[bytes]:
        """Return a replica's answer to a message; waits while there is no replica.

        Args:
            engine: key of the engine that must answer; "": whichever it is.
            part: messages of one part go to one replica, as far as that is possible.

        Raises:
            ReplicaLostError: the replica died.
            PeerLostError: there is no such application any more.
        """
        ...


class Applications(Protocol):
    """Finds the applications of a pool."""

    async def running(self) -> Sequence[Application]:
        """Return those that answer, the newest first; none where there is no cluster either."""
        ...


class RayPeer:
    """A :class:`~stream_server.cluster.Peer` whose other side is a pool of engines."""

    def __init__(self, applications: Applications) -> None:
        self._applications = applications
        self._application: Application | None = None
        self._engine = ""
        self._newest = ("", "")  # application, and its engine's key
        self._look_s = 0.0
        self._replies: asyncio.Queue[list[bytes] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pinging: asyncio.Task[None] | None = None
        self._waiting: dict[int, list[tuple[Asked, Frame]]] = {}  # windows by part
        self._calls: Counter[int] = Counter()  # that run, by part
        self._is_lost = False

    async def connect(self) -> None:
        while not await self._applications.running():  # noqa: ASYNC110  The cluster does not tell.
            await asyncio.sleep(_PAUSES_S[-1])

    async def send(self, frames: Sequence[Frame]) -> None:
        if self._is_lost:
            raise PeerLostError("the pool")
        match _decode_peer(frames[0]):
            case Hello(engine=engine):
                await self._find(engine, frames)
            case Score(windows=windows):
                pairs = zip(windows, frames[1:], strict=True)
                parts = self._by_part((asked.stream_key, (asked, each)) for asked, each in pairs)
                for part, some in parts:
                    self._waiting.setdefault(part, []).extend(some)
                    self._score_waiting(part)
            case Ping():
                # One at a time: without replicas they would pile up.
                if self._pinging is None or self._pinging.done():
                    self._pinging = self._begin(self._ping(frames))
            case Forget(stream_keys=keys):
                for part, some in self._by_part((key, key) for key in keys):
                    self._begin(self._tell([_encode(Forget(tuple(some)))], part))
            case Withdraw() | Bye():
                pass  # The replica is done with a window within a forward pass.

    async def receive(self) -> list[bytes]:
        if self._is_lost and self._replies.empty():
            raise PeerLostError("the pool")
        if (reply := await self._replies.get()) is None:
            raise PeerLostError("the pool")
        return reply

    def close(self) -> None:
        self._lose()
        for task in self._tasks:
            task.cancel()

    def _lose(self) -> None:
        self._is_lost = True
        self._replies.put_nowait(None)

    def _begin(self, job: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(self._end_with(job), name="ray-call")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end_with(self, job: Any) -> None:
        try:
            await job
        except PeerLostError:
            self._lose()

    async def _find(self, engine: str, hello: Sequence[Frame]) -> None:
        """Take the application with the engine that was there before; of new streams, the newest.

        Where none has it the newest is taken, whose welcome then says that it is another one.
        """
        running = await self._applications.running()
        if not running:
            raise PeerLostError("the pool")
        welcomes: list[tuple[Application, list[bytes], str]] = []
        for application in running:
            reply = await self._ask(application, "", hello, 0)
            message = _decode_host(reply[0])
            key = message.engine if isinstance(message, Welcome) else ""
            welcomes.append((application, reply, key))
            if not engine or key == engine:
                break
        found = welcomes[-1] if not engine or welcomes[-1][2] == engine else welcomes[0]
        self._application, reply, self._engine = found
        self._newest = (welcomes[0][0].name, welcomes[0][2])
        self._look_s = asyncio.get_running_loop().time() + LOOK_AGAIN_S
        self._replies.put_nowait(reply)

    async def _ask(
        self, application: Application, engine: str, frames: Sequence[Frame], part: int
    ) -> list[bytes]:
        """Ask until a replica answers."""
        tries = 0
        while True:
            try:
                reply = await application.ask(engine, frames, part)
            except ReplicaLostError as error:
                _log.warning("replica_lost", application=application.name, reason=str(error))
            else:
                if not isinstance(_decode_host(reply[0]), Refused):
                    return reply
                # A replica whose machine runs the model in another way: not of this engine.
                if tries >= len(_PAUSES_S):
                    return reply
            await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            # Whatever was kept of these streams is lost anyway: anybody may answer.
            part += 1
            tries += 1

    def _score_waiting(self, part: int) -> None:
        """Have the windows of a part scored, unless as many calls run as may."""
        if self._calls[part] < _MOST_CALLS and (some := self._waiting.pop(part, None)):
            self._calls[part] += 1
            self._begin(self._score(some, part))

    async def _score(self, some: list[tuple[Asked, Frame]], part: int) -> None:
        assert self._application is not None, "a hello comes first"
        asked = tuple(each for each, _ in some)
        frames = [_encode(Score(asked)), *(frame for _, frame in some)]
        try:
            reply = await self._ask(self._application, self._engine, frames, part)
            if isinstance(refused := _decode_host(reply[0]), Refused):
                reply = _errors(asked, EngineDeadError, refused.reason)
        except PeerLostError:
            raise
        except Exception as error:
            _log.exception("engine_call_failed")
            reply = _errors(asked, WindowError, f"the call to the engine failed: {error}")
        finally:
            self._calls[part] -= 1
        self._replies.put_nowait(reply)
        self._score_waiting(part)

    async def _tell(self, frames: list[Frame], part: int) -> None:
        assert self._application is not None, "a hello comes first"
        # What a lost replica kept is gone, too.
        try:
            await self._application.ask(self._engine, frames, part)
        except ReplicaLostError:
            pass

    async def _ping(self, ping: Sequence[Frame]) -> None:
        assert self._application is not None, "a hello comes first"
        await self._ask(self._application, self._engine, ping, 0)
        loop = asyncio.get_running_loop()
        if loop.time() >= self._look_s:
            self._look_s = loop.time() + LOOK_AGAIN_S
            running = await self._applications.running()
            for one in running:
                if one.name == self._application.name:
                    self._application = one  # with the number of its replicas
            if running and running[0].name != self._newest[0]:
                hello = [_encode(Hello(VERSION, ""))]
                welcome = _decode_host((await self._ask(running[0], "", hello, 0))[0])
                if isinstance(welcome, Welcome):
                    self._newest = (running[0].name, welcome.engine)
                    if welcome.engine == self._engine:
                        # The same answers from another release or number of replicas.
                        self._application = running[0]
        self._replies.put_nowait([_encode(Pong(self._newest[1] or self._engine))])

    def _by_part(self, things: Iterable[tuple[str | None, Any]]) -> list[tuple[int, list[Any]]]:
        """Sort what belongs to streams by the replica that has the stream."""
        assert self._application is not None, "a hello comes first"
        num_parts = max(1, self._application.num_replicas)
        parts: dict[int, list[Any]] = {}
        for number, (key, thing) in enumerate(things):
            part = number if key is None else zlib.crc32(key.encode())
            parts.setdefault(part % num_parts, []).append(thing)
        return list(parts.items())


def _errors(asked: Iterable[Asked], kind: type[Exception], reason: str) -> list[bytes]:
    return [_encode(Answers(tuple(Answered(one.number, kind.__name__, reason) for one in asked)))]


# -- the cluster -----------------------------------------------------------------------------------


class ServeApplication:
    """An :class:`Application` of Ray Serve."""

    def __init__(self, name: str, num_replicas: int, handle: DeploymentHandle[Any]) -> None:
        self.name = name
        self.num_replicas = num_replicas
        self._handle = handle

    async def ask(self, engine: str, frames: Sequence[Frame], part: int) -> list[bytes]:
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

        # Ray puts arrays beside a message as they are; bytes it would copy into it.
        arrays = [np.frombuffer(frame, np.uint8) for frame in frames]
        handle = self._handle.options(session_id=str(part))
        try:
            reply: list[bytes] = await handle.exchange.remote(engine, arrays)
        except DeploymentUnavailableError as error:
            raise PeerLostError(str(error)) from None
        except RayTaskError:
            raise  # The replica is there and has failed.
        except (RayError, RayServeException) as error:
            raise ReplicaLostError(str(error).partition("\n")[0]) from None
        return reply


class ServeApplications:
    """:class:`Applications` of the cluster this process joins as a driver."""

    def __init__(self, address: RayAddress) -> None:
        self._address = address
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._failures = 0  # one after another

    async def running(self) -> Sequence[ServeApplication]:
        # Not in the main thread, whose signals Ray would take for itself.
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT_S):
                found: Sequence[ServeApplication] = await in_daemon_thread(
                    self._running, name="ray"
                )
        except (RuntimeUnavailableError, asyncio.CancelledError):
            raise
        except Exception as error:
            # Of many kinds, depending on what of the cluster is away.
            self._failures += 1
            reason = str(error).partition("\n")[0] or type(error).__name__
            _log.warning("ray_away", reason=reason)
            if self._failures >= _FAILURES_TO_LEAVE:
                # Joined anew the next time: this machine's part of the cluster may be another one.
                self._handles, self._failures = {}, 0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_TIMEOUT_S):
                        await in_daemon_thread(leave, name="ray")
            return []
        self._failures = 0
        take_signals_back()
        return found

    def _running(self) -> list[ServeApplication]:
        join(self._address.cluster)
        from ray import serve

        there = {
            name: status
            for name, status in serve.status().applications.items()
            if self._address.has(name) and status.status in SERVING
        }
        self._handles = {
            name: self._handles.get(name) or serve.get_app_handle(name) for name in there
        }
        newest_first = sorted(there, key=lambda each: -there[each].last_deployed_time_s)
        return [
            ServeApplication(name, _num_running(there[name]), self._handles[name])
            for name in newest_first
        ]


def _num_running(application: Any) -> int:
    return sum(
        deployment.replica_states.get("RUNNING", 0)
        for deployment in application.deployments.values()
    )


def join(cluster: str) -> None:
    """Make this process a driver of a cluster, if it is none yet. Blocks.

    Raises:
        RuntimeUnavailableError: Ray is not installed.
        ConnectionError: there is no such cluster, or none of its nodes is this machine.
    """
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(_HEAD_TIMEOUT_S))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("RAY_max_direct_call_object_size", "RAY_task_rpc_inlined_bytes_limit"):
        os.environ.setdefault(name, str(_LARGEST_BYTES))
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"an address ray:// needs Ray Serve, which is not installed ({error});"
            f" {how_to_install('ray')}"
        ) from None
    # What is lost is logged here.
    for each in ("ray", "ray.serve"):
        logging.getLogger(each).setLevel(logging.ERROR)
    if not ray.is_initialized():
        ray.init(
            address=cluster or "auto",
            log_to_driver=False,
            configure_logging=False,
            ignore_reinit_error=True,
        )


def take_signals_back() -> None:
    """Have SIGTERM handled as before this process joined: Ray prints the stack first.

    Does nothing outside the main thread, which alone may do that.
    """
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
            signal.siginterrupt(signal.SIGTERM, False)


def leave() -> None:
    """Be no driver any more; what other engines of this process do there fails. Blocks."""
    import ray

    ray.shutdown()


def ray_engine(
    config: EngineConfig, *, beside_another: bool = False, on_step: OnStep | None = None
) -> Engine:
    """Return the engine of an address ``ray://…``, see ``OpenEngine``.

    Raises:
        ConfigError: the address is none.
    """
    applications = ServeApplications(ray_address(config.model.name))
    return RemoteEngine(config, functools.partial(RayPeer, applications), is_far=True)
