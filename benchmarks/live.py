"""How many live streams a server carries: a ladder of paced clients until it falls behind.

    python -m benchmarks.live                      built-in models, random base in int8, no model
    python -m benchmarks.live --engines compact    one of them
    python -m benchmarks.live --quick              two small rungs of the built-in model
    python -m benchmarks.live --workers 2          a server of several processes
    python -m benchmarks.live --profile economy    a window of 3 s each second

Every rung is a new server process and a process of clients that send 20 ms of speech every 20 ms
(``benchmarks.live_client`` says how lag is measured). The ladder of an engine ends with the first
rung whose p95 lag exceeds one step, that loses a frame, or where clients fail; the one before is
what the server carries. ``null`` is an engine that answers at once: the server's own cost. Clients
and server share the machine's cores, as the figures' ``late_send_p95_ms`` shows: clients that send
late are too many for the machine, whatever the server does. With ``--workers`` the processor time
of each kind of process for a stream and second (``cpu_ms_*``) says what a machine with more cores
would carry: as many streams as the kind that is full first.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Report, argument_parser

STEP_MS = {"live": 500, "economy": 1000}

LADDERS = {
    "compact": (20, 40, 60, 80, 100, 120, 140, 160, 200),
    "standard": (4, 8, 12, 16, 20, 24, 30, 40),
    "standard_onnx": (4, 8, 12, 16, 20, 24, 30, 40),
    "standard_int8": (4, 8, 12, 16, 20, 24, 30, 40),
    "base_int8": (1, 2, 3, 4, 5, 6, 8),
    "null": (50, 100, 150, 200, 250, 300, 350, 400),
}
QUICK = {"compact": (5, 20), "base_int8": (1,), "null": (20, 50)}
QUICK |= dict.fromkeys(("standard", "standard_onnx", "standard_int8"), (2, 4))
RUNTIMES = {"onnx": "onnx", "int8": "onnx-int8"}
"""By the end of an engine's name; what no end names the settings choose."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One server with one number of clients."""

    engine: str
    clients: int
    seconds: float
    model: str
    runtime: str
    models_dir: str
    workers: int = 0
    profile: str = "live"


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--engines", nargs="+", choices=list(LADDERS), default=list(LADDERS))
    parser.add_argument("--seconds", type=float, default=25.0, help="audio of each client")
    parser.add_argument("--workers", type=int, default=0, help="as `serve --workers`")
    parser.add_argument("--profile", choices=list(STEP_MS), default="live")
    parser.add_argument("--clients", type=int, nargs="+", help="rungs instead of the usual ones")
    options = parser.parse_args(arguments)
    seconds = 12.0 if options.quick else options.seconds
    report = Report(
        {
            "seconds": seconds,
            "engines": options.engines,
            "chunk_ms": 20,
            "workers": options.workers,
            "profile": options.profile,
        }
    )
    engines = ["compact"] if options.quick else options.engines
    with tempfile.TemporaryDirectory() as folder:
        for engine in engines:
            rungs = options.clients or (QUICK if options.quick else LADDERS)[engine]
            model, runtime = _model(engine, Path(folder))
            carried = None
            for clients in rungs:
                models_dir = f"{folder}/models"
                rung = Rung(
                    engine,
                    clients,
                    seconds,
                    model,
                    runtime,
                    models_dir,
                    options.workers,
                    options.profile,
                )
                row = _climb(rung)
                report.add(**row)
                if not _is_carried(row, STEP_MS[options.profile]):
                    break
                carried = row
            _summarise(report, engine, carried)
    report.finish(options.json)


def _model(engine: str, folder: Path) -> tuple[str, str]:
    """Return the model's name or folder, and the runtime."""
    model, _, end = engine.partition("_")
    runtime = RUNTIMES.get(end, "auto")
    if model != "base":
        return model, runtime
    from benchmarks.random_checkpoint import write_random_checkpoint

    return str(write_random_checkpoint(folder / "emotion2vec_plus_base", "base")), runtime


