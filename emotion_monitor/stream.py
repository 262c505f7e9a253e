"""``emotion-monitor stream``: a microphone, a recording or a pipe, live.

Needs neither torch nor the engine: the server does the work. Exit status: 0 at the end of the
audio and after Ctrl-C, 1 where something failed or Ctrl-C was pressed twice, 2 where the arguments
are wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.stream_arguments import (
    EncodingName,
    check_sources,
    device_of,
    options_of,
    source_of,
    speed_of,
    with_choices,
)

if TYPE_CHECKING:
    from emotion_monitor.stream_output import Output
    from emotion_monitor.stream_view import StreamBoard
    from mic_client.sources import Source
    from mic_client.stream_client import StreamOptions

_DEFAULT_URL = "ws://localhost:8765"


def stream(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Of the stream server.")
    ] = _DEFAULT_URL,
    mic: Annotated[bool, typer.Option("--mic", help="Stream a microphone.")] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NUMBER|NAME", help="Which one; part of a name will do."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Stream a recording.")
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            "--speed", metavar="1|N|max", help="Of a recording: as heard, N times that, no wait."
        ),
    ] = "1",
    loop: Annotated[bool, typer.Option("--loop", help="Repeat a recording for ever.")] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Stream raw PCM from standard input.")
    ] = False,
    sample_call: Annotated[
        bool, typer.Option("--sample-call", help="Stream a synthesised call, agent and customer.")
    ] = False,
    encoding: Annotated[
        EncodingName, typer.Option("--encoding", help="Of standard input.")
    ] = EncodingName.PCM_S16LE,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            metavar="HZ",
            help="Sample rate of standard input (16000 if not given) or for a microphone.",
        ),
    ] = None,
    channels: Annotated[
        int, typer.Option("--channels", metavar="N", help="Of standard input or a microphone.")
    ] = 1,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Standard input goes on by itself, as arecord's: never let it wait."
        ),
    ] = False,
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles",
            "--role",
            metavar="ROLE,…",
            help="Who speaks in each channel, e.g. customer,agent or driver.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the stream, for people.")] = "",
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Kept with the stream; may be repeated."),
    ] = None,
    wants: Annotated[
        str,
        typer.Option(
            "--wants", metavar="WHAT,…", help="Of points, segments, frames (20 ms) and alerts."
        ),
    ] = "points,segments,alerts",
    token: Annotated[
        str,
        typer.Option("--token", envvar="EMOTION_MONITOR_TOKEN", help="Access token of the server."),
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Whether to connect again when cut off.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a message, nothing else.")
    ] = False,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List what can record and exit.")
    ] = False,
) -> None:
    """Stream a microphone, a recording or a pipe and watch the emotion live."""
    from mic_client.errors import MicClientError

    try:
        if list_devices:
            _print_devices()
            return
        check_sources(mic=mic, file=file is not None, stdin=stdin, sample_call=sample_call)
        options = options_of(roles or ("agent,customer" if sample_call else ""), name, meta or [])
        options = with_choices(options, wants=wants, token=token, resume=resume)
        source = source_of(
            device=device_of(device),
            file=file,
            speed=speed_of(speed),
            loop=loop,
            stdin=stdin,
            live=live,
            sample_call=sample_call,
            encoding=encoding,
            rate_hz=rate,
            num_channels=channels,
        )
        _run(source, url, options, as_json=as_json)
    except MicClientError as error:
        print(f"emotion-monitor: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except OSError as error:
        # Errors of files and of the network have been told apart above: this one is the output's.
        if not isinstance(error, BrokenPipeError):
            print(f"emotion-monitor: cannot write the results: {error.strerror}", file=sys.stderr)
        # Python would complain of it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def _print_devices() -> None:
    from mic_client.devices import list_devices

    devices = list_devices()
    if not devices:
        print("emotion-monitor: there is no input device", file=sys.stderr)
    for device in devices:
        print(device)


def _run(source: Source, url: str, options: StreamOptions, *, as_json: bool) -> None:
    import asyncio

    from emotion_monitor.stream_output import JsonOutput, LineOutput, LiveOutput
    from emotion_monitor.stream_view import ChannelBoard, StreamBoard

    roles = [each.role for each in options.channels] or ["speaker"] * source.format.num_channels
    if len(roles) != source.format.num_channels:
        raise typer.BadParameter(
            f"got {len(roles)} roles, expected {source.format.num_channels}: one for each channel",
            param_hint="--roles",
        )
    board = StreamBoard([ChannelBoard(role) for role in roles])
    output: Output
    if as_json:
        output = JsonOutput()
    elif sys.stdout.isatty():
        output = LiveOutput(board)
    else:
        output = LineOutput(board)
    if not asyncio.run(_stream(source, url, options, board, output)):
        raise typer.Exit(1)


async def _stream(
    source: Source, url: str, options: StreamOptions, board: StreamBoard, output: Output
) -> bool:
    """Stream to the end; return False if it was cut short by a second Ctrl-C."""
    import asyncio
    import signal
    from contextlib import suppress

    from mic_client.microphone import MeteredSource
    from mic_client.stream_client import StreamClient

    try:
        client = StreamClient(MeteredSource(source, board.hear), url, options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    loop = asyncio.get_running_loop()
    is_cut_short = asyncio.Event()

    async def follow() -> None:
        async with output, client:
            async for event in client:
                board.take(event, client.stream_start_s)
                output.say(event)

    def interrupt() -> None:
        if board.is_stopping:
            is_cut_short.set()
            following.cancel()
            return
        board.is_stopping = True
        output.say_stopping()
        client.stop()

    following = asyncio.create_task(follow())
    for number in (signal.SIGINT, signal.SIGTERM):
        # Neither on Windows nor outside the main thread.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, interrupt)
    try:
        await following
    except asyncio.CancelledError:
        if not is_cut_short.is_set():
            raise
    return not is_cut_short.is_set()
