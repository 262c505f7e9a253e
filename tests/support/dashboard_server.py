"""The real server in a process of its own, as ``bash run.sh`` starts it.

Ports, store and settings stay what they were, so a page that is open finds it again.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout

__all__ = ["DashboardServer", "free_ports"]

_READY_S = 120.0
"""Longest start: the network's library alone takes seconds on a busy machine."""
_POLL_S = 0.1


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class DashboardServer:
    """A server with the built-in model and a store in a folder of its own.

    Args:
        folder: of settings, store and log.
        settings: sections that differ from ``config.yaml``.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.ingest_port, self.http_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.ingest_url = f"ws://127.0.0.1:{self.ingest_port}"
        self._folder = folder
        self._config = folder / "config.yaml"
        self._config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What the server has written so far."""
        path = self._folder / "server.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    async def start(self) -> None:
        """Start and wait until streams are taken.

        Raises:
            RuntimeError: it ended, or does not get ready.
        """
        with (self._folder / "server.log").open("a", encoding="utf-8") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "emotion_monitor", "--config", str(self._config)),
                *("--set", f"stream_server.store.url=sqlite:///{self._folder}/timelines.db"),
                *("--set", "ser_engine.model.name=compact"),
                *("--set", "ser_engine.model.offline=true"),
                *("--set", "stream_server.telephony.audiosocket.port=-1"),
                *("serve", "--host", "127.0.0.1"),
                *("--port", str(self.ingest_port), "--http-port", str(self.http_port)),
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )
        try:
            await asyncio.wait_for(self._until_ready(), _READY_S)
        except TimeoutError:
            await self.stop()
            raise RuntimeError(f"the server did not get ready:\n{self.log[-2000:]}") from None

    async def stop(self) -> None:
        """Ask it to stop, as an operator would, and wait until it has."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()
        else:
            assert process.returncode == 0, f"{process.returncode}:\n{self.log[-2000:]}"

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """End it as a power failure would."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        await process.wait()

    async def get(self, path: str) -> Any:
        """Return the JSON of a page of the API."""
        return await self.ask("GET", path)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of an answer, None where there is none."""
        async with (
            ClientSession(timeout=ClientTimeout(total=30), raise_for_status=True) as session,
            session.request(method, self.url + path, **options) as response,
        ):
            return await response.json() if response.status != 204 else None

    async def _until_ready(self) -> None:
        assert self._process is not None
        async with ClientSession(timeout=ClientTimeout(total=5)) as session:
            while True:
                if self._process.returncode is not None:
                    raise RuntimeError(f"the server ended:\n{self.log[-2000:]}")
                try:
                    async with session.get(f"{self.url}/readyz") as response:
                        if response.status == 200:
                            return
                except (ClientError, TimeoutError):
                    pass
                # There is nothing to wait on in another process that is not listening yet.
                await asyncio.sleep(_POLL_S)