def _climb(rung: Rung) -> dict[str, Any]:
    """Run one rung and return what was seen."""
    with _started(rung) as (pid, addresses):
        processes = _processes(pid)
        idle_kb = sum(map(_memory_kb, processes))
        client = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.live_client", "--url", addresses["ingest"]),
                *("--clients", str(rung.clients), "--seconds", str(rung.seconds)),
                *("--step-ms", str(STEP_MS[rung.profile])),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        # Busy in the middle of the run: everyone has begun and nobody has ended.
        time.sleep(rung.seconds * 0.5)
        begin_s, begin_cpu_s = time.monotonic(), _cpu_by_kind(processes)
        time.sleep(rung.seconds * 0.3)
        took_s = time.monotonic() - begin_s
        used_s = {kind: used - begin_cpu_s[kind] for kind, used in _cpu_by_kind(processes).items()}
        busy_kb = sum(map(_memory_kb, processes))
        output, _ = client.communicate(timeout=rung.seconds * 4 + 120)
    return {
        "engine": rung.engine,
        "clients": rung.clients,
        **json.loads(output),
        "server_cpu_percent": round(100 * sum(used_s.values()) / took_s, 1),
        **{
            f"cpu_ms_{kind}": round(1000 * used / took_s / rung.clients, 3)
            for kind, used in used_s.items()
            if rung.workers
        },
        "server_memory_mb": round(busy_kb / 1024, 1),
        "memory_kb_per_stream": round((busy_kb - idle_kb) / rung.clients, 1),
    }


def _started(rung: Rung) -> AbstractContextManager[tuple[int, dict[str, str]]]:
    return running_server(
        *("--model", rung.model, "--runtime", rung.runtime, "--models-dir", rung.models_dir),
        *("--workers", str(rung.workers), "--profile", rung.profile),
    )


@contextmanager
def running_server(
    *arguments: str, checkout: Path | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Start ``benchmarks.live_server`` with a store of its own, of a checkout, None: of this one.

    Yield its process id and its addresses, ``ingest`` and ``http``, when it is ready.
    """
    environment = {} if checkout is None else {"PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.live_server", *arguments),
                *("--store", f"sqlite:///{folder}/timelines.db"),
            ],
            cwd=checkout,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            ready, _, _ = select.select([server.stdout], [], [], 300)
            if not ready or not (line := server.stdout.readline().strip()):
                raise RuntimeError(f"the server {' '.join(arguments)} did not come up")
            while not line.startswith("{"):
                line = server.stdout.readline().strip()
            yield server.pid, json.loads(line)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _is_carried(row: dict[str, Any], step_ms: int) -> bool:
    return (
        not row["failed"]
        and row["frames_lost"] == 0
        and row.get("lag_p95_ms", float("inf")) <= step_ms
    )


def _summarise(report: Report, engine: str, carried: dict[str, Any] | None) -> None:
    summary = report.summary
    summary[f"{engine}_streams"] = carried["clients"] if carried else 0
    if carried is None:
        return
    lags = ("mean", "p50", "p90", "p95", "p99")
    for figure in (*(f"lag_{lag}_ms" for lag in lags), "first_point_ms", "frames_lost"):
        summary[f"{engine}_{figure}"] = carried[figure]
    summary[f"{engine}_server_cpu_percent"] = carried["server_cpu_percent"]
    if engine == "null" or "server_memory_kb_per_stream" not in summary:
        summary["server_memory_kb_per_stream"] = carried["memory_kb_per_stream"]


def _processes(pid: int) -> dict[int, str]:
    """Return the processes of a server, each with its kind: front, worker or engine."""
    found = {pid: "front"}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        found[int(child)] = "worker" if "worker" in words else "engine"
    return found


def _cpu_by_kind(processes: dict[int, str]) -> dict[str, float]:
    used: dict[str, float] = defaultdict(float)
    for pid, kind in processes.items():
        used[kind] += cpu_s(pid)
    return used


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its threads so far, in s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_kb(pid: int) -> int:
    """Return the resident memory of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
