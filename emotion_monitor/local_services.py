"""Servers of other people, started for a while in folders of their own: PostgreSQL, NATS and Ray.

For the demo of several servers, benchmarks and tests: nothing of the machine's is touched. They
forget what they have when they are closed, and do not wait for the disk.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PORT = 5432
"""Part of the socket's name; no port is opened."""
_OPTIONS = (
    "-c listen_addresses='' -c max_connections=40 -c shared_buffers=16MB -c fsync=off"
    " -c log_min_messages=fatal"
)


def bin_dir() -> Path | None:
    """Return the folder of ``initdb`` and ``pg_ctl``, the newest one; None: there is none."""
    in_path = shutil.which("initdb")
    candidates = [Path(in_path).resolve().parent] if in_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda folder: folder.parent.name, reverse=True)
    for folder in candidates:
        if all((folder / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    return None


class PostgreSQL:
    """A PostgreSQL server, on a Unix socket in its own folder.

    It refuses to run as root, so root lends it to another user.

    Args:
        options: of its command line, beside those that keep it small.

    Attributes:
        folder: everything it keeps, and its socket.
    """

    def __init__(self, options: str = "") -> None:
        self._options = f"{_OPTIONS} {options}"
        found = bin_dir()
        assert found is not None
        self._bin = found
        self._numbers = itertools.count()
        # Short, as the path of a socket has to be, and open to the user the server runs as.
        self.folder = Path(tempfile.mkdtemp(prefix="em-pg-"))
        self._user = _other_user() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._data = self.folder / "data"
        login = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C")
        self._run("initdb", "--no-sync", *login, f"--pgdata={self._data}")
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"{self._options} -k {self.folder} -p {_PORT}"
        self._pg_ctl("start", "-o", options, "-l", f"{self.folder}/log")

    def stop(self) -> None:
        """Stop the server as a crash would: connections break."""
        self._pg_ctl("stop", "-m", "immediate")

    def close(self) -> None:
        """Stop the server and delete everything."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        import psycopg

        name = f"test_{next(self._numbers)}"
        where = f"host={self.folder} port={_PORT} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}&port={_PORT}"

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "-D", str(self._data), "-w", "-t", "60", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        user = self._user
        result = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            # A pipe would stay open for as long as the server runs.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert result.returncode == 0, f"{program} {arguments} failed: {result.returncode}"


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is no user that a PostgreSQL server could run as")


_START_TIMEOUT_S = 30.0
_RAY_TIMEOUT_S = 120.0


def nats_program() -> str | None:
    """Return the path of the NATS server; None: there is none."""
    # Debian has it among the programs of the administrator.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return shutil.which("nats-server", path=path)


class NatsServer:
    """A NATS server with JetStream, on loopback, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it answers."""
        program = nats_program()
        assert program is not None, "there is a NATS server"
        self._process = subprocess.Popen(
            [program, "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until_s:
            assert self._process.poll() is None, "the NATS server has ended"
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                    if connection.recv(4) == b"INFO":
                        return
            time.sleep(0.01)
        raise TimeoutError("the NATS server does not answer")

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class RayCluster:
    """A Ray cluster of this machine alone, on loopback, with a token of its own.

    What is started with :attr:`environment` may join it.

    Args:
        folder: for what it writes; short, for the sockets in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # As everything else of the cluster, not behind it.
            "RAY_worker_niceness": "0",
            # A worker a core, of which none is used, takes longer to start than all else.
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
        }

    @property
    def address(self) -> str:
        """HOST:PORT of its head."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it answers."""
        options = {
            "port": self._port,
            "node-ip-address": "127.0.0.1",
            "temp-dir": self._folder,
            # Bounds for replicas, which share the cores anyway.
            "num-cpus": 8,
            "object-store-memory": 80 << 20,
            "include-dashboard": "false",
            "ray-client-server-port": free_port(),
            "dashboard-agent-listen-port": free_port(),
            # Any that are free: another cluster may have the usual ones.
            "min-worker-port": 0,
            "max-worker-port": 0,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
        )
        until_s = time.monotonic() + _RAY_TIMEOUT_S
        while time.monotonic() < until_s:
            assert self._process.poll() is None, "Ray has ended"
            if any(name.startswith("raylet") for name, _ in self._children()):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                    return
            time.sleep(0.05)
        raise TimeoutError("Ray does not answer")

    def replicas(self) -> list[int]:
        """Return the processes of replicas of Ray Serve, the oldest first."""
        return [pid for name, pid in self._children() if name.startswith("ray::ServeReplica")]

    def close(self) -> None:
        """End it with all its processes, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            # It would end them by itself, in half a minute.
            children = self._children()
            self._process.kill()
            for _, pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def _children(self) -> list[tuple[str, int]]:
        """Return name and number of every process below that of the head, the oldest first."""
        assert self._process is not None, "it was started"
        parents: dict[int, int] = {}
        names: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                pid = int(entry.name)
                # The name in brackets may have spaces; the parent is the second field behind it.
                parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                names[pid] = command.partition("\0")[0].rpartition("/")[2]
        found = []
        for pid in sorted(names):
            above = pid
            while above in parents and above != self._process.pid:
                above = parents[above]
            if above == self._process.pid and pid != above:
                found.append((names[pid], pid))
        return found


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
