"""What the arguments of ``emotion-monitor stream`` mean; wrong ones are ``typer.BadParameter``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mic_client.sources import Source
    from mic_client.stream_client import StreamOptions


class EncodingName(StrEnum):
    """The values of ``--encoding``."""

    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"


def check_sources(**asked: bool) -> None:
    """Raise unless exactly one source is asked for."""
    if sum(asked.values()) != 1:
        names = [f"--{name.replace('_', '-')}" for name, is_asked in asked.items() if is_asked]
        raise typer.BadParameter(
            f"got {' and '.join(names) or 'no source'}, expected one of --mic, --file, --stdin and"
            " --sample-call"
        )


def options_of(roles: str, name: str, meta: list[str]) -> StreamOptions:
    """Return what is asked of the server, as far as it is about the stream itself."""
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


def with_choices(options: StreamOptions, *, wants: str, token: str, resume: bool) -> StreamOptions:
    """Return the options with what is asked about results and connection."""
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
    return replace(options, wants=checked, token=token, resume=resume)


def device_of(device: str | None) -> int | str | None:
    """Return the number that a device's number is."""
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


def source_of(
    *,
    device: int | str | None,
    file: Path | None,
    speed: float,
    loop: bool,
    stdin: bool,
    live: bool,
    sample_call: bool,
    encoding: EncodingName,
    rate_hz: int | None,
    num_channels: int,
) -> Source:
    """Return the source that is asked for.

    Raises:
        SourceError: it cannot be had.
    """
    from stream_server.wire.audio_format import AudioFormat
    from stream_server.wire.errors import ProtocolError

    try:
        if file is not None:
            from mic_client.audio_file import FileSource

            return FileSource(file, speed=speed, loop=loop)
        if stdin:
            from mic_client.sources import StdinSource

            if sys.stdin.isatty():
                raise typer.BadParameter(
                    "got a terminal, expected a pipe: arecord … | emotion-monitor stream --stdin",
                    param_hint="--stdin",
                )
            audio_format = AudioFormat(encoding.value, rate_hz or 16_000, num_channels)
            return StdinSource(audio_format, live=live)
        if sample_call:
            from mic_client.sample_call import make_sample_call
            from mic_client.sources import ArraySource

            return ArraySource(*make_sample_call(), speed=speed, loop=loop)
        from mic_client.microphone import MicrophoneSource

        return MicrophoneSource(device, sample_rate_hz=rate_hz, num_channels=num_channels)
    except ProtocolError as error:
        raise typer.BadParameter(str(error)) from error
