"""The engines of a server: one that new streams use, and those that running streams began with.

::

    start ─▶ best model on disk ─▶ first engine ──────────▶ closed when its last stream has ended
                                     │ is ready at once          ▲
                                     ▼                           │ from here on it gets no new ones
    model.name auto: hub ─▶ fetch ─▶ second engine ─▶ warmed up ─┴─▶ new streams use it

A stream keeps the engine it began with: labels and scores of two models are not to be mixed in
one timeline. What is fetched never delays readiness or a stream; when it fails, streams go on
with the model there is, and the hub is asked again every hour.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import structlog

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.batcher import OnStep
from ser_engine.errors import EngineDeadError, HubUnavailableError, SerEngineError
from ser_engine.models.hub import FetchProgress
from stream_server.engines import Engine, EngineLease, OpenEngine, Superseded
from stream_server.engines.fetching import (
    Fetch,
    Prepare,
    fetch_in_child,
    in_daemon_thread,
    prepare_in_child,
)
from stream_server.engines.opening import model_to_upgrade_to, open_engine
from stream_server.engines.status import EngineStatus, PoolStatus, UpgradeState, UpgradeStatus

if TYPE_CHECKING:
    from ser_engine.models.model import Model


def end_process(status: int) -> NoReturn:
    """Exit with ``status``, at once; what was printed and logged is written out before.

    A thread inside a network's native code cannot be stopped. If the interpreter is torn down
    under it, the runtime's C++ aborts the process (``terminate called without an active
    exception``, status 134). Tearing down an interpreter that has loaded torch takes seconds, too.
    A process that runs a pool therefore ends here, once all is closed.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


