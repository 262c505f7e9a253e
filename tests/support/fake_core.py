"""Cores and workers under a test's control."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.types import ModelInfo, Window, WindowResult
from tests.support.fake_engine import LABELS

__all__ = ["FakeCore", "InlineWorker", "TimedWorker", "a_result", "a_window", "marks"]

T = TypeVar("T")


def a_window(mark: int = 0, stream: str | None = None) -> Window:
    """A window told apart by its first sample's index."""
    return Window(np.zeros(400, np.float32), start_sample=mark, stream_key=stream)


def a_result(window: Window) -> WindowResult:
    """The result of a window, told apart by its logits."""
    logits = np.full((1, 2), window.start_sample, np.float32)
    return WindowResult(logits, np.zeros((1, 4), np.float32))


def marks(windows: Sequence[Window]) -> list[int]:
    """What :func:`a_window` was called with."""
    return [window.start_sample for window in windows]


class FakeCore:
    """Answers with :func:`a_result`.

    Attributes:
        batches: marks of the windows of each step.
        faulty: marks of windows that get a WindowError.
        poisoned: marks of windows whose step raises what they are mapped to.
        forgotten: streams it was told have ended.
    """

    runtime_name = "none"

    def __init__(self) -> None:
        self.info = ModelInfo("fake", "nowhere", "none", "", LABELS, 4)
        self.batches: list[list[int]] = []
        self.faulty: set[int] = set()
        self.poisoned: dict[int, BaseException] = {}
        self.forgotten: list[str] = []

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        self.batches.append(marks(windows))
        for window in windows:
            if window.start_sample in self.poisoned:
                raise self.poisoned[window.start_sample]
        return [
            WindowError("too short") if window.start_sample in self.faulty else a_result(window)
            for window in windows
        ]

    def warm_up(self) -> None:
        pass

    def forget(self, stream_key: str) -> None:
        self.forgotten.append(stream_key)


class InlineWorker:
    """Runs a job at once, where it is submitted."""

    def submit(self, job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(job())
        return future

    def close(self) -> None:
        pass


class TimedWorker:
    """Runs jobs one after the other, each of which takes a time on the running loop's clock.

    Args:
        delay_s: asked after each job has run; None: its result never comes, nor another one.
    """

    def __init__(self, delay_s: Callable[[], float | None]) -> None:
        self._delay_s = delay_s
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._is_busy = False
        self.closed = False

    def submit(self, job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.append((future, job))
        if not self._is_busy:
            self._run_next()
        return future

    def close(self) -> None:
        self.closed = True

    def _run_next(self) -> None:
        while self._jobs:
            future, job = self._jobs.popleft()
            if future.set_running_or_notify_cancel():
                self._is_busy = True
                result = job()
                delay_s = self._delay_s()
                if delay_s is not None:
                    loop = asyncio.get_running_loop()
                    loop.call_later(delay_s, self._end, future, result)
                return

    def _end(self, future: Future[Any], result: Any) -> None:
        self._is_busy = False
        future.set_result(result)
        if not self._is_busy:
            self._run_next()
