"""``emotion-monitor serve``, the server, and ``engine``, an engine alone; in the foreground."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

import typer

from emotion_monitor.commands.options import settings_of
from ser_engine.errors import ConfigError

if TYPE_CHECKING:
    from emotion_monitor.settings import Settings
    from ser_engine.config import Profile


def serve(
    context: typer.Context,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address to listen on.  [default: stream_server.listen.host]"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port for audio; 0: any free port.  [default: 8765]"),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(
            "--http-port",
            help="Port for dashboard, API, feeds and metrics; 0: any free port.  [default: 7860]",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Processes that take in streams; 0: all in one process; auto: one for every four"
            " cores.  [default: stream_server.processes.workers]",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="How often streams are scored: live, economy, or auto, by what the engine can do."
            "  [default: ser_engine.timeline.profile]",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Also stream the sample call to the server.")
    ] = False,
) -> None:
    """Run the server: receive audio, analyse it live, publish the results."""
    from emotion_monitor.event_loop import run
    from emotion_monitor.serve import run_server
    from stream_server.engines.pool import end_process
    from stream_server.logs import configure_logging
    from stream_server.tracing import configure_tracing

    settings = _changed(settings_of(context), host, port, http_port, workers, profile)
    configure_logging(settings.stream_server.logging)
    configure_tracing(settings.stream_server.tracing, "server")
    status = run(run_server(settings, demo=demo))
    end_process(status)


def engine(
    context: typer.Context,
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="ADDRESS",
            help="Where servers reach it: zmq:///PATH on this machine, zmq://HOST:PORT elsewhere,"
            " without authentication; ray:///NAME: replicas on the Ray cluster that this machine is"
            " part of.",
        ),
    ],
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="With ray://, fewest replicas.")
    ] = 1,
    max_replicas: Annotated[
        int,
        typer.Option(
            "--max-replicas", min=0, help="Most replicas while windows wait; 0: as --replicas."
        ),
    ] = 0,
    cpus: Annotated[
        float, typer.Option("--cpus", min=0.01, help="With ray://, cores of a replica.")
    ] = 1.0,
    gpus: Annotated[
        float, typer.Option("--gpus", min=0, help="And GPUs, as 0.5 for two replicas on one.")
    ] = 0.0,
) -> None:
    """Run an engine for servers whose ser_engine.model.name is its address."""
    from emotion_monitor.event_loop import run
    from emotion_monitor.processes import run_engine
    from emotion_monitor.ray_application import run_ray_engine
    from stream_server.engines.pool import end_process
    from stream_server.engines.ray_pool import SCHEME
    from stream_server.engines.ray_replica import ReplicaSettings
    from stream_server.logs import configure_logging
    from stream_server.tracing import configure_tracing

    settings = settings_of(context)
    configure_logging(settings.stream_server.logging)
    configure_tracing(settings.stream_server.tracing, "engine")
    if not listen.startswith(f"{SCHEME}://"):
        end_process(run(run_engine(settings, listen)))
    wanted = ReplicaSettings(
        settings.ser_engine,
        replicas,
        max(replicas, max_replicas),
        cpus=cpus,
        gpus=gpus,
        tracing=settings.stream_server.tracing,
    )
    end_process(run(run_ray_engine(wanted, listen)))


def cluster_demo(
    http_port: Annotated[
        int, typer.Option("--http-port", help="Port for the dashboard; 0: any free port.")
    ] = 7860,
) -> None:
    """Run several servers on this machine, with calls: two gateways, two engines, one dashboard.

    NATS and PostgreSQL are started for it, in a folder that is removed at the end. With the extra
    ray the engines are replicas of Ray Serve.
    """
    import asyncio

    from emotion_monitor.commands.options import note
    from emotion_monitor.event_loop import until_signal
    from emotion_monitor.local_cluster import (
        DASHBOARD,
        GATEWAYS,
        LocalCluster,
        has_ray,
        play_call,
        what_is_missing,
    )

    if missing := what_is_missing():
        note(f"the demo of several servers needs more: {'; '.join(missing)}")
        raise typer.Exit(1)

    async def play(cluster: LocalCluster) -> None:
        stopped = until_signal()
        while not stopped.done():
            calls = [
                asyncio.ensure_future(play_call(cluster.ingest_url(name), f"Call at {name}"))
                for name in GATEWAYS
            ]
            await asyncio.wait([asyncio.gather(*calls), stopped], return_when="FIRST_COMPLETED")
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    engines = "Ray with two engines" if has_ray() else "two engines"
    note(f"starting NATS, PostgreSQL, {engines}, two gateways and a dashboard")
    with LocalCluster(dashboard_port=http_port, on_ray=has_ray()) as cluster:
        typer.echo(f"dashboard is at    {cluster.http_url(DASHBOARD)}")
        for name in GATEWAYS:
            typer.echo(f"{name} is at     {cluster.ingest_url(name)}, {cluster.http_url(name)}")
        note("both gateways get calls, and one wall shows them all. Stop it with Ctrl-C")
        asyncio.run(play(cluster))


def capacity(
    context: typer.Context,
    seconds: Annotated[
        float,
        typer.Option("--seconds", help="Seconds to measure for, without loading.", min=1),
    ] = 60.0,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="NAME", help="Model to measure; repeat.  [default: all on disk]"
        ),
    ] = None,
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="NAME",
            help="Runtime to measure, as ser_engine.model.runtime; repeat.  [default: all]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure how many live streams this machine carries, and print the settings for it."""
    from emotion_monitor import capacity as measuring
    from emotion_monitor.commands.options import note
    from ser_engine.models.registry import inventory

    settings = settings_of(context)
    names = models or list(dict.fromkeys(one.name for one in inventory(settings.ser_engine.model)))
    note(f"measuring {', '.join(names)}; other programs should be quiet meanwhile")
    found = []
    for result in measuring.measure_all(settings, names, runtimes or measuring.RUNTIMES, seconds):
        if isinstance(result, str):
            note(result)
            continue
        found.append(result)
        if not as_json:
            typer.echo(measuring.line_of(result))
    if as_json:
        typer.echo(measuring.document_of(found, settings.ser_engine))
    elif found:
        typer.echo(measuring.advice_of(found))
    raise typer.Exit(0 if found else 1)


def _changed(
    settings: Settings,
    host: str | None,
    port: int | None,
    http_port: int | None,
    workers: str | None,
    profile: str | None,
) -> Settings:
    from stream_server.config import ProcessesConfig

    listen = settings.stream_server.listen
    listen = replace(
        listen,
        host=listen.host if host is None else host,
        port=listen.port if port is None else port,
        http_port=listen.http_port if http_port is None else http_port,
    )
    processes = settings.stream_server.processes
    if workers is not None:
        processes = ProcessesConfig(_number_of(workers))
    ser_engine = settings.ser_engine
    if profile is not None:
        try:
            timeline = replace(ser_engine.timeline, profile=cast("Profile", profile))
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
        ser_engine = replace(ser_engine, timeline=timeline)
    return settings.model_copy(
        update={
            "ser_engine": ser_engine,
            "stream_server": replace(settings.stream_server, listen=listen, processes=processes),
        }
    )


def _number_of(workers: str) -> int:
    if workers == "auto":
        # Streams take about a quarter of what the engine does, so few cores are best left to one
        # process, which does not copy windows from one to the other.
        return len(os.sched_getaffinity(0)) // 4 if hasattr(os, "sched_getaffinity") else 0
    if not workers.isdecimal():
        raise typer.BadParameter(f"got --workers {workers}, expected a number or auto")
    return int(workers)
