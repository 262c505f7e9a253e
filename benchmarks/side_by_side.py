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
import subprocess
import sys
from pathlib import Path

from benchmarks.live import cpu_s, running_server
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
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                running_server("--model", options.model, checkout=checkout.resolve())
            )
            for checkout in (options.other, Path.cwd())
        ]
        before_s = [cpu_s(pid) for pid, _ in servers]
        clients = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.live_client", "--url", addresses["ingest"]),
                    *("--clients", str(options.clients), "--seconds", str(seconds)),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _, addresses in servers
        ]
        seen = [json.loads(client.communicate(timeout=seconds * 4 + 120)[0]) for client in clients]
        used_s = [cpu_s(pid) - before for (pid, _), before in zip(servers, before_s, strict=True)]
    report = Report({"model": options.model, "clients": options.clients, "seconds": seconds})
    for name, used, row in zip(names, used_s, seen, strict=True):
        cpu_ms = 1000 * used / seconds / options.clients
        report.add(checkout=name, cpu_ms_a_stream_and_s=round(cpu_ms, 2), **row)
    report.summary["times the other"] = round(used_s[1] / used_s[0], 3)
    report.finish(options.json)


if __name__ == "__main__":
    main()
