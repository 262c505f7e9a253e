"""The asyncio shell around a blocking core: windows of many streams share its forward passes.

::

    score  ─┐                 ┌──────── one task ────────┐      ┌── one thread ──┐
    score  ─┼─▶ WindowQueue ─▶│ wait: full, or max_wait  │─────▶│ core.step(...) │
    score  ─┘  (bounded)      │ after the first window   │◀─────│                │
       ▲                      └──────────┬───────────────┘      └────────────────┘
       └───── result or error ───────────┘

While the thread is busy the next batch collects. A full one of live windows is handed to the thread
at once, so that it need not wait for the event loop, which a busy server's sockets keep busy, too.
Every caller is answered:

- A window the core finds fault with gets its :class:`~ser_engine.errors.WindowError`.
- If a step raises as a whole, its windows are run one by one, and only those that raise alone
  get an error.
- If the worker is lost (:mod:`ser_engine.core.host` says when), the windows that ran get a
  WindowError and are not run again: one of them may be the reason, and a stream's next window
  covers the same audio. A new worker makes a new core, and windows that waited, the batch handed
  over early among them, go on waiting.
- After ``max_restarts`` in the batcher's life every caller, present and future, gets an
  EngineDeadError.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.core import profile
from ser_engine.core.host import (
    Answers,
    CoreHost,
    Step,
    ThreadWorker,
    Worker,
    WorkerLostError,
)
from ser_engine.core.queue import Pending, Priority, WindowQueue
from ser_engine.errors import (
    EngineDeadError,
    EngineOverloadedError,
    StreamBusyError,
    WindowError,
)
from ser_engine.types import Core, ModelInfo, Window, WindowResult


@dataclass(slots=True)
class BatchingStats:
    """Counts since the batcher was made. Read from the batcher's event loop.

    Attributes:
        windows: windows accepted; each ends in one of the next three.
        windows_scored: windows whose caller got a result.
        windows_failed: windows whose caller got an error.
        windows_cancelled: windows whose caller did not wait for the answer.
        windows_refused: windows not accepted, for a busy stream or a full queue.
        batches: forward passes with the windows of a batch.
        retries: forward passes with one window of a batch that had failed as a whole.
        batch_sizes: how many batches had how many windows.
        queue_wait_s: time all windows together waited to be taken into a batch.
        step_s: time the worker took for batches and retries.
        workers_lost: workers given up.
        restarts: attempts to bring a lost worker back.
    """

    windows: int = 0
    windows_scored: int = 0
    windows_failed: int = 0
    windows_cancelled: int = 0
    windows_refused: int = 0
    batches: int = 0
    retries: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter)
    queue_wait_s: float = 0.0
    step_s: float = 0.0
    workers_lost: int = 0
    restarts: int = 0


OnStep = Callable[[int, float, Sequence[float]], None]
"""Called after every forward pass with the number of its windows, its time in seconds, and how long
each window waited for it."""

# Longest time a core may take to be made.
_START_TIMEOUT_S = 600.0
# Longest wait for the worker's thread to end after the close: a core that is still being made
# cannot be interrupted, and may take half a minute.
_END_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Request(Pending):
    """A window and the future its caller waits on."""

    answer: asyncio.Future[WindowResult]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Requests whose windows were handed to the worker together."""

    requests: list[_Request]
    step: Step
    begun_s: float


