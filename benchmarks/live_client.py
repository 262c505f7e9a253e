"""Paced clients for ``benchmarks.live``: microphones by the dozen, in a process of their own.

    python -m benchmarks.live_client --url ws://127.0.0.1:8765 --clients 50 --seconds 20

Every client sends 20 ms of speech every 20 ms (``--chunk-ms``) and reads its results. A point's
**lag** is the time from sending the last sample its window needed, one look-ahead after the point's
end, to having the point: what the server adds to what the window itself takes. Prints one JSON
object.

The clients are to cost as little as can be, for they share the cores of the server that is
measured: the frames of a recording are made once, all clients that play it write the same bytes,
and one timer paces all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from benchmarks.report import percentile
from benchmarks.speech import corpus_stream, shared_speech_dir, stand_in_speech

_RATE_HZ = 16_000
_FRAME_S = 0.02
_TICK_S = 0.001
_SPEECH_STREAMS = 8
"""Different recordings, which clients share."""
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
    """What all clients of a run share.

    Attributes:
        frames: of each recording the WebSocket frames, one a chunk.
    """

    url: str
    seconds: float
    warm_up_s: float
    frames: list[list[bytes]]
    chunk_s: float = 0.02
    findings: Findings = field(default_factory=Findings)
    pacer: _Pacer = field(init=False)

    def __post_init__(self) -> None:
        self.pacer = _Pacer(self.chunk_s)


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
    chunk_s = options.chunk_ms / 1000
    frames = [_frames(each, chunk_s) for each in _speech(options.seconds)]
    run = Run(options.url, options.seconds, options.warm_up, frames, chunk_s)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_run_all(run, options.clients, options.step_ms / 1000))
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


def _frames(speech: bytes, chunk_s: float) -> list[bytes]:
    """Return the chunks of a recording, each as a client's frame is on the wire."""
    chunk_bytes = round(chunk_s * _RATE_HZ) * 2
    starts = range(0, len(speech) - chunk_bytes + 1, chunk_bytes)
    return [
        Frame(Opcode.BINARY, speech[at : at + chunk_bytes]).serialize(mask=True) for at in starts
    ]


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


async def _run_all(run: Run, clients: int, step_s: float) -> None:
    loop = asyncio.get_running_loop()
    address = parse_uri(run.url)
    ended: list[asyncio.Future[None]] = []
    for index in range(clients):
        make = partial(_Client, run, run.frames[index % len(run.frames)], address)
        try:
            _, client = await loop.create_connection(make, address.host, address.port)
        except OSError as error:
            run.findings.failed[type(error).__name__] += 1
        else:
            ended.append(client.ended)
        # Spread over a step, as calls begin when they like.
        await asyncio.sleep(step_s / clients + 0.002)
    if ended:
        await asyncio.wait(ended)


class _Pacer:
    """Lets each client send every ``chunk_s``, with one timer for all of them."""

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self._due: deque[tuple[float, _Client]] = deque()  # the one that is due next first
        self._is_running = False

    def add(self, client: _Client, due_s: float) -> None:
        """Begin with a client, whose first frame is due one chunk from now."""
        # So it is due after all others.
        self._due.append((due_s, client))
        if not self._is_running:
            self._is_running = True
            self._tick()

    def _tick(self) -> None:
        now_s = time.perf_counter()
        while self._due and self._due[0][0] <= now_s:
            due_s, client = self._due.popleft()
            if client.send(due_s):
                self._due.append((due_s + self._chunk_s, client))
        if self._due:
            wait_s = max(self._due[0][0] - now_s, _TICK_S)
            asyncio.get_running_loop().call_later(wait_s, self._tick)
        else:
            self._is_running = False


class _Client(asyncio.Protocol):
    """One client: a WebSocket whose audio is written by itself, and all else by ``websockets``."""

    def __init__(self, run: Run, frames: list[bytes], address: WebSocketURI) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._run = run
        self._frames = frames
        self._protocol = ClientProtocol(address, max_size=None)
        self._transport: asyncio.Transport | None = None
        self._began_s = self._look_ahead_s = 0.0
        self._sent = 0  # frames
        self._count = round(run.seconds / run.chunk_s)
        self._latest_s = 0.0
        self._is_full = self._has_point = False

    def connection_made(self, transport: Any) -> None:
        """Ask for the WebSocket."""
        self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Read what the server sends."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                if self._protocol.state is State.OPEN:
                    start = {"type": "start", "encoding": "pcm_s16le", "sample_rate": _RATE_HZ}
                    self._protocol.send_text(json.dumps(start).encode())
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._take(msgspec.json.decode(event.data))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note how it ended."""
        findings = self._run.findings
        if exc is not None:
            findings.failed[type(exc).__name__] += 1
        elif self._sent < self._count:
            findings.failed["closed early"] += 1
        else:
            findings.late_sends_s.append(self._latest_s)
        self.ended.set_result(None)

    def pause_writing(self) -> None:
        """Wait: the server does not read."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.write_eof()

    def send(self, due_s: float) -> bool:
        """Write what is due until then; return whether more will be."""
        assert self._transport is not None
        if self._transport.is_closing():
            return False
        # More than one where the server did not read for a while.
        due = min(round((due_s - self._began_s) / self._run.chunk_s), self._count)
        self._latest_s = max(self._latest_s, time.perf_counter() - due_s)
        while self._sent < due and not self._is_full:
            self._transport.write(self._frames[self._sent % len(self._frames)])
            self._sent += 1
        if self._sent == self._count:
            self._protocol.send_text(b'{"type": "stop"}')
            self._flush()
        return self._sent < self._count

    def _take(self, message: dict[str, Any]) -> None:
        findings, run = self._run.findings, self._run
        now_s = time.perf_counter() - self._began_s
        match message["type"]:
            case "ready":
                self._look_ahead_s = message["look_ahead_ms"] / 1000
                self._began_s = time.perf_counter()
                run.pacer.add(self, self._began_s + run.chunk_s)
            case "point":
                findings.widened += message["widened"]
                if not self._has_point:
                    findings.first_points_s.append(now_s)
                    self._has_point = True
                sent_s = message["end_s"] + self._look_ahead_s
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
