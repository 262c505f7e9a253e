"""Several engines elsewhere with one model, as one: ``zmq://HOST:PORT,HOST:PORT``.

::

    window of a stream ─▶ the stream's engine ── lost? ──▶ another one ── lost? ──▶ … ─▶ refused

Each stream has an engine whose windows it sends there, because that one keeps features of the last
window; the engine with the fewest streams gets the next. When an engine is lost its streams move,
and so does a window that it has not answered: nothing is skipped while one engine is left. All
windows that fall due in a turn of the event loop are still one message an engine.

All engines have the model of the first one listed that is there when the group starts. One that has
another, then or later, is left out; the streams of this group end with the model they began with.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import structlog

from ser_engine.config import EngineConfig
from ser_engine.core.batcher import BatchingStats, OnStep
from ser_engine.core.queue import Priority
from ser_engine.errors import EngineDeadError, SerEngineError
from ser_engine.types import ModelInfo, Window, WindowResult
from stream_server.engines import Engine
from stream_server.engines.remote import EngineLostError, RemoteEngine, engine_key

_log = structlog.get_logger(__name__)

# How long the others are waited for when one is there.
_GRACE_S = 2.0
# A stream leaves an engine that has so many more than the one with the fewest.
_LOPSIDED, _LEAST_LOPSIDED = 1.5, 4


class EngineGroup:
    """An :class:`~stream_server.engines.Engine` of several. Belongs to one event loop.

    Args:
        engines: not started, at least one.

    Attributes:
        config: the same, with the first engine's choice of a timeline.
        superseded: set once new streams are to use a group made anew.
    """

    def __init__(self, config: EngineConfig, engines: Sequence[RemoteEngine]) -> None:
        self.config = config
        self.superseded = asyncio.Event()
        self._engines = list(engines)
        self._first: RemoteEngine | None = None  # whose model it is
        self._homes: dict[str, RemoteEngine] = {}  # by stream
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def info(self) -> ModelInfo:
        assert self._first is not None, "the model is known once the group has started"
        return self._first.info

    @property
    def runtime_name(self) -> str:
        """How the model is executed, and by how many engines now."""
        assert self._first is not None, "the model is known once the group has started"
        return self._first.runtime_name

    @property
    def is_alive(self) -> bool:
        return bool(self._alive())

    @property
    def num_pending(self) -> int:
        return sum(one.num_pending for one in self._engines)

    @property
    def stats(self) -> BatchingStats:
        """What was done by all of them; a window that moved counts as refused where it was lost."""
        total = BatchingStats()
        for one in self._engines:
            stats = one.stats
            total.windows += stats.windows
            total.windows_scored += stats.windows_scored
            total.windows_failed += stats.windows_failed
            total.windows_cancelled += stats.windows_cancelled
            total.windows_refused += stats.windows_refused
        return total

    async def start(self) -> None:
        """Connect to as many as are there; the others join when they come. Once only.

        Raises:
            EngineDeadError: none is there within the time.
        """
        starting = {one: asyncio.ensure_future(one.start()) for one in self._engines}
        try:
            waiting = set(starting.values())
            # Who is there first does not decide whose model it is: the order of the list does.
            while waiting and not any(map(_has_started, starting.values())):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if waiting:
                await asyncio.wait(waiting, timeout=_GRACE_S)
        except BaseException:
            for task in starting.values():
                task.cancel()
            raise
        there = [one for one in self._engines if _has_started(starting[one])]
        if not there:
            raise next(iter(starting.values())).exception() or EngineDeadError("no engine")
        self._first = there[0]
        self.config = replace(self.config, timeline=self._first.config.timeline)
        self._tasks = [
            asyncio.create_task(self._follow(one, starting[one]), name="engine-group")
            for one in self._engines
        ]
        await asyncio.sleep(0)

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        """Return the result of a window, from whichever engine is left.

        Raises as :meth:`~stream_server.engines.remote.RemoteEngine.score`.
        """
        tried: set[RemoteEngine] = set()
        while (engine := self._home(window.stream_key, tried)) is not None:
            try:
                return await engine.score(window, priority)
            except (EngineLostError, EngineDeadError):
                tried.add(engine)
        if not any(map(self._may_score, self._engines)):
            raise EngineDeadError("no engine has the model that this stream began with")
        raise EngineLostError("no engine can be reached; try again later")

    def forget(self, stream_key: str) -> None:
        if (home := self._homes.pop(stream_key, None)) is not None:
            home.forget(stream_key)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(one.aclose() for one in self._engines))

    def _alive(self) -> list[RemoteEngine]:
        return [one for one in self._engines if one.is_alive and self._has_model(one)]

    def _has_model(self, engine: RemoteEngine) -> bool:
        return engine_key(engine.info, engine.runtime_name) == engine_key(
            self.info, self.runtime_name
        )

    def _may_score(self, engine: RemoteEngine) -> bool:
        """Return whether an engine scores, or may do so when it is back."""
        return not engine.is_dead and (not engine.is_alive or self._has_model(engine))

    def _home(self, stream_key: str | None, tried: set[RemoteEngine]) -> RemoteEngine | None:
        """Return the engine for a stream's window; None: none is left."""
        there = [one for one in self._alive() if one not in tried]
        if not there:
            return None
        if stream_key is None:
            return min(there, key=lambda one: one.num_pending)
        streams = Counter(self._homes.values())
        fewest = min(there, key=streams.__getitem__)
        home = self._homes.get(stream_key)
        most = max(_LEAST_LOPSIDED, _LOPSIDED * streams[fewest])
        if home is None or home not in there or streams[home] > most + 1:
            if home is not None:
                home.forget(stream_key)
            home = self._homes[stream_key] = fewest
        return home

    async def _follow(self, engine: RemoteEngine, starting: asyncio.Future[None]) -> None:
        """Wait for an engine that was not there, and for another model in any of them."""
        try:
            await starting
        except SerEngineError as error:
            _log.error("engine_left_out", engine=engine.config.model.name, reason=str(error))
            return
        if not self._has_model(engine):
            reason = "its model is another one"
            _log.error("engine_left_out", engine=engine.config.model.name, reason=reason)
        await engine.superseded.wait()
        self.superseded.set()


def _has_started(starting: asyncio.Future[None]) -> bool:
    return starting.done() and not starting.cancelled() and starting.exception() is None


def zmq_engine(
    config: EngineConfig, *, beside_another: bool = False, on_step: OnStep | None = None
) -> Engine:
    """Return the engine of an address ``zmq://…``, see ``OpenEngine``; of several, a group.

    Raises:
        ConfigError: the address is none.
    """
    # Only who has an engine elsewhere needs ZeroMQ.
    from stream_server.cluster.zeromq import SCHEME, ZmqPeer, endpoint_of

    urls = [f"{SCHEME}://{each}" for each in config.model.name.partition("://")[2].split(",")]
    engines = [
        RemoteEngine(
            replace(config, model=replace(config.model, name=url)),
            functools.partial(ZmqPeer, url),
            is_far=not endpoint_of(url).startswith("ipc:"),
        )
        for url in urls
    ]
    return engines[0] if len(engines) == 1 else EngineGroup(config, engines)
