"""One channel's way to the engine: one window runs, the next ones wait, the oldest give way.

A channel has at most one window in the engine, so streams share it evenly. What becomes due in the
meantime waits. A window that has waited for about a step gives way to the next one, which covers
its audio: under overload the step widens, and nothing is lost while a window covers what was
skipped. A window that has not waited as long is not given up; the reader of the audio is held back
instead. That happens only when audio comes faster than real time: after a lost connection, or from
a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from ser_engine.core.queue import Priority
from ser_engine.errors import (
    EngineDeadError,
    EngineOverloadedError,
    SerEngineError,
    StreamBusyError,
    WindowError,
)
from ser_engine.frames import samples_to_s
from ser_engine.types import Window, WindowResult
from stream_server import tracing
from stream_server.engines import Engine
from stream_server.metrics import Metrics
from stream_server.streams.session import Session
from stream_server.tracing import WindowTrace

_log = structlog.get_logger(__name__)

# Share of a step a window waits before it gives way: less than one, for clients are not exact.
_PATIENCE = 0.8

# Windows that wait and cannot give way, because a gap follows them. A client that interrupts its
# audio more often within the engine's delay is held back.
_MAX_WAITING = 8

# Share of the sums of :class:`LaneStats` that each answer leaves: about ten windows count.
_KEPT = 0.9


def supersedes(newer: Window, older: Window) -> bool:
    """Return whether ``older`` of the same channel may be given up for ``newer``.

    So it is where ``newer`` ends later and still holds audio of ``older``: the slots of ``older``
    are then scored by ``newer``, as far as it reaches back.
    """
    return newer.end_sample > older.end_sample and newer.start_sample < older.end_sample


@dataclass(slots=True)
class LaneStats:
    """The last answers of a lane: decaying sums, so that old windows count less and less."""

    engine_s: float = 0.0  # time windows spent in the engine, waiting for it included
    audio_s: float = 0.0  # audio that the answered windows moved on by
    due_s: float = 0.0  # of it what windows were due for: without pauses
    windows: float = 0.0  # windows answered

    def answered(self, engine_s: float, audio_s: float, due_s: float) -> None:
        self.engine_s = _KEPT * self.engine_s + engine_s
        self.audio_s = _KEPT * self.audio_s + audio_s
        self.due_s = _KEPT * self.due_s + due_s
        self.windows = _KEPT * self.windows + 1


@dataclass(slots=True)
class _Waiting:
    window: Window
    priority: Priority  # as of when it was put: audio that has caught up with time is live again
    since_s: float
    arrived_ns: int
    trace: WindowTrace | None


class Lane:
    """Hands one channel's windows to the engine in order and the answers to the session.

    Args:
        step_s: time between windows; one that has waited for most of it gives way to the next.
        on_answer: called after each answer: there may be results.
        on_dead: called with the reason when the engine is gone for good.
    """

    def __init__(
        self,
        *,
        session: Session,
        channel: int,
        engine: Engine,
        metrics: Metrics,
        step_s: float,
        on_answer: Callable[[], None],
        on_dead: Callable[[EngineDeadError], None],
    ) -> None:
        self.stats = LaneStats()
        self._session = session
        self._channel = channel
        self._engine = engine
        self._metrics = metrics
        self._step_s = step_s
        self._on_answer = on_answer
        self._on_dead = on_dead
        self._waiting: deque[_Waiting] = deque()  # more than one only where gaps are between
        self._running: asyncio.Task[None] | None = None  # the one window in the engine
        self._moved = asyncio.Event()  # a window has left the engine
        self._last_end_sample: int | None = None  # of the last window that was answered
        self._skipped = 0  # windows since the last one that runs or ran

    @property
    def is_idle(self) -> bool:
        """Whether no window runs or waits."""
        return self._running is None and not self._waiting

    async def put(self, window: Window, *, patient: bool, arrived_ns: int = 0) -> None:
        """Take the next window; return when there is room for another.

        Args:
            patient: give no window up, however long that takes: the audio is ahead of time.
            arrived_ns: when the message with its last audio came, as of :func:`time.time_ns`; 0:
                now.
        """
        arrived_ns = arrived_ns or time.time_ns()
        trace = tracing.begin_window(self._session.stream_id, self._channel, arrived_ns)
        if trace is not None:
            trace.phase("waiting")
        # Waiting here is what holds the reader back, and with it the client, by TCP.
        while not self._make_room(window, patient=patient):
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._gives_way_at_s(window, patient=patient)):
                    await self._moved.wait()
        priority = Priority.OFFLINE if patient else Priority.LIVE
        since_s = asyncio.get_running_loop().time()
        self._waiting.append(_Waiting(window, priority, since_s, arrived_ns, trace))
        if self._running is None:
            self._start()

    async def drain(self) -> None:
        """Return when everything was answered."""
        while not self.is_idle:
            self._moved.clear()
            await self._moved.wait()

    async def aclose(self) -> None:
        """Drop the windows that wait or run; the session gives them up when it is closed."""
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _make_room(self, window: Window, *, patient: bool) -> bool:
        if not self._waiting:
            return True
        last = self._waiting[-1].window
        if not supersedes(window, last):
            # A gap is between them, so the new one cannot score what the last one was for.
            return len(self._waiting) < _MAX_WAITING
        # Only the last one: the ones before it did not give way to it, so a gap follows them.
        gives_way_at_s = self._gives_way_at_s(window, patient=patient)
        if gives_way_at_s is None or asyncio.get_running_loop().time() < gives_way_at_s:
            return False
        # At once, so that the session lets the next window score its slots.
        self._skip(self._waiting.pop(), "skipped")
        return True

    def _gives_way_at_s(self, window: Window, *, patient: bool) -> float | None:
        """Return from when on the last waiting window may be given up; None: never."""
        last = self._waiting[-1]
        # A recording can wait: every window of it is scored.
        if patient or not supersedes(window, last.window):
            return None
        return last.since_s + self._step_s * _PATIENCE

    def _start(self) -> None:
        self._running = asyncio.create_task(self._run(self._waiting.popleft()), name="window")

    async def _run(self, waiting: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        window, trace = waiting.window, waiting.trace
        steps, self._skipped = 1 + self._skipped, 0
        tracing.work_on(trace)
        if trace is not None:
            trace.phase("engine")
        try:
            outcome = await self._score(window, waiting.priority)
        except EngineDeadError as error:
            if trace is not None:
                trace.end("error")
            # No window of this stream will be answered: the session makes gaps of them.
            self._waiting.clear()
            self._on_dead(error)
            return
        finally:
            # Before the answer is taken: on_answer may put the next window.
            self._running = None
            self._moved.set()
        if outcome is None:
            # Not tried again: the next window, which is due soon, covers it.
            self._skip(waiting, "refused")
            self._skipped += steps - 1
        else:
            self._count(window, loop.time() - started_s, steps)
            self._answer(waiting, outcome)
        if self._waiting and self._running is None:
            self._start()
        self._on_answer()
        if outcome is not None:
            # A clock that is set meanwhile is no delay.
            took_s = max(0, time.time_ns() - waiting.arrived_ns) / 1e9
            self._metrics.window_published(took_s, "" if trace is None else trace.trace_id)
            if trace is not None:
                trace.end("error" if isinstance(outcome, WindowError) else "scored")

    def _answer(self, waiting: _Waiting, outcome: WindowResult | WindowError) -> None:
        window = waiting.window
        if waiting.trace is not None:
            waiting.trace.phase("point")
        try:
            self._session.answer(self._channel, window, outcome)
        except ValueError as error:
            # An engine elsewhere that runs another model: the window has failed, no more.
            _log.error("window_failed", stream_id=self._session.stream_id, reason=str(error))
            outcome = WindowError(str(error))
            self._session.answer(self._channel, window, outcome)
        self._metrics.window_answered("error" if isinstance(outcome, WindowError) else "scored")
        if waiting.trace is not None:
            waiting.trace.phase("published")

    def _skip(self, waiting: _Waiting, why: Literal["refused", "skipped"]) -> None:
        self._skipped += 1
        self._session.skip(self._channel, waiting.window)
        self._metrics.window_answered(why)
        if waiting.trace is not None:
            waiting.trace.end(why)

    async def _score(self, window: Window, priority: Priority) -> WindowResult | WindowError | None:
        """Return the answer; None: the engine had no room for the window."""
        try:
            return await self._engine.score(window, priority)
        except WindowError as error:
            return error
        except (EngineOverloadedError, StreamBusyError):
            # Not an error of the window: its audio is scored with the next one, or is an overload.
            return None
        except EngineDeadError:
            raise
        except SerEngineError as error:
            return WindowError(str(error))
        except Exception:
            # An engine elsewhere may raise anything; the windows behind this one must go on.
            _log.exception("window_failed", stream_id=self._session.stream_id)
            return WindowError("the engine failed on this window")

    def _count(self, window: Window, engine_s: float, steps: int) -> None:
        end = window.end_sample
        # A flush can end at the same sample as the window before it: no audio was answered.
        if self._last_end_sample is not None and end > self._last_end_sample:
            audio_s = samples_to_s(end - self._last_end_sample)
            # Where nobody spoke no window was due, and none is late.
            due_s = min(audio_s, steps * self._step_s)
            self.stats.answered(engine_s, audio_s, due_s)
        self._last_end_sample = end
