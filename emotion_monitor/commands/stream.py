"""``emotion-monitor stream``: a microphone, a recording or a pipe, live.

Needs neither torch nor the engine: the server does the work. Exit status: 0 at the end of the
audio and after Ctrl-C, 1 where something failed or Ctrl-C was pressed twice, 2 where the arguments
are wrong.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.commands.options import ServerCertificateOption, raw_format

if TYPE_CHECKING:
    from emotion_monitor.commands.stream_view import Output, StreamBoard
    from mic_client.audio_file import Recording
    from mic_client.sources import Source
    from mic_client.stream_client import StreamOptions


class EncodingName(StrEnum):
    """The values of ``--encoding``."""

    PCM_S16LE = "pcm_s16le"
    PCM_S16BE = "pcm_s16be"
    PCM_S24LE = "pcm_s24le"
    PCM_S32LE = "pcm_s32le"
    PCM_F32LE = "pcm_f32le"
    PCM_F32BE = "pcm_f32be"
    PCM_U8 = "pcm_u8"
    MULAW = "mulaw"
    ALAW = "alaw"
    # Of standard input only. Not imported, so that the command line begins quickly.
    WEBM = "webm"
    OGG = "ogg"
    MP4 = "mp4"
    FLAC = "flac"
    MP3 = "mp3"
    AAC = "aac"
    WAV = "wav"
    AMR = "amr"
    AMR_NB = "amr-nb"
    AMR_WB = "amr-wb"
    OPUS = "opus"
    G722 = "g722"
    G729 = "g729"
    AUTO = "auto"


def check_sources(**given: bool) -> None:
    """Raise unless exactly one source is given."""
    if sum(given.values()) != 1:
        names = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
        raise typer.BadParameter(
            f"got {' and '.join(names) or 'no source'}, expected one of --mic, --file, --stdin and"
            " --sample-call"
        )


def options_of(roles: str, name: str, meta: list[str]) -> StreamOptions:
    """Return the options that describe the stream itself."""
    from mic_client.stream_client import StreamOptions
    from stream_server.wire.messages import ChannelSpec

    metadata = {}
    for entry in meta:
        key, is_pair, value = entry.partition("=")
        if not is_pair or not key:
            raise typer.BadParameter(f"got '{entry}', expected KEY=VALUE", param_hint="--meta")
        metadata[key] = value
    specs = tuple(ChannelSpec(role=role.strip()) for role in roles.split(",") if roles)
    return StreamOptions(channels=specs, name=name, metadata=metadata)


def with_choices(
    options: StreamOptions,
    *,
    wants: str,
    token: str,
    ca_file: Path | None,
    server_certificate: Path | None,
    resume: bool,
) -> StreamOptions:
    """Return the options with those about results and the connection added.

    Raises:
        ClientError: a file of certificates cannot be used.
    """
    from dataclasses import replace

    import msgspec

    from stream_server.wire.messages import Want

    names = [each.strip() for each in wants.split(",") if each.strip()]
    try:
        checked = msgspec.convert(names, frozenset[Want])
    except msgspec.ValidationError:
        raise typer.BadParameter(
            f"got '{wants}', expected some of points, segments, frames, alerts",
            param_hint="--wants",
        ) from None
    tls = None
    if server_certificate is not None or ca_file is not None:
        from mic_client.connection import tls_of_server, tls_trusting

        if server_certificate is not None:
            tls = tls_of_server(server_certificate)
        elif ca_file is not None:
            tls = tls_trusting(ca_file)
    return replace(options, wants=checked, token=token, tls=tls, resume=resume)


def device_of(device: str | None) -> int | str | None:
    """Return a device's number as int; its name as it is."""
    return int(device) if device is not None and device.isdigit() else device


def speed_of(speed: str) -> float:
    """Return the value of ``--speed``."""
    from mic_client.sources import MAX_SPEED

    try:
        value = MAX_SPEED if speed == "max" else float(speed)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise typer.BadParameter(
            f"got '{speed}', expected a number above 0, or max", param_hint="--speed"
        )
    return value


def file_source(
    path: Path,
    encoding: EncodingName | None,
    rate_hz: int | None,
    num_channels: int,
    *,
    speed: float,
    loop: bool,
) -> Source:
    """Return a recording as a source: whatever ``analyze`` reads.

    Raises:
        AudioFileError: it cannot be opened.
        typer.BadParameter: as :func:`raw_format`.
    """
    from mic_client.audio_file import FileSource
    from mic_client.errors import AudioFileError
    from ser_engine.errors import AudioError
    from ser_engine.files.audio import AudioFile

    raw = raw_format(None if encoding is None else encoding.value, rate_hz, num_channels)

    def open_recording(path: Path) -> Recording:
        try:
            return AudioFile(path, raw=raw).decoder
        except AudioError as error:
            raise AudioFileError(str(error)) from None

    return FileSource(path, speed=speed, loop=loop, open_recording=open_recording)


def pipe_source(
    encoding: EncodingName, rate_hz: int | None, num_channels: int, *, live: bool
) -> Source:
    """Return standard input as a source: raw PCM, or what the server is to decode."""
    from mic_client.sources import StdinSource
    from stream_server.wire.audio_format import AudioFormat
    from stream_server.wire.codecs import default_rate_hz

    if sys.stdin.isatty():
        raise typer.BadParameter(
            "got a terminal, expected a pipe: arecord … | emotion-monitor stream --stdin",
            param_hint="--stdin",
        )
    rate_hz = default_rate_hz(encoding.value) if rate_hz is None else rate_hz
    return StdinSource(AudioFormat.told(encoding.value, rate_hz, num_channels), live=live)


