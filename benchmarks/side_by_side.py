"""What a live stream costs the server of this checkout and of another, at the same time.

    git worktree add ../before v1.2
    python -m benchmarks.side_by_side ../before --clients 8

Both servers run at once, each with as many clients (``benchmarks.live_client``), so that whatever
else the machine does slows both down: the ratio of their processor times can be trusted where times
cannot. Servers that fall behind are no measurement: see the lag.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.live import cpu_s
from benchmarks.report import Report, argument_parser


def main(arguments: list[str] | None = None) -> None:
    """Measure and report."""
    parser = argument_parser("What a live stream costs the servers of two checkouts.")
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--model", default="null", help="as of benchmarks.live_server")
    parser.add_argument("--clients", type=int, default=8, help="of each server")
    parser.add_argument("--seconds", type=float, default=25.0, help="audio of each client")
    options = parser.parse_args(arguments)
    seconds = 12.0 if options.quick else options.seconds
    names = ("other", "this")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                running_server(checkout.resolve(), options.model, f"{folder}/{name}")
            )
            for name, checkout in zip(names, (options.other, Path.cwd()), strict=True)
        ]
        before_s = [cpu_s(pid) for pid, _ in servers]
        clients = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.live_client", "--url", url),
                    *("--clients", str(options.clients), "--seconds", str(seconds)),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _, url in servers
        ]
        seen = [json.loads(client.communicate(timeout=seconds * 4 + 120)[0]) for client in clients]
        used_s = [cpu_s(pid) - before for (pid, _), before in zip(servers, before_s, strict=True)]
    report = Report({"model": options.model, "clients": options.clients, "seconds": seconds})
    for name, used, row in zip(names, used_s, seen, strict=True):
        cpu_ms = 1000 * used / seconds / options.clients
        report.add(checkout=name, cpu_ms_a_stream_and_s=round(cpu_ms, 2), **row)
    report.summary["times the other"] = round(used_s[1] / used_s[0], 3)
    report.finish(options.json)


@contextlib.contextmanager
def running_server(checkout: Path, model: str, store: str) -> Iterator[tuple[int, str]]:
    """Start the server of a checkout; yield its process id and address when it is ready."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.live_server", "--model", model),
            *("--store", f"sqlite:///{store}.db"),
        ],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        ready, _, _ = select.select([server.stdout], [], [], 300)
        if not ready or not (line := server.stdout.readline()):
            raise RuntimeError(f"the server of {checkout} did not come up")
        while not line.startswith("{"):
            line = server.stdout.readline()
        address: dict[str, Any] = json.loads(line)
        yield server.pid, address["ingest"]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


if __name__ == "__main__":
    main()
