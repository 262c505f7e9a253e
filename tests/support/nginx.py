"""A real nginx in front of a test's server, in a folder of its own.

with nginx(tmp_path, http=server.http_url, ingest=server.ingest_url) as proxy:
    ...                                               # proxy.http_url, proxy.ingest_url
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.dashboard_server import free_ports

__all__ = ["FORWARDS", "Proxy", "configuration", "nginx", "program"]

FORWARDS = """
proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
"""
"""What a proxy is usually told to add; nginx by itself adds nothing, and sends its own Host."""

_CONFIG = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {servers}
}}
"""
_MAP = 'map $http_upgrade $connection_upgrade { default upgrade; "" close; }'
_SERVER = """
  server {{
    listen 127.0.0.1:{port};
    location {location} {{
      proxy_pass {target};
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      {directives}
    }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running nginx.

    Attributes:
        http_url, ingest_url: where it takes what the server's two ports take.
    """

    http_url: str
    ingest_url: str


def program(name: str = "nginx") -> str | None:
    """Return the path of a proxy's program; None: there is none."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def configuration(folder: Path, servers: str) -> Path:
    """Write the configuration of an nginx that keeps to ``folder``; return its file.

    Args:
        folder: of the test.
        servers: what stands in the block ``http``.
    """
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers=servers), encoding="utf-8")
    return config


@contextlib.contextmanager
def nginx(
    folder: Path, *, http: str, ingest: str, directives: str = "", location: str = "/"
) -> Iterator[Proxy]:
    """Run nginx in front of both ports of a server.

    Args:
        folder: of the test.
        http, ingest: the server's addresses.
        directives: of each location, e.g. :data:`FORWARDS`.
        location: the path of the HTTP port that is passed on; the request's path stays as it is.
    """
    ports = free_ports(2)
    servers = [
        _SERVER.format(port=port, location=path, target=_root(url), directives=directives)
        for port, url, path in zip(ports, (http, ingest), (location, "/"), strict=True)
    ]
    config = configuration(folder, "".join([_MAP, *servers]))
    path = program()
    assert path is not None, 'the test is marked needs("nginx")'
    # It returns when its ports are open, and goes on in the background.
    subprocess.run([path, "-c", str(config), "-p", str(folder)], check=True, timeout=30)
    process = int((folder / "nginx.pid").read_text())
    try:
        yield Proxy(f"http://127.0.0.1:{ports[0]}", f"ws://127.0.0.1:{ports[1]}")
    finally:
        os.kill(process, signal.SIGTERM)


def _root(url: str) -> str:
    """Return the URL of a server's root, with which nginx passes the request's path on as it is."""
    return f"http://{urlsplit(url).netloc}"