_DEFAULT_URL = "ws://localhost:8765"


def stream(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Address of the server's audio port.")
    ] = _DEFAULT_URL,
    mic: Annotated[bool, typer.Option("--mic", help="Stream a microphone.")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NUMBER|NAME", help="Microphone by number or part of its name."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Stream a recording.")
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            "--speed",
            metavar="1|N|max",
            help="Pace of a recording: as heard, N times as fast, without waiting.",
        ),
    ] = "1",
    loop: Annotated[
        bool, typer.Option("--loop", help="Repeat the recording until stopped.")
    ] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Stream standard input: raw PCM, or a codec.")
    ] = False,
    sample_call: Annotated[
        bool,
        typer.Option("--sample-call", help="Stream the sample call (two channels, synthesised)."),
    ] = False,
    encoding: Annotated[
        EncodingName | None,
        typer.Option(
            "--encoding",
            help="Encoding of standard input (pcm_s16le if not given; auto finds codecs and"
            " containers by their first bytes), or of a file without a header.",
        ),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            metavar="HZ",
            help="Sample rate of standard input (16000 if not given, or the codec's), of a file"
            " without a header or for a microphone.",
        ),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(
            "--channels",
            metavar="N",
            help="Channels of standard input, of a raw file or of a microphone.",
        ),
    ] = 1,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Standard input cannot wait, such as arecord's output: drop raw audio rather than"
            " block.",
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
    name: Annotated[
        str, typer.Option("--name", help="Name of the stream, shown on the dashboard.")
    ] = "",
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta", metavar="KEY=VALUE", help="Metadata kept with the stream; may be repeated."
        ),
    ] = None,
    wants: Annotated[
        str,
        typer.Option(
            "--wants",
            metavar="WHAT,…",
            help="Results to receive: points, segments, frames (20 ms), alerts.",
        ),
    ] = "points,segments,alerts",
    token: Annotated[
        str,
        typer.Option(
            "--token", envvar="EMOTION_MONITOR_TOKEN", help="Access token for the server."
        ),
    ] = "",
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            metavar="FILE",
            envvar="EMOTION_MONITOR_CA_FILE",
            help="Trust the certificate authorities of this PEM file, for wss://.",
        ),
    ] = None,
    server_certificate: ServerCertificateOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume", help="Reconnect and continue after the connection is lost."
        ),
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON only, one message a line.")
    ] = False,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List microphones and exit.")
    ] = False,
) -> None:
    """Stream a microphone, a recording or a pipe and watch the emotion live."""
    from mic_client.errors import MicClientError
    from stream_server.wire.errors import ProtocolError

    try:
        if list_devices:
            _print_devices()
            return
        check_sources(mic=mic, file=file is not None, stdin=stdin, sample_call=sample_call)
        options = options_of(roles or ("agent,customer" if sample_call else ""), name, meta or [])
        options = with_choices(
            options,
            wants=wants,
            token=token,
            ca_file=ca_file,
            server_certificate=server_certificate,
            resume=resume,
        )
        times_real_time = speed_of(speed)
        source: Source
        try:
            if file is not None:
                source = file_source(
                    file, encoding, rate, channels, speed=times_real_time, loop=loop
                )
            elif stdin:
                told = EncodingName.PCM_S16LE if encoding is None else encoding
                source = pipe_source(told, rate, channels, live=live)
            elif sample_call:
                from mic_client.audio_file import load_sample_call
                from mic_client.sources import ArraySource

                source = ArraySource(*load_sample_call(), speed=times_real_time, loop=loop)
            else:
                from mic_client.microphone import MicrophoneSource

                source = MicrophoneSource(
                    device=device_of(device), sample_rate_hz=rate, num_channels=channels
                )
        except ProtocolError as error:
            raise typer.BadParameter(str(error)) from error
        _run(source, url, options, as_json=as_json)
    except MicClientError as error:
        print(f"emotion-monitor: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except OSError as error:
        # The client reports errors of files and of the network as its own: what is left is the
        # output, e.g. a full disk.
        if not isinstance(error, BrokenPipeError):
            print(f"emotion-monitor: cannot write the results: {error.strerror}", file=sys.stderr)
        # At exit Python flushes standard output again, and would print the same error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def _print_devices() -> None:
    from mic_client.devices import list_devices

    devices = list_devices()
    if not devices:
        print("emotion-monitor: no input device found", file=sys.stderr)
    for device in devices:
        print(device)


def _run(source: Source, url: str, options: StreamOptions, *, as_json: bool) -> None:
    import asyncio

    from emotion_monitor.commands.stream_view import (
        ChannelBoard,
        JsonOutput,
        LineOutput,
        LiveOutput,
        StreamBoard,
    )

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

    from mic_client.sources import MeteredSource
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
        # Not available on Windows, nor outside the main thread.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, interrupt)
    try:
        await following
    except asyncio.CancelledError:
        if not is_cut_short.is_set():
            raise
    return not is_cut_short.is_set()
