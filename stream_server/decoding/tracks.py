"""Decoders of a call's tracks: packets that have their place in time become samples there.

See :mod:`stream_server.tracks.coded`. Each track has a decoder of its own, for a codec remembers
what came before; it gets the track's packets in the order in which they were sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import numpy as np
import numpy.typing as npt

from stream_server.decoding.process import AudioDecoder
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, CodedAudio, CodedPacket, LostSpan

Samples = npt.NDArray[np.int16]

_MAX_HELD_S = 10
"""Audio of a track's packets that wait to be named. The aligner names none that are older: it holds
at most twice ``max_jitter_ms``."""


class TrackDecoders:
    """Decodes one stream whose channels come in packets of their own.

    Args:
        audio_format: of the stream; it is ``per_track``.
        stream_id: for the log.

    Raises:
        ProtocolError: BAD_FORMAT: this server has nothing to decode with.
    """

    def __init__(self, audio_format: AudioFormat, stream_id: str = "") -> None:
        self.received_bytes = 0
        self._tracks = [_Track(audio_format, stream_id) for _ in range(audio_format.num_channels)]

    async def decode(self, audio: CodedAudio, wanted: Collection[int]) -> AsyncIterator[AudioData]:
        """Yield the samples of what has its place; channels that are not ``wanted`` are silent.

        Raises:
            ProtocolError: BAD_FORMAT: it cannot be decoded, and neither can what follows.
        """
        if audio.came is not None:
            self.received_bytes += len(audio.came.payload)
            if audio.came.channel in wanted:
                self._tracks[audio.came.channel].hold(audio.came)
        for placed in audio.placed:
            numbers = np.frombuffer(placed.data, np.uint32).reshape(-1, len(self._tracks))
            samples = np.zeros(numbers.shape, "<i2")
            lost = list(placed.lost)
            for channel in wanted:
                column = samples[:, channel]
                for start, end in await self._tracks[channel].fill(numbers[:, channel], column):
                    lost.append(LostSpan(channel, start, end))
            lost.sort(key=lambda span: (span.channel, span.start_tick))
            yield AudioData(samples.tobytes(), tuple(lost))

    def kill(self) -> None:
        for track in self._tracks:
            track.decoder.kill()

    async def aclose(self) -> None:
        await asyncio.gather(*(track.decoder.aclose() for track in self._tracks))


class _Track:
    """The packets of one channel, and their decoder."""

    def __init__(self, audio_format: AudioFormat, stream_id: str) -> None:
        rate_hz = audio_format.sample_rate_hz
        one = AudioFormat("pcm_s16le", rate_hz, 1, audio_format.codec)
        self.decoder = AudioDecoder(one, stream_id)
        self._max_held = _MAX_HELD_S * rate_hz
        self._held: dict[int, CodedPacket] = {}  # by their first number, as they came
        self._num_held = 0
        # The packet that was named last; its samples are None if it could not be decoded.
        self._named: CodedPacket | None = None
        self._samples: Samples | None = None

    def hold(self, packet: CodedPacket) -> None:
        """Keep a packet until it is named."""
        self._held[packet.first] = packet
        self._num_held += packet.num_samples
        while self._num_held > self._max_held:
            self._take(next(iter(self._held)))

    async def fill(self, numbers: npt.NDArray[np.uint32], out: Samples) -> list[tuple[int, int]]:
        """Put the samples that ``numbers`` name into ``out``; return spans that are lost, too."""
        lost: list[tuple[int, int]] = []
        at = 0
        while at < len(numbers):
            number = int(numbers[at])
            if number == 0:
                at += _num_true(numbers[at:] == 0)
                continue
            packet = self._named
            if packet is None or not 0 <= number - packet.first < packet.num_samples:
                packet = await self._decode(number)
            if packet is None:
                # It was held for too long, which takes a client that repeats others without end.
                lost.append((at, at + 1))
                at += 1
                continue
            # Numbers below the first wrap around to far more.
            offsets = numbers[at:] - np.uint32(packet.first)
            offsets = offsets[: _num_true(offsets < packet.num_samples)]
            end = at + len(offsets)
            if self._samples is None:
                lost.append((at, end))
            else:
                out[at:end] = self._samples[offsets]
            at = end
        return lost

    async def _decode(self, number: int) -> CodedPacket | None:
        """Return the packet with a sample, decoded; None: it is not held any more."""
        found = (p for p in self._held.values() if 0 <= number - p.first < p.num_samples)
        packet = next(found, None)
        if packet is None:
            return None
        self._take(packet.first)
        self._named, self._samples = packet, None
        pieces = [piece async for piece in self.decoder.decode(packet.payload)]
        if any(isinstance(piece, int) for piece in pieces):
            return packet
        decoded = np.frombuffer(b"".join(p for p in pieces if isinstance(p, bytes)), "<i2")
        # A decoder may begin with fewer; what it has is the end of the packet.
        self._samples = np.zeros(packet.num_samples, np.int16)
        decoded = decoded[-packet.num_samples :]
        self._samples[packet.num_samples - len(decoded) :] = decoded
        return packet

    def _take(self, first: int) -> CodedPacket:
        packet = self._held.pop(first)
        self._num_held -= packet.num_samples
        return packet


def _num_true(mask: npt.NDArray[np.bool_]) -> int:
    """Return how many values are true before the first that is not."""
    return len(mask) if mask.all() else int(mask.argmin())
