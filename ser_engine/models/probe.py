"""Find out in bounded time which of several HTTP endpoints answer.

A hub's client retries and waits for minutes where a firewall drops packets. One HEAD request,
made in a thread that is not waited for longer than the caller can afford, tells beforehand. The
thread bounds what a socket timeout does not: name resolution, and a server that sends a byte now
and then. Proxies are taken from the environment, as the clients do.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["answers"]

_GATEWAY_ERRORS = (502, 503, 504)
"""Sent by something in front of an endpoint that does not reach it."""


def answers(
    endpoints: Mapping[str, Callable[[], str]], timeout_s: float
) -> Iterator[tuple[str, str]]:
    """Ask all endpoints at once; yield each name with "" or what went wrong, as it is known.

    Args:
        endpoints: gives an endpoint's URL by its name. The callable runs in the thread, too: a
            client library may take long to import.
        timeout_s: all names are yielded within this time after the first is asked for, those
            that have not answered last.
    """
    results: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    deadline = time.monotonic() + timeout_s

    def ask(name: str, endpoint: Callable[[], str]) -> None:
        try:
            _ask(endpoint(), timeout_s)
        except Exception as error:
            results.put((name, str(error) or type(error).__name__))
        else:
            results.put((name, ""))

    for name, endpoint in endpoints.items():
        threading.Thread(target=ask, args=(name, endpoint), name="hub-probe", daemon=True).start()
    waiting = list(endpoints)
    while waiting:
        try:
            name, error = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        waiting.remove(name)
        yield name, error
    for name in waiting:
        yield name, f"no answer within {timeout_s:g} s"


def _ask(url: str, timeout_s: float) -> None:
    request = urllib.request.Request(url, method="HEAD")
    if request.type not in ("http", "https"):
        raise OSError(f"{url} is no HTTP address")
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        # Any status is an answer, save a gateway's that what is behind it is not there.
        error.close()
        if error.code in _GATEWAY_ERRORS:
            raise OSError(f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        # The client may trust certificates that Python's defaults do not.
        if not isinstance(error.reason, ssl.SSLError):
            raise OSError(str(error.reason)) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None
