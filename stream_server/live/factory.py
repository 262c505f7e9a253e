"""How a stream begins: an engine is lent, the session is made, the runner begins."""

from __future__ import annotations

import time
from collections.abc import Callable

from ser_engine.errors import EngineDeadError, SerEngineError
from stream_server.alerts.evaluator import AlertEvaluator
from stream_server.config import ServerConfig
from stream_server.engines.handle import EngineSource
from stream_server.live.runner import StreamRunner
from stream_server.metrics import Metrics
from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.results import Result
from stream_server.protocol.stream_spec import StreamSpec
from stream_server.recording import Recordings
from stream_server.session.session import Session

__all__ = ["StreamFactory"]


class StreamFactory:
    """Makes runners of streams.

    Args:
        engines: lends engines.
        config: roles, limits, alert rules.
        metrics: told of what streams do.
        publish: told of every result of every stream.
        recordings: keeps the audio of streams; None: nothing does.
        now: seconds since 1970.
    """

    def __init__(
        self,
        engines: EngineSource,
        config: ServerConfig,
        metrics: Metrics,
        publish: Callable[[Result], None],
        *,
        recordings: Recordings | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engines = engines
        self._config = config
        self._metrics = metrics
        self._publish = publish
        self._recordings = recordings
        self._now = now

    def __call__(self, stream_id: str, spec: StreamSpec) -> StreamRunner:
        """Begin a stream.

        Raises:
            ProtocolError: no engine is alive, or no channel has a role that is analysed.
        """
        try:
            lease = self._engines.acquire()
        except EngineDeadError as error:
            raise ProtocolError(ErrorCode.ENGINE_FAILED, str(error)) from None
        recording = None
        try:
            if self._recordings is not None:
                recording = self._recordings.record(stream_id)
            engine = lease.engine
            session = Session(
                stream_id=stream_id,
                spec=spec,
                model=engine.info,
                engine_config=engine.config,
                analyse_roles=self._config.streams.analyse_roles,
                tap=recording.tap if recording else None,
            )
            evaluator = AlertEvaluator(
                self._config.alerts.rules, stream_id, engine.info.labels.names
            )
            return StreamRunner(
                session,
                lease,
                evaluator,
                self._metrics,
                self._publish,
                self._config.limits,
                recording=recording,
                now=self._now,
            )
        except BaseException as error:
            lease.release()
            if recording is not None:
                recording.close()
            if isinstance(error, SerEngineError):
                raise ProtocolError(ErrorCode.INTERNAL, str(error)) from error
            raise
