"""The server for the benchmarks ``live``, ``dashboard`` and ``soak``, with any engine.

    python -m benchmarks.live_server --model null

Prints the two addresses as one JSON line and serves until it is told to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.moody_engine import load_moody
from benchmarks.null_engine import load_null
from emotion_monitor.dashboard import serve_dashboard
from emotion_monitor.event_loop import run
from emotion_monitor.processes import front_server
from emotion_monitor.settings import Settings
from ser_engine.config import EngineConfig, ModelConfig, TimelineConfig
from stream_server.access import ListenConfig
from stream_server.cluster.zeromq import ZmqHost
from stream_server.config import LimitsConfig, ProcessesConfig, ServerConfig, StoreConfig
from stream_server.engines.host import EngineHost
from stream_server.engines.opening import Load, local_engine
from stream_server.engines.pool import EnginePool
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.asterisk import AudioSocketConfig
from stream_server.server import Server

_MADE_UP = {"null": load_null, "moody": load_moody}
"""Engines that compute nothing."""


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="compact", help="compact, null, moody, or a folder")
    parser.add_argument("--runtime", default="auto", help="as ser_engine.model.runtime")
    parser.add_argument("--threads", type=int, default=0, help="as ser_engine.model.threads")
    parser.add_argument("--store", default="", help="SQLAlchemy URL; none: nothing is stored")
    parser.add_argument(
        "--models-dir", default="", help="what is prepared of a model; none: a folder that goes"
    )
    parser.add_argument("--dashboard", action="store_true", help="serve the dashboard too")
    parser.add_argument(
        "--resume-window-s", type=float, default=30.0, help="how long lost clients are waited for"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that take streams in")
    parser.add_argument(
        "--profile",
        default="live",
        choices=["live", "economy", "auto"],
        help="as ser_engine.timeline.profile",
    )
    parser.add_argument("--lend", default="", help="be only the engine of --model, at an address")
    options = parser.parse_args(arguments)
    made_up = _MADE_UP.get(options.model)
    name = "compact" if made_up else options.model
    # Random weights are nothing that other servers should find and take for a model.
    with tempfile.TemporaryDirectory() as folder:
        model = ModelConfig(
            name=name,
            models_dir=options.models_dir or folder,
            runtime=options.runtime,
            threads=options.threads,
            offline=True,
        )
        timeline = TimelineConfig(profile=options.profile)
        _run(EngineConfig(model=model, timeline=timeline), made_up, options)


def _run(engine_config: EngineConfig, made_up: Load | None, options: argparse.Namespace) -> None:
    engines = None
    if made_up is not None:
        engines = EnginePool(
            config=engine_config, open_engine=functools.partial(local_engine, load=made_up)
        )
    if options.lend:
        assert engines is not None, "other engines have a process of their own: emotion-monitor"
        run(_lend(engines, options.lend))
        return
    config = ServerConfig(
        listen=ListenConfig("127.0.0.1", 0, 0),
        limits=LimitsConfig(max_streams=10_000, resume_window_s=options.resume_window_s),
        processes=ProcessesConfig(options.workers),
        store=StoreConfig(url=options.store),
        telephony=TelephonyConfig(audiosocket=AudioSocketConfig(port=-1)),
    )
    settings = Settings(ser_engine=engine_config, stream_server=config)
    serve_more = functools.partial(serve_dashboard, settings) if options.dashboard else None
    if not options.workers:
        server = Server(engine_config, config, engines=engines, serve_more=serve_more)
        run(_serve(server))
        return
    with _lent(settings, options.model if made_up else "") as elsewhere:
        run(_serve(front_server(elsewhere, serve_more)))


@contextlib.contextmanager
def _lent(settings: Settings, model: str) -> Iterator[Settings]:
    """Yield settings by which workers find an engine that computes nothing, in a process."""
    if not model:
        yield settings
        return
    with tempfile.TemporaryDirectory() as folder:
        url = f"zmq://{folder}/engine"
        engine = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.live_server", "--model", model, "--lend", url]
        )
        try:
            config = settings.ser_engine
            config = replace(config, model=replace(config.model, name=url))
            yield settings.model_copy(update={"ser_engine": config})
        finally:
            engine.terminate()
            engine.wait()


async def _lend(engines: EnginePool, url: str) -> None:
    await engines.start()
    await EngineHost(engines, ZmqHost(url)).run()


async def _serve(server: Server) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        print(json.dumps({"ingest": server.ingest_url, "http": server.http_url}), flush=True)
        await stopped.wait()


if __name__ == "__main__":
    main()
