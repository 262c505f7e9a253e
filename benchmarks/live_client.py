"""Paced clients for ``benchmarks.live``: microphones by the dozen, in a process of their own.

    python -m benchmarks.live_client --url ws://127.0.0.1:8765 --clients 50 --seconds 20

Every client sends 20 ms of speech every 20 ms (``--chunk-ms``) and reads its results. A point's
**lag** is the time from sending the last sample its window needed, one look-ahead after the point's
end, to having the point: what the server adds to what the window itself takes. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
from websockets.asyncio.client import connect

from benchmarks.report import percentile
from benchmarks.speech import corpus_stream, shared_speech_dir, stand_in_speech

__all__ = ["main"]

_RATE_HZ = 16_000
_FRAME_S = 0.02
_SPEECH_STREAMS = 8
"""Different recordings; clients share them, each beginning somewhere else."""
_LOST_REASONS = ("overload", "error", "lost")


@dataclass(slots=True)
class Findings:
    """What the clients of a run saw.

    Attributes:
        lags_s: of every point after the warm-up.
        first_points_s: from a client's first sample to its first point.
        gap_s: seconds of final gaps by reason.
        scored_s: seconds of final segments.
        widened: points that tell of more than one step.
        late_sends_s: how late the worst chunk of each client was sent, against its own pace.
        failed: clients that did not get through, by reason.
    """

    lags_s: list[float] = field(default_factory=list)
    first_points_s: list[float] = field(default_factory=list)
    gap_s: Counter[str] = field(default_factory=Counter)
    scored_s: float = 0.0
    widened: int = 0
    late_sends_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Return the figures, times in ms."""
        lost_s = sum(self.gap_s[reason] for reason in _LOST_REASONS)
        figures: dict[str, Any] = {
            "points": len(self.lags_s),
            "frames_lost": round(lost_s / _FRAME_S),
            "scored_s": round(self.scored_s, 1),
            "widened_points": self.widened,
            "gap_s": {reason: round(length, 2) for reason, length in self.gap_s.items()},
            "failed": dict(self.failed),
        }
        if self.lags_s:
            figures["lag_mean_ms"] = round(fmean(self.lags_s) * 1000, 1)
            for percent in (50, 90, 95, 99):
                figures[f"lag_p{percent}_ms"] = round(percentile(self.lags_s, percent) * 1000, 1)
        if self.first_points_s:
            figures["first_point_ms"] = round(percentile(self.first_points_s, 50) * 1000, 1)
        if self.late_sends_s:
            figures["late_send_p95_ms"] = round(percentile(self.late_sends_s, 95) * 1000, 1)
        return figures


@dataclass(slots=True)
class Run:
    """What all clients of a run share."""

    url: str
    seconds: float
    warm_up_s: float
    speech: list[bytes]
    chunk_s: float = 0.02
    findings: Findings = field(default_factory=Findings)


def main(arguments: list[str] | None = None) -> None:
    """Run the clients and print what they saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--chunk-ms", type=float, default=20.0, help="audio of one message")
    parser.add_argument("--warm-up", type=float, default=6.0, help="seconds that do not count")
    parser.add_argument("--step-ms", type=float, default=500.0, help="over which clients begin")
    options = parser.parse_args(arguments)
    speech = _speech(options.seconds)
    run = Run(options.url, options.seconds, options.warm_up, speech, options.chunk_ms / 1000)
    asyncio.run(_run_all(run, options.clients, options.step_ms / 1000))
    print(json.dumps(run.findings.to_json()))


def _speech(seconds: float) -> list[bytes]:
    folder = shared_speech_dir()
    corpora = ("emodb", "ravdess", "nemo_pl")
    streams = []
    for seed in range(_SPEECH_STREAMS):
        samples = (
            corpus_stream(folder, corpora[seed % len(corpora)], seconds, seed)
            if folder
            else stand_in_speech(seconds, seed)
        )
        loud = samples * (0.5 / max(float(np.abs(samples).max()), 1e-6))
        streams.append((loud * 32767).astype("<i2").tobytes())
    return streams


async def _run_all(run: Run, clients: int, step_s: float) -> None:
    # Spread over a step, as calls begin when they like.
    async with asyncio.TaskGroup() as group:
        for index in range(clients):
            group.create_task(_client(run, index, step_s * index / clients + 0.002 * index))


async def _client(run: Run, index: int, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    try:
        await _stream(run, index)
    except (OSError, TimeoutError) as error:
        run.findings.failed[type(error).__name__] += 1
    except Exception as error:
        run.findings.failed[f"{type(error).__name__}: {error}"[:120]] += 1


async def _stream(run: Run, index: int) -> None:
    async with connect(run.url, compression=None, max_queue=64, close_timeout=30) as socket:
        start = {"type": "start", "encoding": "pcm_s16le", "sample_rate": _RATE_HZ}
        await socket.send(json.dumps(start))
        ready = msgspec.json.decode(await socket.recv())
        if ready["type"] != "ready":
            run.findings.failed[str(ready.get("code"))] += 1
            return
        began_s = time.perf_counter()
        reader = asyncio.create_task(_read(run, socket, began_s, ready["look_ahead_ms"] / 1000))
        await _send(run, socket, run.speech[index % len(run.speech)], began_s)
        await socket.send('{"type": "stop"}')
        await reader


async def _send(run: Run, socket: Any, speech: bytes, began_s: float) -> None:
    chunk_bytes = round(run.chunk_s * _RATE_HZ) * 2
    latest_s = 0.0
    for number in range(round(run.seconds / run.chunk_s)):
        due_s = began_s + (number + 1) * run.chunk_s
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        else:
            latest_s = max(latest_s, -wait_s)
        at = number * chunk_bytes % max(len(speech) - chunk_bytes, 1)
        at -= at % 2
        await socket.send(speech[at : at + chunk_bytes])
    run.findings.late_sends_s.append(latest_s)


async def _read(run: Run, socket: Any, began_s: float, look_ahead_s: float) -> None:
    findings, first = run.findings, True
    async for text in socket:
        now_s = time.perf_counter() - began_s
        message = msgspec.json.decode(text)
        match message["type"]:
            case "point":
                findings.widened += message["widened"]
                if first:
                    findings.first_points_s.append(now_s)
                    first = False
                sent_s = message["end_s"] + look_ahead_s
                if run.warm_up_s < sent_s < run.seconds:
                    findings.lags_s.append(now_s - sent_s)
            case "gap" if message["final"]:
                findings.gap_s[message["reason"]] += message["end_s"] - message["start_s"]
            case "segment" if message["final"]:
                findings.scored_s += message["end_s"] - message["start_s"]
            case "error":
                findings.failed[message["code"]] += 1


if __name__ == "__main__":
    main()
