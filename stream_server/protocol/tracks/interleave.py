"""Samples of several channels as one run of interleaved bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stream_server.protocol.audio_format import AudioFormat
from stream_server.protocol.tracks.run import Run

__all__ = ["interleave", "silence"]

_SILENT_BYTE = {"mulaw": b"\xff", "alaw": b"\xd5", "pcm_s16le": b"\x00", "pcm_f32le": b"\x00"}
"""Each byte of a sample that is no sound (ITU-T G.711, tables 1a and 2a: the positive zero)."""
_ITEM: dict[int, Literal["B", "H", "I"]] = {1: "B", 2: "H", 4: "I"}
"""An item of a sample's size for :class:`memoryview`; what it says of bytes' order is of no
interest, as they are only moved."""


def silence(audio_format: AudioFormat, num_ticks: int) -> bytes:
    """Return digital silence on all channels."""
    return _SILENT_BYTE[audio_format.encoding] * (num_ticks * audio_format.bytes_per_tick)


def interleave(channels: Sequence[Sequence[Run]], audio_format: AudioFormat) -> bytes:
    """Return equally long channels as interleaved samples, silence where there is none.

    Args:
        channels: what each consists of.
        audio_format: of the samples.
    """
    silent, size = _SILENT_BYTE[audio_format.encoding], audio_format.bytes_per_sample
    whole = [
        b"".join(
            silent * (run.num_samples * size) if run.data is None else run.data for run in runs
        )
        for runs in channels
    ]
    if len(whole) == 1:
        return whole[0]
    mixed = bytearray(sum(map(len, whole)))
    items = memoryview(mixed).cast(_ITEM[size])
    for index, data in enumerate(whole):
        items[index :: len(whole)] = memoryview(data).cast(_ITEM[size])
    items.release()
    return bytes(mixed)
