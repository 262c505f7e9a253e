"""Where the processor time of a live stream goes in the server, stage by stage.

    pip install py-spy
    python -m benchmarks.stages --svg benchmarks/results/stages.svg

A server without a model, with paced clients (``benchmarks.live_client``), is sampled by py-spy, 100
times a second without being stopped. A sample belongs to the innermost function that
:data:`STAGES` knows. Samples of the event loop alone are its own work, the system's, and the
waiting of a thread that could run, on a machine that is busy: the last line, of which no time is
made. The processor time of the process, by the system's count, is shared out among the others.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.live import cpu_s, running_server
from benchmarks.report import Report, argument_parser

STAGES: tuple[tuple[str, str], ...] = (
    ("speech detector: network", r"^(_run|Network\.\w+) \(ser_engine/timeline/silero"),
    ("speech detector: the rest", r"timeline/(silero|tones|speech)\.py"),
    ("voice: pitch, syllables", r"timeline/voice\.py"),
    ("quality", r"timeline/quality\.py"),
    ("labels, segments", r"timeline/(segments|smoothing|baseline|course)\.py"),
    ("bytes to samples", r"streams/intake\.py|raw_audio\.py|resample\.py"),
    ("samples, slots, windows", r"ser_engine/timeline/|streams/session\.py"),
    ("to the engine and back", r"streams/lane\.py|ser_engine/core/|engines/"),
    ("results numbered and published", r"session_results|bus\.py|live_streams|_publish \(|store/"),
    ("results sent", r"_send_results|send_at_once|send_texts|wire/feed_messages"),
    ("messages received", r"streams/(socket|connection|runner|hearing)\.py"),
)
"""Of each stage its name, and what its functions look like; the first of them that fits."""
_LOOP = "the loop, the system, waiting"


def main(arguments: list[str] | None = None) -> None:
    """Measure and report."""
    parser = argument_parser("Where the processor time of a live stream goes, stage by stage.")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="time that is sampled")
    parser.add_argument("--svg", type=Path, help="file for the flame graph")
    options = parser.parse_args(arguments)
    seconds = 8.0 if options.quick else options.seconds
    report = Report({"clients": options.clients, "seconds": seconds})
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder, "stacks")
        with running_server("--model", "null") as (pid, addresses):
            clients = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.live_client", "--url", addresses["ingest"]),
                    *("--clients", str(options.clients), "--seconds", str(2 * seconds + 12)),
                ],
                stdout=subprocess.DEVNULL,
            )
            time.sleep(8)
            before_s = cpu_s(pid)
            _sample(pid, seconds, "raw", stacks)
            cpu_ms = 1000 * (cpu_s(pid) - before_s) / seconds / options.clients
            if options.svg is not None:
                _sample(pid, seconds, "flamegraph", options.svg)
            clients.terminate()
            clients.wait()
        samples = by_stage(stacks.read_text().splitlines())
    working = samples.total() - samples[_LOOP]
    for stage, count in samples.most_common():
        share = count / working
        is_work = stage != _LOOP
        report.add(
            stage=stage,
            samples=count,
            share=round(share, 3) if is_work else None,
            cpu_ms_a_stream_and_s=round(share * cpu_ms, 2) if is_work else None,
        )
    report.summary["cpu ms a stream and s"] = round(cpu_ms, 2)
    report.finish(options.json)


def by_stage(stacks: Iterable[str]) -> Counter[str]:
    """Return the samples of each stage, of collapsed stacks: frames from the outside in, a count.

    Of the event loop's thread: the others wait, and are hardly ever seen to do more.
    """
    samples: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        if "asyncio/runners.py" not in stack:
            continue
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        samples[_stage(frames)] += int(count)
    return samples


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        # Of a path only what lies in the checkout or in the packages.
        known = re.sub(r"\(\S*?((ser_engine|stream_server)/)", r"(\1", frame)
        for stage, pattern in STAGES:
            if re.search(pattern, known):
                return stage
    return _LOOP


def _sample(pid: int, seconds: float, form: str, out: Path) -> None:
    subprocess.run(
        [
            *("py-spy", "record", "--nonblocking", "--pid", str(pid), "--rate", "100"),
            *("--duration", str(round(seconds)), "--format", form, "--output", str(out)),
        ],
        check=True,
        capture_output=True,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )


if __name__ == "__main__":
    main()
