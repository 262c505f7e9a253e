"""The front process's view of its workers: their results on its bus, as if streams ran here.

A result comes from one worker, in order, and is published here once; the worker has counted it.
When a worker dies its streams end here: open spans become final, raised alerts are cleared, and the
stream is closed as ``internal``. Their clients come back to another worker, as after a restart of
the server: to a new stream that names the one it continues. Whatever the dead worker had not sent
is not added later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import structlog

from ser_engine.schema import CloseReason
from stream_server.alerts.evaluator import Cooldown
from stream_server.cluster import Host, messages
from stream_server.cluster.worker import access_state
from stream_server.platforms import make_routes
from stream_server.streams.ingest import IngestContext
from stream_server.streams.live_streams import last_results
from stream_server.streams.registry import Held
from stream_server.tracing import add_span, carry
from stream_server.wire.messages import Heartbeat, Told
from stream_server.wire.results import Result, StreamClosed, StreamOpened

_log = structlog.get_logger(__name__)

# After the end of a worker its last messages may be on their way still.
_GRACE_S = 0.25
_LAST_WORDS_S = 5.0


class Workers(Protocol):
    """The processes, as their supervisor knows them."""

    @property
    def port(self) -> int:
        """The port for audio, which they share."""

    async def start(self, on_ended: Callable[[str], None]) -> None:
        """Start all, and go on replacing those that end; ``on_ended`` is told the names."""

    async def wait_failed(self) -> None:
        """Wait until one fails to start at all, with an error that another try does not mend.

        Raises:
            OSError, SerEngineError: what it failed with.
        """

    def expect_end(self) -> None:
        """Replace none any more."""

    async def wait_ended(self) -> None:
        """Return when every one has ended, by force if need be."""


@dataclass(slots=True, eq=False)
class _Worker:
    """A process that has joined."""

    name: str
    run: str
    peer: bytes
    held: Held = field(default_factory=Held)
    ports: dict[str, int] = field(default_factory=dict)
    streams: set[str] = field(default_factory=set)
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    is_listening: bool = False


class WorkersIngest:
    """An :class:`~stream_server.streams.ingest.Ingest` whose streams run in other processes."""

    def __init__(
        self,
        context: IngestContext,
        *,
        host: Host,
        workers: Workers,
        num_workers: int,
    ) -> None:
        self._context = context
        assert context.live is not None, "the front knows the streams that run"
        self._pass_on, self._live = context.pass_on, context.live
        context.rights.on_change = self._tell_rights
        self._host = host
        self._processes = workers
        self._num_workers = num_workers
        self._workers: dict[bytes, _Worker] = {}  # by peer
        self._of_servers = Held()  # what tokens hold on other servers
        self._running: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._all_listen = asyncio.Event()
        self._all_left = asyncio.Event()
        # Streams that somebody in them objected to: they end so, whatever becomes of the worker.
        self._objected: dict[str, asyncio.Event] = {}
        self._is_draining = False
        self._access: messages.AccessState | None = None  # as last told

    @property
    def port(self) -> int:
        return self._processes.port

    @property
    def roots(self) -> frozenset[str]:
        context = self._context
        routes = make_routes(context.config.telephony, context.access, lambda name: None)
        return frozenset({"/", *routes})

    def port_of(self, listener: str) -> int | None:
        ports = (one.ports.get(listener) for one in self._workers.values())
        return next((port for port in ports if port is not None), None)

    def heartbeat(self, stream_id: str) -> Heartbeat | None:
        beats = (one.heartbeats.get(stream_id) for one in self._workers.values())
        return next((beat for beat in beats if beat is not None), None)

    def tell(self, stream_id: str, told: Told) -> bool:
        worker = self._worker_of(stream_id)
        if worker is None:
            return False
        self._soon(self._tell(worker, messages.Told(stream_id, told)))
        return True

    def cool(self, stream_id: str, cooldowns: tuple[Cooldown, ...]) -> None:
        if (worker := self._worker_of(stream_id)) is not None:
            self._soon(self._tell(worker, messages.Cooling(stream_id, cooldowns)))

    async def object(self, stream_id: str) -> bool:
        worker = self._worker_of(stream_id)
        if worker is None:
            return False
        ended = self._objected.setdefault(stream_id, asyncio.Event())
        await self._tell(worker, messages.Objected(stream_id))
        await ended.wait()
        return True

    def of_token(self) -> dict[str, int]:
        return sum((one.held for one in self._workers.values()), start=Held()).of_token

    def held_elsewhere(self, of_token: dict[str, int]) -> None:
        self._of_servers = Held(of_token=of_token)
        self._soon(self._tell_held())

    async def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="workers")
        await self._processes.start(self._on_ended)
        failing = asyncio.ensure_future(self._processes.wait_failed())
        listening = asyncio.ensure_future(self._all_listen.wait())
        try:
            await asyncio.wait((failing, listening), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
        finally:
            failing.cancel()
            listening.cancel()

    async def end_outdated(self) -> None:
        state = access_state(self._context.access, self._context.rights)
        # Asked every few seconds, and hardly ever anything new.
        if state == self._access:
            return
        self._access = state
        await self._tell_all(messages.Access(state))

    async def aclose(self) -> None:
        self._is_draining = True
        self._processes.expect_end()
        await self._tell_all(messages.Drain())
        await self._processes.wait_ended()
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._all_left.wait()
            self._running.cancel()
            await asyncio.wait([self._running, *self._ending])
        for worker in list(self._workers.values()):
            self._end(worker)
        self._host.close()

    # -- messages ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            peer, frames = await self._host.receive()
            try:
                await self._take(peer, messages.from_process(frames[0]))
            except (msgspec.MsgspecError, IndexError) as error:
                _log.error("worker_message_ignored", reason=str(error))

    async def _take(self, peer: bytes, message: messages.FromProcess) -> None:
        if isinstance(message, messages.Joined):
            await self._join(peer, message)
            return
        worker = self._workers.get(peer)
        if worker is None:
            return  # Its streams have been ended: what comes after is not added.
        match message:
            case messages.Published(results=results, traces=traces):
                began_ns, parents = time.time_ns(), dict(traces)
                for index, result in enumerate(results):
                    if (parent := parents.get(index)) is not None:
                        # Before the bus has it, from which it may go on to other servers.
                        carry(result, parent)
                    await self._publish(worker, result)
                for parent in parents.values():
                    add_span(parent, "forwarded", began_ns, {"worker": worker.name})
            case messages.Status(held=held, heartbeats=heartbeats, families=families):
                if heartbeats is not None:
                    worker.heartbeats = {one.stream_id: one for one in heartbeats}
                if families is not None:
                    self._context.metrics.take(worker.name, families)
                if held is not None and held != worker.held:
                    worker.held = held
                    await self._tell_held(worker)
            case messages.Listening(ports=ports):
                worker.ports = ports
                worker.is_listening = True
                await self._tell_held(worker)
                await self._tell(worker, messages.Elsewhere(self._held_beside(worker)))
                listening = sum(one.is_listening for one in self._workers.values())
                if listening >= self._num_workers:
                    self._all_listen.set()
            case messages.Left():
                self._end(worker)

    async def _join(self, peer: bytes, joined: messages.Joined) -> None:
        # One of the same name has ended, whether or not that is known yet.
        for former in [one for one in self._workers.values() if one.name == joined.name]:
            self._end(former)
        self._all_left.clear()
        worker = self._workers[peer] = _Worker(joined.name, joined.run, peer)
        state = access_state(self._context.access, self._context.rights)
        await self._tell(worker, messages.Welcome(self._context.tokens.key, state))
        if self._is_draining:
            await self._tell(worker, messages.Drain())
        _log.info("process_joined", process=joined.name)

    async def _publish(self, worker: _Worker, result: Result) -> None:
        match result:
            case StreamOpened():
                worker.streams.add(result.stream_id)
                if result.continues is not None:
                    await self._tell_all(messages.Continued(result.continues))
            case StreamClosed():
                worker.streams.discard(result.stream_id)
                worker.heartbeats.pop(result.stream_id, None)
            case _:
                pass
        self._pass_on(result)
        if isinstance(result, StreamClosed):
            self._note_end(result.stream_id)

    def _worker_of(self, stream_id: str) -> _Worker | None:
        having = (one for one in self._workers.values() if stream_id in one.streams)
        return next(having, None)

    def _note_end(self, stream_id: str) -> None:
        if (ended := self._objected.pop(stream_id, None)) is not None:
            ended.set()

    def _tell_rights(self) -> None:
        # All analysis is halted, or goes on: workers are to know at once.
        self._soon(self.end_outdated())

    def _soon(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(telling, name="telling workers")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _held_beside(self, worker: _Worker) -> Held:
        others = [one.held for one in self._workers.values() if one is not worker]
        return sum(others, start=self._of_servers)

    async def _tell_held(self, changed: _Worker | None = None) -> None:
        for worker in list(self._workers.values()):
            if worker is not changed:
                await self._tell(worker, messages.Elsewhere(self._held_beside(worker)))

    async def _tell_all(self, message: messages.FromFront) -> None:
        for worker in list(self._workers.values()):
            await self._tell(worker, message)

    async def _tell(self, worker: _Worker, message: messages.FromFront) -> None:
        await self._host.send(worker.peer, [messages.encode(message)])

    # -- ends -------------------------------------------------------------------------------------

    def _on_ended(self, name: str) -> None:
        runs = {one.run for one in self._workers.values() if one.name == name}
        self._soon(self._end_later(name, runs))

    async def _end_later(self, name: str, runs: set[str]) -> None:
        await asyncio.sleep(_GRACE_S)
        for worker in list(self._workers.values()):
            # The next one of the name may have joined by now.
            if worker.name == name and worker.run in runs:
                self._end(worker)
        await self._tell_held()

    def _end(self, worker: _Worker) -> None:
        if self._workers.pop(worker.peer, None) is None:
            return
        if not self._workers:
            self._all_left.set()
        metrics = self._context.metrics
        metrics.process_ended(worker.name)
        for stream_id in sorted(worker.streams):
            beat = worker.heartbeats.get(stream_id)
            reason: CloseReason = "objected" if stream_id in self._objected else "internal"
            for stream in self._live.snapshot(stream_id):
                for result in last_results(stream, beat, reason=reason):
                    self._pass_on(result)
            metrics.closed.labels("internal").inc()
            self._note_end(stream_id)
        if worker.streams:
            _log.error("worker_lost", process=worker.name, streams=len(worker.streams))