RETRY_INTERVAL_S = 3600.0
"""Time after which a hub that did not give a model is asked again."""
FOLLOW_AGAIN_S = 5.0
"""Time after which an engine elsewhere is opened again that could not be."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Slot:
    """An engine and how many streams use it."""

    engine: Engine
    num_streams: int = 0


class EnginePool:
    """See :class:`~stream_server.engines.EngineSource`. Belongs to one event loop.

    Args:
        prepare: does what takes long and need not be done beside streams, before the second engine.
        on_step: told of every forward pass, see :class:`~ser_engine.core.batcher.Batcher`.
        on_model: told of the name and runtime of the model that new streams get from now on.
    """

    def __init__(
        self,
        *,
        config: EngineConfig,
        open_engine: OpenEngine = open_engine,
        fetch: Fetch = fetch_in_child,
        prepare: Prepare = prepare_in_child,
        on_step: OnStep | None = None,
        on_model: Callable[[str, str], None] = lambda name, runtime: None,
    ) -> None:
        self._config = config
        self._open_engine = open_engine
        self._fetch = fetch
        self._prepare = prepare
        self._on_step = on_step
        self._on_model = on_model
        self._slots: list[_Slot] = []
        self._current: _Slot | None = None
        self._upgrade = UpgradeStatus()
        self._upgrading: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._told_tenths = 0

    async def start(self) -> None:
        """Open the first engine; the pool is ready when this returns. Once only.

        A model that is named and not on disk is fetched first: nothing else may score instead.

        Raises:
            SerEngineError: the model cannot be had or executed; the message says what to do.
        """
        model_config = self._config.model
        # Looks at the disk and may import the hubs' clients, which takes seconds.
        missing = await in_daemon_thread(lambda: _model_to_fetch(model_config), name="find-model")
        try:
            if missing is not None:
                await self._fetch_model(missing)
                self._note(UpgradeState.WARMING)
            first = await self._open(self._config)
            self._take(first)
        except Exception as error:
            if missing is not None:
                self._note(UpgradeState.FAILED, reason=str(error))
            raise
        if missing is not None:
            self._note(UpgradeState.READY)
        wanted = model_to_upgrade_to(self._config, first.engine.info.name)
        if wanted is not None:
            self._upgrading = asyncio.create_task(
                self._keep_upgrading(wanted), name="engine-upgrade"
            )
        elif isinstance(first.engine, Superseded):
            self._upgrading = asyncio.create_task(
                self._keep_following(first.engine), name="engine-upgrade"
            )

    @property
    def is_ready(self) -> bool:
        return self._current is not None and self._current.engine.is_alive

    def acquire(self) -> EngineLease:
        """Lend the engine new streams use; it stays open until the lease is released.

        Raises:
            EngineDeadError: it was not started, is dead or was closed.
        """
        slot = self._current
        if slot is None or not slot.engine.is_alive:
            raise EngineDeadError(
                "no engine is running; look for the cause in the server's log, then restart the"
                " server"
            )
        slot.num_streams += 1
        return EngineLease(slot.engine, lambda: self._give_back(slot))

    def status(self) -> PoolStatus:
        slots = sorted(self._slots, key=lambda slot: slot is not self._current)
        return PoolStatus(
            is_ready=self.is_ready,
            engines=tuple(
                EngineStatus(
                    info=slot.engine.info,
                    runtime=slot.engine.runtime_name,
                    takes_new_streams=slot is self._current,
                    num_streams=slot.num_streams,
                    is_alive=slot.engine.is_alive,
                    num_pending=slot.engine.num_pending,
                    stats=slot.engine.stats,
                )
                for slot in slots
            ),
            upgrade=self._upgrade,
        )

    async def aclose(self) -> None:
        """Stop fetching and close every engine, whoever still uses it."""
        self._current = None
        if self._upgrading is not None:
            self._upgrading.cancel()
            await asyncio.wait([self._upgrading])
        slots, self._slots = self._slots, []
        closing = [self._close(slot) for slot in slots]
        await asyncio.gather(*closing, *self._closing, return_exceptions=True)

    def _take(self, slot: _Slot) -> None:
        self._current = slot
        self._on_model(slot.engine.info.name, slot.engine.runtime_name)

    def _replace(self, slot: _Slot) -> None:
        former = self._current
        self._take(slot)
        if former is not None:
            self._close_if_unused(former)

    async def _open(self, config: EngineConfig, *, beside_another: bool = False) -> _Slot:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        engine = self._open_engine(config, beside_another=beside_another, on_step=self._on_step)
        try:
            await engine.start()
        except BaseException:
            await engine.aclose()
            raise
        slot = _Slot(engine)
        self._slots.append(slot)
        timeline = engine.config.timeline
        _log.info(
            "engine_ready",
            model=engine.info.name,
            runtime=engine.runtime_name,
            licence=engine.info.licence,
            profile=timeline.profile,
            window_ms=timeline.window_ms,
            step_ms=timeline.step_ms,
            took_s=round(loop.time() - started_s, 1),
        )
        return slot

    def _give_back(self, slot: _Slot) -> None:
        slot.num_streams -= 1
        self._close_if_unused(slot)

    def _close_if_unused(self, slot: _Slot) -> None:
        if slot is self._current or slot.num_streams or slot not in self._slots:
            return
        self._slots.remove(slot)
        task = asyncio.create_task(self._close(slot), name="engine-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, slot: _Slot) -> None:
        await slot.engine.aclose()
        _log.info("engine_closed", model=slot.engine.info.name)

    # -- Upgrade -------------------------------------------------------------------------------

    async def _keep_upgrading(self, model: Model) -> None:
        """Fetch a model and let new streams use it; ask again where a hub was away."""
        asked_before = False
        while True:
            try:
                await self._upgrade_to(model)
                return
            except HubUnavailableError as error:
                self._note(UpgradeState.FAILED, reason=str(error))
                tell = _log.debug if asked_before else _log.warning
                tell("model_not_fetched", reason=str(error), again_in_s=RETRY_INTERVAL_S)
                asked_before = True
                await asyncio.sleep(RETRY_INTERVAL_S)
            except Exception as error:
                # Whatever is wrong with the second engine, the first one goes on.
                self._note(UpgradeState.FAILED, reason=str(error))
                _log.error("model_not_used", model=model.name, reason=str(error))
                return

    async def _keep_following(self, engine: Engine) -> None:
        """Let new streams use what takes the place of an engine elsewhere."""
        while isinstance(engine, Superseded):
            await engine.superseded.wait()
            try:
                slot = await self._open(self._config)
            except SerEngineError as error:
                _log.error("engine_not_followed", reason=str(error), again_in_s=FOLLOW_AGAIN_S)
                await asyncio.sleep(FOLLOW_AGAIN_S)
                continue
            self._replace(slot)
            engine = slot.engine

    async def _upgrade_to(self, model: Model) -> None:
        await self._fetch_model(model)
        self._note(UpgradeState.WARMING)
        # It is on disk now; should it not be, no thread of this process is to fetch it.
        model_config = replace(self._config.model, name=model.name, offline=True)
        config = replace(self._config, model=model_config)
        await self._prepare(config)
        slot = await self._open(config, beside_another=True)
        self._replace(slot)
        self._note(UpgradeState.READY)

    async def _fetch_model(self, model: Model) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._upgrade = UpgradeStatus(UpgradeState.FETCHING, model.name, model.licence)
        self._told_tenths = 0
        await self._fetch(model.name, self._config, progress=self._note_progress)
        took_s = round(loop.time() - started_s, 1)
        _log.info("model_fetched", model=model.name, licence=model.licence, took_s=took_s)

    def _note(self, state: UpgradeState, *, reason: str = "") -> None:
        self._upgrade = replace(self._upgrade, state=state, reason=reason)

    def _note_progress(self, progress: FetchProgress) -> None:
        done, total = progress.done_bytes, progress.total_bytes
        if not self._upgrade.hub:
            model, hub = progress.model, progress.hub
            licence = self._upgrade.licence
            _log.info("model_fetch_started", model=model, hub=hub, licence=licence)
        self._upgrade = replace(self._upgrade, hub=progress.hub, done_bytes=done, total_bytes=total)
        tenths = 10 * done // total if total else 0
        if tenths > self._told_tenths:
            self._told_tenths = tenths
            _log.info(
                "model_fetch_progress", model=progress.model, done_bytes=done, total_bytes=total
            )


def _model_to_fetch(config: ModelConfig) -> Model | None:
    if "://" in config.name:
        return None  # The engine elsewhere fetches for itself; here torch need not be imported.
    from ser_engine.models.registry import model_to_fetch

    return model_to_fetch(config)
