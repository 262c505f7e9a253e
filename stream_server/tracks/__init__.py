"""Audio of a call that comes in packets, track by track, put on one clock.

Packets of all channels in, interleaved audio out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stream_server.tracks.drift import TickSource
from stream_server.tracks.track import Run, Track, TrackStats
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, LostSpan

# Each byte of a silent sample (ITU-T G.711, tables 1a and 2a: the positive zero, on the wire).
_SILENT_BYTE = {"mulaw": b"\xff", "alaw": b"\xd5", "pcm_s16le": b"\x00", "pcm_f32le": b"\x00"}
# An item of a sample's size for :class:`memoryview`. Samples are only moved, so signs and byte
# order do not matter.
_ITEM: dict[int, Literal["B", "H", "I"]] = {1: "B", 2: "H", 4: "I"}


def silence(audio_format: AudioFormat, num_ticks: int) -> bytes:
    """Return digital silence on all channels."""
    return _SILENT_BYTE[audio_format.encoding] * (num_ticks * audio_format.bytes_per_tick)


def interleave(channels: Sequence[Sequence[Run]], audio_format: AudioFormat) -> bytes:
    """Return equally long channels as interleaved samples, lost runs as silence."""
    silent, size = _SILENT_BYTE[audio_format.encoding], audio_format.bytes_per_sample
    whole = [
        b"".join(
            silent * (run.num_samples * size) if run.data is None else run.data for run in runs
        )
        for runs in channels
    ]
    return _interleaved(whole, size)


def _interleaved(whole: Sequence[bytes], size: int) -> bytes:
    if len(whole) == 1:
        return whole[0]
    mixed = bytearray(len(whole) * len(whole[0]))
    # Strided assignment of a memoryview interleaves without a Python loop and without numpy.
    items = memoryview(mixed).cast(_ITEM[size])
    for index, data in enumerate(whole):
        items[index :: len(whole)] = memoryview(data).cast(_ITEM[size])
    # An exported buffer keeps the bytearray from being read out.
    items.release()
    return bytes(mixed)


# Times and numbers beyond are treated as missing.
_MAX_TICK = 1 << 60


class TrackAligner:
    """Puts the packets of a call on one clock; :mod:`.track` and :mod:`.drift` say how.

    The clock begins with the first audio of any channel and counts samples, as the packets' times
    do. Output comes in order, all channels together, once every channel has audio or is given up: a
    channel is lost where another, or its own later packets, are ``max_jitter_ms`` of audio ahead.
    Waiting is measured in audio, not by a clock: nothing comes out while nothing comes in.

    A channel without times is placed by its numbers, one without either by its last packet. Such a
    channel begins at the packet that another channel was given last, and resumes there after more
    than ``max_jitter_ms`` of it in a row came too late.

    At most ``max_jitter_ms`` of audio and one packet are held for each channel, and 256 packets.

    Args:
        audio_format: of the packets, and of the output; every packet is of one channel.
        max_jitter_ms: longest wait for a packet, in audio that came meanwhile.
        ticks: whether ``at_tick`` is the platform's time of the ``media``, which errs to both
            sides, or the time of ``arrival``, which errs to one.
    """

    def __init__(
        self, audio_format: AudioFormat, *, max_jitter_ms: int = 200, ticks: TickSource = "media"
    ) -> None:
        self._format = audio_format
        self._wait = audio_format.sample_rate_hz * max_jitter_ms // 1000
        self._tracks = [
            Track(audio_format, self._wait, ticks) for _ in range(audio_format.num_channels)
        ]
        self._at: int | None = None  # end of what was returned; None until the clock begins
        self._silent_block = silence(audio_format, audio_format.sample_rate_hz)

    def put(
        self,
        channel: int,
        payload: bytes,
        *,
        at_tick: int | None = None,
        number: int | None = None,
    ) -> list[AudioData]:
        """Take a packet; return the audio that is complete, in pieces of at most a second.

        Args:
            payload: encoded samples; an incomplete one at the end is dropped.
            at_tick: its time in samples a channel, from any origin that all channels share.
            number: counts the packets of the channel, from any first number.

        Raises:
            ValueError: there is no such channel.
        """
        if not 0 <= channel < len(self._tracks):
            raise ValueError(f"got channel {channel}, expected 0 to {len(self._tracks) - 1}")
        payload = payload[: len(payload) - len(payload) % self._format.bytes_per_sample]
        self._tracks[channel].put(
            payload, _bounded(at_tick), _bounded(number), self._others_at(channel)
        )
        self._give_up()
        return self._take()

    def flush(self) -> list[AudioData]:
        """Return everything that is held; channels that end earlier are lost to the end."""
        for channel, track in enumerate(self._tracks):
            track.flush(self._others_at(channel))
        ends = [track.filled for track in self._tracks if track.filled is not None]
        if not ends:
            return []
        self._begin()
        for track in self._tracks:
            track.fill(max(ends))
        return self._take()

    @property
    def stats(self) -> TrackStats:
        return TrackStats(tuple(track.stats for track in self._tracks))

    def _others_at(self, channel: int) -> int | None:
        """Return the latest position of the other channels; None before they have one."""
        latest: int | None = None
        for index, track in enumerate(self._tracks):
            start = track.latest_start
            if index != channel and start is not None and (latest is None or start > latest):
                latest = start
        return latest

    def _give_up(self) -> None:
        """Give up what other channels are more than the wait ahead of."""
        # Forcing one channel may place packets that put it ahead of the others: until it settles.
        limit: int | None = None
        while True:
            ahead: int | None = None
            for track in self._tracks:
                if track.position is not None and (ahead is None or track.position > ahead):
                    ahead = track.position
            if ahead is None or ahead - self._wait == limit:
                return
            limit = ahead - self._wait
            if self._at is not None and all(track.reaches(limit) for track in self._tracks):
                return
            if self._at is None:
                # The clock cannot go back, so it begins only when no channel may still come with
                # an earlier packet.
                begun = [track.start for track in self._tracks if track.start is not None]
                if not begun or (len(begun) < len(self._tracks) and min(begun) >= limit):
                    return
                self._begin()
            for track in self._tracks:
                track.force(limit)

    def _begin(self) -> None:
        """Begin the clock where the earliest channel begins."""
        if self._at is None:
            self._at = min(track.start for track in self._tracks if track.start is not None)
            for track in self._tracks:
                track.begin(self._at)

    def _take(self) -> list[AudioData]:
        """Return what is filled on all channels."""
        pieces: list[AudioData] = []
        if self._at is None:
            return pieces
        end = min(self._at if t.filled is None else t.filled for t in self._tracks)
        while self._at < end:
            length = min(end - self._at, self._format.sample_rate_hz)
            pieces.append(self._piece(length))
            self._at += length
        return pieces

    def _piece(self, num_ticks: int) -> AudioData:
        runs = [track.take(num_ticks) for track in self._tracks]
        data = [parts[0].data for parts in runs if len(parts) == 1 and parts[0].data is not None]
        if len(data) == len(runs):
            # As nearly always: a packet of each, and nothing lost.
            return AudioData(_interleaved(data, self._format.bytes_per_sample))
        lost = tuple(
            span for channel, parts in enumerate(runs) for span in _lost_spans(channel, parts)
        )
        if all(run.data is None for parts in runs for run in parts):
            size = num_ticks * self._format.bytes_per_tick
            # A hole may last minutes: every second of it is the same object.
            block = self._silent_block
            return AudioData(block if size == len(block) else block[:size], lost)
        return AudioData(interleave(runs, self._format), lost)


def _lost_spans(channel: int, runs: list[Run]) -> list[LostSpan]:
    spans: list[LostSpan] = []
    at = 0
    for run in runs:
        if run.data is None:
            if spans and spans[-1].end_tick == at:
                spans[-1] = LostSpan(channel, spans[-1].start_tick, at + run.num_samples)
            else:
                spans.append(LostSpan(channel, at, at + run.num_samples))
        at += run.num_samples
    return spans


def _bounded(value: int | None) -> int | None:
    return value if value is not None and -_MAX_TICK <= value <= _MAX_TICK else None
