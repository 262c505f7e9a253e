"""Logging: one line an event, the same for our own events and for libraries that log.

::

    structlog.get_logger(__name__).info("event", key=value) ─┐
                                                             ├─▶ root handler ─▶ standard error
    logging.getLogger("ser_engine...").warning("text") ──────┘   console or JSON

Nothing happens on import; a command calls :func:`configure_logging` once. Emotion is sensitive
data: events carry ids and counts, never audio, labels, names or metadata of a stream, and a
traceback is written without the values of local variables, which may hold any of them.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from stream_server.config import LoggingConfig
from stream_server.wire.errors import ProtocolError
from stream_server.wire.masking import masked_text

_log = structlog.get_logger(__name__)

# What libraries log at least; they tell of every connection, request or migration otherwise.
_LEVELS = {
    "aiohttp.access": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "websockets": logging.WARNING,
}

_OUR_PACKAGES = ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def configure_logging(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Send all events from ``config.level`` on to ``stream``, replacing what was set up before."""
    stream = sys.stderr if stream is None else stream
    as_json = config.format == "json" or (config.format == "auto" and not stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # As text and without local variables, whatever the renderer would make of an exception.
        structlog.processors.format_exc_info,
    ]
    finish: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _mask_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Loggers made on import must follow a later call of this function.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[*finish, *(_json() if as_json else _console(colours=stream.isatty()))],
        )
    )
    handler.addFilter(_quieten_strangers)
    level = config.level.upper()
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    # Libraries are heard from INFO on at most: their debug output may hold what was sent.
    root.setLevel(max(logging.getLevelNamesMapping()[level], logging.INFO))
    for package in _OUR_PACKAGES:
        logging.getLogger(package).setLevel(level)
    for name, least in _LEVELS.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.captureWarnings(True)


def _json() -> list[Processor]:
    return [structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=False, default=repr)]


def _console(*, colours: bool) -> list[Processor]:
    return [_escape_control_characters, structlog.dev.ConsoleRenderer(colors=colours)]


def _mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide secrets of URLs and headers: a traceback may hold a request that was malformed."""
    return {
        key: masked_text(value) if isinstance(value, str) else value for key, value in event.items()
    }


def _escape_control_characters(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep what came from outside from starting a new line or steering the terminal."""
    return {
        key: value if key == "exception" or not isinstance(value, str) else _escaped(value)
        for key, value in event.items()
    }


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _quieten_strangers(record: logging.LogRecord) -> bool:
    """Leave out a traceback for every scanner that connects and is no WebSocket client."""
    if record.name.startswith("websockets") and record.getMessage() == "opening handshake failed":
        return False
    return True


# Kinds that are told apart; what more there are count as one.
_MAX_KINDS = 64


class SparseLog:
    """Says when a line of a kind may be written.

    ``burst`` lines of a kind may come within ``interval_s``.
    """

    def __init__(
        self,
        interval_s: float = 10.0,
        now_s: Callable[[], float] = time.monotonic,
        *,
        burst: int = 1,
    ) -> None:
        self._interval_s = interval_s
        self._now_s = now_s
        self._burst = burst
        # When the interval ends, lines written in it, lines left out since the last one.
        self._kinds: dict[str, tuple[float, int, int]] = {}

    def take(self, kind: str) -> int | None:
        """Return how many lines were left out since the last one; None: leave this out, too."""
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = ""
        now_s = self._now_s()
        end_s, written, left_out = self._kinds.get(kind, (now_s, 0, 0))
        if now_s >= end_s:
            end_s, written = now_s + self._interval_s, 0
        if written >= self._burst:
            self._kinds[kind] = end_s, written, left_out + 1
            return None
        self._kinds[kind] = end_s, written + 1, 0
        return left_out


_REFUSALS_IN_A_BURST = 20
# What a client sent, as error texts repeat it: a role, a path, a name.
_QUOTED = re.compile(r"""\b(got [^'",;:]*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")


def without_quotes(text: str) -> str:
    """Return an error's text without what it repeats of the client's."""
    return _QUOTED.sub(r"\1'…'", text)


class RefusalLog:
    """Counts refused connections, and logs each, or of a flood some and their number."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count
        self._lines = SparseLog(burst=_REFUSALS_IN_A_BURST)

    def __call__(self, route: str, error: ProtocolError) -> None:
        """Note one.

        ``route``: first part of the path, or the name of another port.
        """
        self._count(error.code.value, route)
        left_out = self._lines.take(f"{route} {error.code}")
        if left_out is not None:
            _log.warning(
                "stream_refused",
                route=route,
                code=error.code.value,
                reason=without_quotes(str(error)),
                left_out=left_out,
            )
