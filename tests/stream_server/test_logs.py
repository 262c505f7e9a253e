from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aiohttp import web

from stream_server.config import LoggingConfig
from stream_server.logs import configure_logging
from tests.requirements import REPOSITORY


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was found."""
    names = [None, *logging.Logger.manager.loggerDict]
    levels = {name: logging.getLogger(name).level for name in names}
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    for name in [None, *logging.Logger.manager.loggerDict]:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(level: Any = "info", form: Any = "json") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(LoggingConfig(level=level, format=form), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line() -> None:
    stream = configured()
    log = structlog.get_logger("stream_server.engines.pool")
    log.info("model_fetched", model="compact", took_s=1.5)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "model_fetched",
        "level": "info",
        "logger": "stream_server.engines.pool",
        "model": "compact",
        "took_s": 1.5,
    }


def test_what_libraries_log_looks_the_same() -> None:
    stream = configured()
    logging.getLogger("ser_engine.models.registry").warning("model %s is passed over", "x")
    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("model x is passed over", "warning")
    assert line["logger"] == "ser_engine.models.registry"


def test_loggers_made_before_are_configured_too() -> None:
    log = structlog.get_logger("stream_server.early")
    first, second = configured(), configured()
    log.info("here")
    assert first.getvalue() == ""
    assert lines(second)[0]["event"] == "here"


def test_context_is_part_of_the_line() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(stream_id="s1"):
        structlog.get_logger("stream_server").info("stream opened")
    assert lines(stream)[0]["stream_id"] == "s1"


@pytest.mark.parametrize(("level", "expected"), [("debug", 3), ("info", 2), ("error", 0)])
def test_the_level_holds_for_our_packages(level: str, expected: int) -> None:
    stream = configured(level)
    structlog.get_logger("stream_server.x").debug("detail")
    structlog.get_logger("stream_server.x").info("event")
    logging.getLogger("ser_engine.x").warning("event")
    assert len(lines(stream)) == expected


@pytest.mark.parametrize("name", ["aiohttp.access", "websockets.server", "alembic.runtime", "any"])
def test_libraries_do_not_tell_of_everything(name: str) -> None:
    stream = configured("debug")
    logger = logging.getLogger(name)
    logger.debug("GET /feed?token=secret")
    if name != "any":
        logger.info("GET /feed?token=secret")
    assert stream.getvalue() == ""
    logger.warning("something is wrong")
    assert len(lines(stream)) == 1


def test_a_stranger_at_the_door_is_no_event() -> None:
    stream = configured()
    logging.getLogger("websockets.server").error("opening handshake failed", exc_info=True)
    assert stream.getvalue() == ""


def test_a_warning_of_python_is_an_event() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("it is old", stacklevel=1)
    assert "it is old" in lines(stream)[0]["event"]


def fail_with_audio() -> None:
    samples = "what was said"
    raise ValueError(f"got {len(samples)} samples")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("of", ["ours", "library"])
def test_a_traceback_tells_no_values(form: str, of: str) -> None:
    stream = configured(form=form)
    try:
        fail_with_audio()
    except ValueError:
        if of == "ours":
            structlog.get_logger("stream_server").exception("failed")
        else:
            logging.getLogger("any").exception("failed")
    written = stream.getvalue()
    assert "got 13 samples" in written
    assert "Traceback" in written
    assert "what was said" not in written
    if form == "json":
        assert len(lines(stream)) == 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_comes_from_outside_starts_no_new_line(form: str) -> None:
    stream = configured(form=form)
    structlog.get_logger("stream_server").info(
        "refused", origin="a\n2026 [info] all is well\x1b[2J"
    )
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in stream.getvalue()


@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_the_format_follows_the_setting_and_the_terminal(
    form: Any, stream: io.StringIO, is_json: bool
) -> None:
    configure_logging(LoggingConfig(format=form), stream)
    structlog.get_logger("stream_server").info("here")
    assert stream.getvalue().startswith("{") is is_json


_LEVEL_NAMES = ("debug", "info", "warning", "error", "exception", "critical")
_SENSITIVE = {
    "audio",
    "samples",
    "label",
    "labels",
    "emotion",
    "posterior",
    "posteriors",
    "confidence",
    "metadata",
    "role",
    "token",
    "resume_token",
    "secret",
}


def events_of(source: str) -> Iterator[ast.Call]:
    """Every call that logs, by the names loggers have in this code base."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            logger = ast.unparse(node.func.value)
            if node.func.attr in _LEVEL_NAMES and logger.endswith(("_log", "logger")):
                yield node


def test_events_carry_nothing_of_what_was_heard_and_who_spoke() -> None:
    found = 0
    for package in ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for call in events_of(path.read_text(encoding="utf-8")):
                found += 1
                where = f"{path.relative_to(REPOSITORY)}, line {call.lineno}"
                keys = {keyword.arg for keyword in call.keywords}
                assert not keys & _SENSITIVE, where
    assert found > 10


async def test_a_malformed_requests_secrets_are_in_no_line() -> None:
    """The HTTP server logs what it cannot parse, header and all."""
    stream = io.StringIO()
    configure_logging(LoggingConfig(format="json"), stream)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for value in (b"Bearer s3cret-0123456789\0", b"Token s3cret-0123456789\x01", b"s3cret \x7f"):
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET /feed?token=s3cret-1 HTTP/1.1\r\nAuthorization: " + value + b"\r\n\r\n")
        await reader.read()
        writer.close()
    await runner.cleanup()
    logging.getLogger("aiohttp.server").error("cannot open redis://me:s3cret/@@host/1")
    assert "s3cret" not in stream.getvalue()
    assert "redis://me:" in stream.getvalue()
