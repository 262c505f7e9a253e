"""A PulseAudio server of the test's own, with a microphone that hears what is played to it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VirtualMicrophone", "virtual_microphone"]

_STARTED = "Daemon startup complete"


@dataclass(frozen=True, slots=True)
class VirtualMicrophone:
    """A source that gives what is played into a sink.

    Attributes:
        environment: with which a process sees it as the default source of the ALSA device
            ``pulse``.
        server: the process of the sound server.
    """

    environment: dict[str, str]
    server: subprocess.Popen[str]

    def play(self, path: Path) -> None:
        """Play a file into the microphone; return when all of it was heard."""
        subprocess.run(
            ["paplay", "--device=vmic_sink", str(path)],
            env=self.environment,
            check=True,
            timeout=120,
        )


@contextmanager
def virtual_microphone(folder: Path) -> Iterator[VirtualMicrophone]:
    """Run a sound server with a null sink and a source that is the sink's monitor.

    Needs ``pulseaudio``. Another server on the machine is left alone.

    Args:
        folder: for its socket; an existing, short path, for sockets have names of 107 bytes at
            most.
    """
    socket = folder / "s"
    environment = {
        **os.environ,
        "XDG_RUNTIME_DIR": str(folder),
        "HOME": str(folder),
        "PULSE_SERVER": f"unix:{socket}",
        "PULSE_SOURCE": "vmic",
    }
    folder.chmod(0o700)
    server = subprocess.Popen(
        [
            *("pulseaudio", "-n", "-v", "--daemonize=no", "--use-pid-file=no"),
            *("--exit-idle-time=-1", "--disallow-exit", "--log-target=stderr"),
            *("-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"),
            *("-L", "module-null-sink sink_name=vmic_sink rate=48000 channels=1"),
            *("-L", "module-remap-source source_name=vmic master=vmic_sink.monitor"),
        ],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        log = []
        for line in server.stderr:
            log.append(line)
            if _STARTED in line:
                break
        else:
            raise RuntimeError(f"pulseaudio did not start:\n{''.join(log)}")
        # Read on: a server whose pipe is full stands still.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield VirtualMicrophone(environment, server)
    finally:
        server.kill()
        server.wait()
        assert server.stderr is not None
        server.stderr.close()
