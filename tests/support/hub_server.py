"""An HTTP server on the loopback that speaks enough of both hubs' protocols to fetch a folder.

Written after what the clients ask: ``huggingface_hub`` 2.4 and ``modelscope_hub`` 0.5.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["HubServer", "hub_server", "silent_server"]

_REVISION = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves one folder as whatever repository it is asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []
        self.cut_short: set[str] = set()
        """Names of files that are sent by half."""
        self.missing = False
        """Whether there is no such repository."""
        self.hold: threading.Event | None = None
        """Waited for when half of the weights is sent."""
        self.half_is_sent = threading.Event()
        """Set when that is so."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def fetched(self) -> set[str]:
        """Names of the files that were asked for."""
        names = {path.name for path in self.folder.rglob("*") if path.is_file()}
        return {name for name in names if any(name in line for line in self.asked)}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def hub_server(folder: Path) -> Iterator[HubServer]:
    server = HubServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent_server() -> Iterator[str]:
    """Give the URL of a server that accepts connections and never says a word."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_args: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {unquote(self.path)}")
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        files = {p.name: p for p in sorted(self.server.folder.iterdir()) if p.is_file()}
        if self.server.missing and path != "/":
            self.send_error(404)
            return
        if path.endswith("/revision/main"):
            body: Any = {"id": "any/model", "sha": _REVISION, "siblings": [], "tags": []}
        elif f"/tree/{_REVISION}" in path:
            body = [
                {"type": "file", "path": name, "size": p.stat().st_size, "oid": _sha1(p)}
                for name, p in files.items()
            ]
        elif path.endswith("/repo/files"):
            listed = [
                {
                    "Path": name,
                    "Name": name,
                    "Type": "blob",
                    "Size": p.stat().st_size,
                    "Sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
                }
                for name, p in files.items()
            ]
            body = {"Code": 200, "Success": True, "Data": {"Files": listed}}
        elif f"/resolve/{_REVISION}/" in path:
            self._send_file(files[path.rsplit("/", 1)[1]], with_body)
            return
        elif path.endswith("/repo") and "FilePath" in query:
            self._send_file(files[query["FilePath"][0]], with_body)
            return
        else:
            self.send_error(404)
            return
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def _send_file(self, path: Path, with_body: bool) -> None:
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", _REVISION)
        self.send_header("ETag", f'"{_sha1(path)}"')
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            if path.name in self.server.cut_short:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif self.server.hold is not None and path.name == "model.pt":
                self.wfile.write(data[: len(data) // 2])
                self.server.half_is_sent.set()
                self.server.hold.wait()
                self.wfile.write(data[len(data) // 2 :])
            else:
                self.wfile.write(data)


def _sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
