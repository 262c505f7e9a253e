"""A real MQTT broker: mosquitto."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Mosquitto"]


class Mosquitto:
    """A broker on loopback that can be stopped and started again.

    Args:
        folder: for its configuration.
        readers: pattern of topics that a user may read, by name; passwords are the names. {}:
            everybody may read everything.
    """

    def __init__(self, folder: Path, readers: Mapping[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true"]
        if readers:
            rules = folder / "mosquitto.acl"
            # Without a name: the server, which publishes.
            granted = [f"user {name}\ntopic read {topic}" for name, topic in readers.items()]
            rules.write_text("\n".join(("topic write #", *granted, "")))
            # Where root starts it, it becomes another user, who may not read what is in the folder.
            lines += [f"acl_file {rules}", "user root"]
        self._config.write_text("\n".join((*lines, "")))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = await asyncio.create_subprocess_exec(
            program, "-c", self._config, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert self._process.returncode is None, "the broker does not start"
                await asyncio.sleep(0.01)
                continue
            writer.close()
            await writer.wait_closed()
            return

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
