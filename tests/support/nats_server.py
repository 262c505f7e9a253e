"""A NATS server of a test's own, with JetStream, that can be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from pathlib import Path

__all__ = ["NatsServer"]


class NatsServer:
    """Listens on loopback, on a port that stays the same.

    Args:
        folder: for what JetStream keeps.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Return when it answers."""
        program = shutil.which("nats-server") or "/usr/sbin/nats-server"
        self._process = await asyncio.create_subprocess_exec(
            *(program, "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", str(self._folder)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            assert self._process.returncode is None, "the NATS server has ended"
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                info = await reader.readline()
                writer.close()
                if info.startswith(b"INFO"):
                    return
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
