"""Recordings analysed in several processes, each with an engine of its own.

A small network fills one core, and what is measured of the audio beside it takes as much time again
under one interpreter. Several processes use the other cores::

                 ┌─ "next" ── child ── FileAnalyser
    wanted ──────┼─ "next" ── child ── FileAnalyser      a file each, whenever a child has room
    deliver ◀────┴─ Answer

A child that ends, out of memory or in a decoder, costs the files that it had taken; the others go
on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ser_engine.config import EngineConfig
from ser_engine.errors import EngineDeadError, SerEngineError
from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
from ser_engine.files.cache import analysis_key
from ser_engine.files.job import AnalysisJob
from ser_engine.files.options import AnalysisOptions
from ser_engine.files.run import Engine
from ser_engine.types import ModelInfo

OpenEngine = Callable[[EngineConfig], Engine]
"""Makes the engine of a child. Found by its name in the child, so a function of a module."""


@dataclass(slots=True, eq=False)
class _Child:
    """A process, and the files that it has taken and not answered, by number."""

    process: BaseProcess
    connection: Connection
    taken: dict[int, Wanted] = field(default_factory=dict)


class ProcessesAnalyser:
    """Analyses files as :class:`~ser_engine.files.analyser.FileAnalyser` does, in processes.

    Args:
        num_processes: how many.
        open_engine: makes the engine of each.
        info: the model of these engines.
        config: what they are made for, and how files are analysed; ``model.threads`` are those of
            each.
        options: what is asked for.
        use_cache: take results that were had before, and keep new ones.
    """

    def __init__(
        self,
        *,
        num_processes: int,
        open_engine: OpenEngine,
        info: ModelInfo,
        config: EngineConfig,
        options: AnalysisOptions,
        use_cache: bool = True,
    ) -> None:
        self._num_processes = num_processes
        self._info, self._config, self._options = info, config, options
        self._arguments = (open_engine, config, options, use_cache)

    def key(self, sha256: str) -> str:
        """Return the key of the result for a content."""
        return analysis_key(sha256, self._info, self._options, self._config)

    def run(
        self,
        wanted: Iterable[Wanted],
        deliver: Callable[[Answer], None],
        *,
        on_progress: Callable[[AnalysisJob], None] | None = None,
    ) -> None:
        """Analyse files and deliver every answer as it is there, in any order.

        ``on_progress`` is not called: the jobs are elsewhere.

        Raises:
            ConfigError, CheckpointError, HubUnavailableError, RuntimeUnavailableError: what is
                asked for cannot be had, of whatever file.
            EngineDeadError: no process is left.
        """
        numbered = enumerate(wanted)
        children = [self._start() for _ in range(self._num_processes)]
        running = {child.connection: child for child in children}
        try:
            while running:
                for connection in wait(list(running)):
                    assert isinstance(connection, Connection)
                    if not self._serve(running[connection], numbered, deliver):
                        del running[connection]
            if (left := next(numbered, None)) is not None:
                raise EngineDeadError(
                    f"all {len(children)} processes have ended, {left[1].name} and what comes"
                    " after it are not analysed; the lines above say at which files, and fewer"
                    " processes need less memory"
                )
        finally:
            for child in children:
                child.connection.close()
            for child in children:
                # One that computes sees no closed connection.
                child.process.terminate()
                child.process.join()

    def _start(self) -> _Child:
        # Not a copy of this process, whose threads and locks would come along.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_run_child, args=(theirs, *self._arguments), daemon=True)
        process.start()
        # Or its end would not be seen.
        theirs.close()
        return _Child(process, ours)

    def _serve(
        self,
        child: _Child,
        numbered: Iterator[tuple[int, Wanted]],
        deliver: Callable[[Answer], None],
    ) -> bool:
        """Act on one message of a child, or on its end; return whether it goes on."""
        try:
            message = child.connection.recv()
        except (EOFError, ConnectionError):
            child.connection.close()
            child.process.join()
            status = child.process.exitcode
            for each in child.taken.values():
                error = SerEngineError(
                    f"the process that analysed it ended with status {status}; analyse it again"
                )
                deliver(Answer(each, error))
            return False
        match message:
            case None:
                coming = None
                if (following := next(numbered, None)) is not None:
                    number, each = following
                    child.taken[number] = each
                    # What the caller wants back stays here.
                    coming = replace(each, about=number)
                # One that has ended since it asked is found out by the next message.
                with contextlib.suppress(ConnectionError):
                    child.connection.send(coming)
            case Answer():
                each = child.taken.pop(message.wanted.about)
                deliver(replace(message, wanted=replace(message.wanted, about=each.about)))
            case SerEngineError():
                raise message
        return True


def _run_child(
    connection: Connection,
    open_engine: OpenEngine,
    config: EngineConfig,
    options: AnalysisOptions,
    use_cache: bool,
) -> None:
    """Analyse files until there are no more, or nobody asks any more."""
    # Ctrl-C is for the parent, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        analyser = FileAnalyser(open_engine(config), config, options, use_cache=use_cache)
        analyser.run(_asked_for(connection), connection.send)
    except SerEngineError as error:
        connection.send(error)
    except (EOFError, ConnectionError):
        pass


def _asked_for(connection: Connection) -> Iterator[Wanted]:
    while True:
        connection.send(None)
        wanted = connection.recv()
        if wanted is None:
            return
        yield wanted
