"""Packets of a codec on one clock, before anything decodes them.

How much time a packet holds can be read without decoding it, and the aligner only moves samples,
never looks at them. So instead of every sample it gets that sample's number: what comes out says
which sample of which packet belongs where, after loss, reordering and drift. Only then are the
packets decoded, elsewhere, in the order in which they were sent; what came late or twice never is.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from stream_server.tracks import TrackAligner
from stream_server.tracks.track import TrackStats
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, CodedAudio, CodedPacket, bad_message

_LAST_NUMBER = (1 << 32) - 1
_NUMBER_BYTES = 4
_MAX_PACKET_S = 1
"""Longer packets are refused: no platform has them, and they have to be held."""
_OPUS_MS = (
    # By the configuration number (RFC 6716, section 3.1, table 2).
    *(10, 20, 40, 60) * 3,  # SILK
    *(10, 20) * 2,  # hybrid
    *(2.5, 5, 10, 20) * 4,  # CELT
)
_OPUS_MAX_MS = 120
_OPUS_MAX_FRAME_BYTES = 1275


def _g722_samples(payload: bytes) -> int:
    # 64 kbit/s: 8 bits hold two samples, one of each half of the band (ITU-T G.722, section 1.3).
    return 2 * len(payload)


def opus_samples(payload: bytes) -> int:
    """Return how many samples at 48 kHz a packet holds (RFC 6716, section 3); 0: it is none."""
    if not payload:
        return 0
    frame_ms, code = _OPUS_MS[payload[0] >> 3], payload[0] & 3
    frames = (1, 2, 2)[code] if code < 3 else payload[1] & 63 if len(payload) > 1 else 0
    # [R5] of section 3.4, and [R2]: what follows the headers fits into the frames.
    if frames * frame_ms > _OPUS_MAX_MS or len(payload) > (frames + 1) * _OPUS_MAX_FRAME_BYTES:
        return 0
    return round(frames * frame_ms * 48)


TRACK_CODECS: dict[str, tuple[int, Callable[[bytes], int]]] = {
    "g722": (16_000, _g722_samples),
    "opus": (48_000, opus_samples),
}
"""Codecs that tracks may come in: the rate of their samples, and how many a packet holds."""


def track_format(codec: str, num_channels: int) -> AudioFormat:
    rate_hz, _ = TRACK_CODECS[codec]
    return AudioFormat("pcm_s16le", rate_hz, num_channels, codec, per_track=True)


class CodedTracks:
    """A :class:`TrackAligner` for packets of a codec.

    Args:
        max_jitter_ms: longest wait for a packet, in audio that came meanwhile.
    """

    def __init__(self, audio_format: AudioFormat, *, max_jitter_ms: int = 200) -> None:
        self._codec = audio_format.codec
        self._rate_hz, self._samples_of = TRACK_CODECS[self._codec]
        # Any format whose samples have four bytes: none of them is read.
        numbers = AudioFormat("pcm_f32le", self._rate_hz, audio_format.num_channels)
        self._aligner = TrackAligner(numbers, max_jitter_ms=max_jitter_ms)
        self._next = [1] * audio_format.num_channels  # 0: where the aligner puts silence

    def put(
        self,
        channel: int,
        payload: bytes,
        *,
        at_tick: int | None = None,
        number: int | None = None,
        silence: int = 0,
    ) -> list[CodedAudio]:
        """Take a packet; return it, and what is complete with it. See :meth:`TrackAligner.put`.

        Args:
            at_tick: time of its first sample, or of the silence before it.
            silence: samples of silence before it, which the sender did not send.

        Raises:
            ProtocolError: BAD_MESSAGE: it is no packet of the codec.
        """
        num_samples = self._samples_of(payload)
        if not 0 < num_samples <= _MAX_PACKET_S * self._rate_hz:
            raise bad_message(f"got {len(payload)} bytes that are no packet of {self._codec}")
        first = self._next[channel]
        if first + num_samples > _LAST_NUMBER:
            first = 1
        self._next[channel] = first + num_samples
        numbers = array("I", range(first, first + num_samples)).tobytes()
        if silence:
            numbers = bytes(silence * _NUMBER_BYTES) + numbers
        placed = self._aligner.put(channel, numbers, at_tick=at_tick, number=number)
        return [CodedAudio(CodedPacket(channel, first, num_samples, payload), tuple(placed))]

    def rest(
        self, channel: int, silence: int, *, at_tick: int | None = None, number: int | None = None
    ) -> list[CodedAudio]:
        """Take a packet that holds no audio, in whose place there is silence, or nothing."""
        numbers = bytes(silence * _NUMBER_BYTES)
        placed = self._aligner.put(channel, numbers, at_tick=at_tick, number=number)
        return [CodedAudio(None, tuple(placed))] if placed else []

    def flush(self) -> list[CodedAudio]:
        """Return everything that is held. See :meth:`TrackAligner.flush`."""
        placed: list[AudioData] = self._aligner.flush()
        return [CodedAudio(None, tuple(placed))] if placed else []

    @property
    def stats(self) -> TrackStats:
        return self._aligner.stats