class Batcher:
    """An engine in this process: collects windows into batches for a core and answers each caller.

    Belongs to one event loop.

    Args:
        core_factory: makes a core; runs in the worker's thread and blocks. It should warm the
            core up, so that the first step is no slower than others.
        config: settings of model and batches.
        make_worker: makes what runs the core.
        on_step: told of every forward pass.

    Attributes:
        config: with which settings it scores; once it has started with ``timeline.profile: auto``,
            with the timeline that was chosen.
        stats: what was done so far; goes on counting.
    """

    def __init__(
        self,
        core_factory: Callable[[], Core],
        config: EngineConfig,
        *,
        make_worker: Callable[[], Worker] = ThreadWorker,
        on_step: OnStep | None = None,
    ) -> None:
        self.config = config
        self.stats = BatchingStats()
        self._batching = config.batching
        self._on_step = on_step
        self._host = CoreHost(
            core_factory,
            make_worker,
            step_timeout_s=config.batching.step_timeout_s,
            start_timeout_s=_START_TIMEOUT_S,
        )
        self._queue: WindowQueue[_Request] = WindowQueue(config.batching.max_pending)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_busy = False
        self._next: _Batch | None = None
        self._step_ended_s = 0.0
        self._started = False
        self._restarting = False
        self._dead_because: str | None = "the engine was not started"
        self._model: tuple[ModelInfo, str] | None = None

    @property
    def info(self) -> ModelInfo:
        """The model; the same for the engine's whole life. Known once it has started."""
        return self._known_model()[0]

    @property
    def runtime_name(self) -> str:
        """How the model is executed. Known once the engine has started."""
        return self._known_model()[1]

    @property
    def num_pending(self) -> int:
        """Windows that wait for the core."""
        return len(self._queue)

    @property
    def is_alive(self) -> bool:
        """Whether windows are accepted."""
        return self._dead_because is None

    async def start(self) -> None:
        """Make the core and begin to serve. Once only.

        Raises:
            EngineDeadError: the core was not made in time.
            Exception: whatever ``core_factory`` raised.
        """
        if self._started:
            raise RuntimeError("got a second start of a batcher, expected a new batcher")
        self._started = True
        try:
            await self._host.start()
            if self.config.timeline.profile == "auto":
                self.config = replace(self.config, timeline=await self._chosen_timeline())
        except WorkerLostError as error:
            raise EngineDeadError(f"the engine could not be started: {error}") from error
        assert self._host.core is not None
        self._model = self._host.core.info, self._host.core.runtime_name
        self._dead_because = None
        self._task = asyncio.create_task(self._serve(), name="ser-engine-batcher")

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        """Return the result of a window. A cancelled call drops it if it is not yet running.

        Raises:
            WindowError: this window cannot be scored.
            StreamBusyError: its stream has a window waiting or running.
            EngineOverloadedError: too many windows wait.
            EngineDeadError: nothing is scored any more.
        """
        if self._dead_because is not None:
            raise EngineDeadError(self._dead_because)
        loop = asyncio.get_running_loop()
        request = _Request(window, Priority(priority), loop.time(), loop.create_future())
        try:
            self._queue.add(request)
        except (StreamBusyError, EngineOverloadedError):
            self.stats.windows_refused += 1
            raise
        self.stats.windows += 1
        self._begin_next()
        self._changed.set()
        try:
            result = await request.answer
        except asyncio.CancelledError:
            self.stats.windows_cancelled += 1
            # One that runs is not there any more; its answer is dropped, as nobody waits for it.
            self._queue.discard(request)
            if request.answer.done() and not request.answer.cancelled():
                request.answer.exception()  # Seen, or asyncio complains that it never was.
            raise
        except Exception:
            self.stats.windows_failed += 1
            raise
        self.stats.windows_scored += 1
        return result

    def forget(self, stream_key: str) -> None:
        """Free what the core keeps of a stream that has ended, after the step that runs."""
        self._host.forget(stream_key)

    async def aclose(self) -> None:
        """Finish the step that runs, answer all others with EngineDeadError and stop.

        Waits for the worker's thread, too, but for 5 s at most: an interpreter that is torn down
        under a network's native code aborts the process.
        """
        if self._dead_because is None:
            self._die("the engine was closed")
        if self._task is not None:
            if self._restarting:
                self._task.cancel()
            # Otherwise the task ends with its step, which step_timeout_s bounds.
            await asyncio.wait([self._task])
        self._host.close()
        await self._host.wait_ended(_END_TIMEOUT_S)

    async def _chosen_timeline(self) -> TimelineConfig:
        """Let the core score windows of no stream, and return the timeline it is fast enough for.

        Raises:
            WorkerLostError: the core is lost.
        """
        loop = asyncio.get_running_loop()
        trial = profile.choose(self.config)
        windows = next(trial)
        try:
            while True:
                began_s = loop.time()
                answers = await self._host.finish_step(self._host.begin_step(windows))
                if isinstance(answers, Exception):
                    _log.warning("no profile could be measured: %s", answers)
                    return replace(self.config.timeline, profile="live")
                windows = trial.send(loop.time() - began_s)
        except StopIteration as chosen:
            timeline: TimelineConfig = chosen.value
            return timeline
        finally:
            for key in profile.stream_keys(self.config):
                self._host.forget(key)

    def _known_model(self) -> tuple[ModelInfo, str]:
        assert self._model is not None, "the model is known once the engine has started"
        return self._model

    async def _serve(self) -> None:
        try:
            while batch := self._next or await self._next_batch():
                self._is_busy, self._next = True, None
                self._begin_next()
                await self._finish(batch)
                self._is_busy = False
                del batch  # An idle batcher keeps no audio.
        except WorkerLostError as error:
            _log.error("the engine is dead: %s", error)
            self._die(f"the engine is dead after {self.stats.restarts} restarts: {error}")
        finally:
            # Whatever ended the task, nobody is left waiting.
            self._is_busy = False
            self._die(self._dead_because or "the engine's task has ended")
            self._host.close()

    def _begin_next(self) -> None:
        """Hand the worker a batch beside the one that runs, if what waits cannot grow any more.

        Live windows only: one that comes later must not wait for a file's.
        """
        size = self._batching.max_batch_size
        if self._is_busy and self._next is None and self._queue.has_live_batch(size):
            self._next = self._begin(self._queue.take(size, asyncio.get_running_loop().time()))

    def _begin(self, requests: list[_Request]) -> _Batch:
        step = self._host.begin_step([request.window for request in requests])
        return _Batch(requests, step, asyncio.get_running_loop().time())

    def _take_back_next(self) -> None:
        """Let the windows of the batch that was handed over early wait again."""
        batch, self._next = self._next, None
        if batch is not None:
            batch.step.withdraw()
            self._put_back(batch.requests)

    async def _next_batch(self) -> _Batch | None:
        """Begin the next batch, not before it is due; None once the batcher is closed."""
        size, wait_s = self._batching.max_batch_size, self._batching.max_wait_ms / 1000
        loop = asyncio.get_running_loop()
        while self._dead_because is None:
            due_s = self._queue.due_s(size, wait_s, loop.time())
            if due_s is not None and due_s <= loop.time():
                return self._begin(self._queue.take(size, loop.time()))
            self._changed.clear()
            try:
                async with asyncio.timeout_at(due_s):
                    await self._changed.wait()
            except TimeoutError:
                # Due, unless the window was cancelled or a live one came: the queue knows.
                continue
        return None

    async def _finish(self, batch: _Batch) -> None:
        """Answer every request of a batch, or put it back.

        Raises:
            WorkerLostError: the worker is lost and was not brought back.
        """
        running: list[_Request] = batch.requests
        waiting: list[_Request] = []
        self.stats.batches += 1
        self.stats.batch_sizes[len(running)] += 1
        try:
            answers = await self._finish_step(batch)
            if isinstance(answers, Exception) and len(running) > 1:
                _log.warning("a batch made the core raise, it is run one by one: %r", answers)
                waiting = running
            else:
                self._answer(running, answers)
            running = []
            while waiting and self._dead_because is None:
                self._host.check()
                running, waiting = waiting[:1], waiting[1:]
                # Cancelled while others were tried: a pass for it would be for nobody.
                if running[0].answer.done():
                    self._queue.finish(running)
                else:
                    self.stats.retries += 1
                    self._answer(running, await self._finish_step(self._begin(running)))
                running = []
            # Closed in the meantime: those left are answered with the queue.
            self._queue.put_back(waiting)
            waiting = []
            self._host.check()
        except WorkerLostError as error:
            # First the later ones: what is put back goes ahead of all others.
            self._take_back_next()
            self._put_back(waiting)
            self._is_busy = False
            await self._replace_core(str(error), running)
        except BaseException:
            self._fail([*running, *waiting], EngineDeadError, "the engine's task was ended")
            raise

    async def _finish_step(self, batch: _Batch) -> Answers | Exception:
        loop = asyncio.get_running_loop()
        try:
            return await self._host.finish_step(batch.step)
        finally:
            # It began when it was handed over, or when the step before it ended.
            began_s = max(batch.begun_s, self._step_ended_s)
            self._step_ended_s = loop.time()
            waits_s = [began_s - request.arrived_s for request in batch.requests]
            self.stats.queue_wait_s += sum(waits_s)
            self.stats.step_s += self._step_ended_s - began_s
            if self._on_step is not None:
                self._on_step(len(waits_s), self._step_ended_s - began_s, waits_s)

    def _put_back(self, requests: Sequence[_Request]) -> None:
        """Let requests wait again, without those that were cancelled in the meantime."""
        self._queue.put_back([request for request in requests if not request.answer.done()])
        self._queue.finish([request for request in requests if request.answer.done()])

    def _answer(self, requests: Sequence[_Request], answers: Answers | Exception) -> None:
        """Hand out the answers to a step, or what it raised with a single window."""
        if isinstance(answers, Exception):
            _log.warning("a window made the core raise: %r", answers)
            error = WindowError(f"the engine raised {type(answers).__name__}: {answers}")
            error.__cause__ = answers
            answers = [error]
        for request, answer in zip(requests, answers, strict=True):
            # Its caller was cancelled while it ran: a future takes one outcome.
            if request.answer.done():
                continue
            if isinstance(answer, WindowError):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)
        self._queue.finish(requests)

    def _fail(self, requests: Sequence[_Request], kind: type[Exception], message: str) -> None:
        """Answer callers that still wait with an error each of their own."""
        for request in requests:
            if not request.answer.done():
                # One exception each: raised in several tasks, it would collect all their traces.
                request.answer.set_exception(kind(message))
        self._queue.finish(requests)

    async def _replace_core(self, reason: str, running: Sequence[_Request]) -> None:
        """Answer those that ran in a lost worker, and make another one.

        Raises:
            WorkerLostError: that was not possible, or was needed too often.
        """
        _log.error("the engine's worker is lost: %s", reason)
        self.stats.workers_lost += 1
        message = f"the engine's worker was lost while the window ran: {reason}"
        self._fail(running, WindowError, message)
        self._restarting = True
        try:
            while self._dead_because is None:
                if self.stats.restarts >= self._batching.max_restarts:
                    raise WorkerLostError(reason)
                self.stats.restarts += 1
                try:
                    return await self._host.start()
                except Exception as error:
                    reason = f"{type(error).__name__}: {error}"
                    _log.error("the engine's worker was not brought back: %s", reason)
        finally:
            self._restarting = False

    def _die(self, reason: str) -> None:
        """Answer every caller that waits, and all to come, with EngineDeadError."""
        self._dead_because = reason
        self._take_back_next()
        self._fail(self._queue.clear(), EngineDeadError, reason)
        self._changed.set()
