from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ser_engine.models.hub import answers
from tests.support.hub_server import silent_server

SHORT_S = 0.2
LONG_S = 30.0


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("status", [200, 302, 401, 404, 405, 500])
def test_any_status_is_an_answer(status: int) -> None:
    with answering(status) as url:
        assert list(answers({"hub": lambda: url}, LONG_S)) == [("hub", "")]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateways_error_is_none(status: int) -> None:
    with answering(status) as url:
        assert list(answers({"hub": lambda: url}, LONG_S)) == [("hub", f"HTTP status {status}")]


def test_an_endpoint_that_accepts_and_is_silent_is_known_in_time() -> None:
    started = time.monotonic()
    with silent_server() as url:
        ((name, problem),) = answers({"hub": lambda: url}, SHORT_S)
    assert name == "hub"
    assert problem
    assert time.monotonic() - started < LONG_S


def test_an_endpoint_that_refuses_is_known_at_once() -> None:
    with silent_server() as url:
        pass
    ((_, problem),) = answers({"hub": lambda: url}, LONG_S)
    assert "refused" in problem.lower()


def test_a_name_that_is_not_resolved_in_time_is_not_waited_for() -> None:
    resolved = threading.Event()

    def endpoint() -> str:
        resolved.wait(LONG_S)
        return "http://127.0.0.1:9"

    assert list(answers({"hub": endpoint}, 0.02)) == [("hub", "no answer within 0.02 s")]
    resolved.set()


def test_the_first_answer_is_told_while_another_is_awaited() -> None:
    with answering(200) as fast, silent_server() as silent:
        found = answers({"slow": lambda: silent, "fast": lambda: fast}, SHORT_S)
        assert next(found) == ("fast", "")
        ((name, problem),) = found
    assert name == "slow"
    assert problem


def test_an_endpoint_that_is_not_known_is_told() -> None:
    def missing() -> str:
        raise ImportError("no client")

    assert list(answers({"hub": missing}, LONG_S)) == [("hub", "no client")]
    ((_, problem),) = answers({"hub": lambda: "file:///etc/passwd"}, LONG_S)
    assert "no HTTP address" in problem


def test_no_endpoints_give_no_answers() -> None:
    assert list(answers({}, LONG_S)) == []
