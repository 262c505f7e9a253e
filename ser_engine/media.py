"""Encoded audio through FFmpeg (PyAV): the first audio track of an open file, as packed samples.

The container's format is named, never guessed, and FFmpeg gets the open file, never its name: a
playlist that calls itself a recording can then name no other file and no address for it to open.
Recordings are read with it, and live streams in a process of their own, which therefore imports
neither NumPy nor anything else of this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av


class MediaError(Exception):
    """The audio cannot be decoded; the text says why."""


def library_errors() -> tuple[type[Exception], ...]:
    """Return what PyAV raises of damaged input. Raises ImportError: it is not installed."""
    import av

    return (av.error.FFmpegError, ValueError, OverflowError)


def open_media(
    file: Any, container: str, options: Mapping[str, str] | None = None, buffer_bytes: int = 32_768
) -> av.container.InputContainer:
    """Open a file for reading.

    Args:
        file: has ``read``, and ``seek`` if it can.
        container: FFmpeg's name of its format.
        buffer_bytes: how far back what cannot seek can be read again.

    Raises:
        ImportError: PyAV is not installed.
        MediaError: it is no such file.
    """
    import av

    try:
        return av.open(
            file,
            format=container,
            options=dict(options or {}),
            buffer_size=buffer_bytes,
            metadata_errors="replace",
        )
    except library_errors() as error:
        raise MediaError(f"it cannot be read: {reason_of(error)}") from None


def audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    """Return the first audio track.

    Raises:
        MediaError: there is none, or FFmpeg has no decoder for it.
    """
    streams = container.streams.audio
    if not streams:
        raise MediaError("it holds no audio")
    stream = streams[0]
    if stream.codec_context is None:
        # FFmpeg knows the container and has no decoder for what is in it.
        raise MediaError("FFmpeg has no decoder for its codec")
    # More would not be quicker for one track of audio, and live streams need the cores.
    stream.codec_context.thread_count = 1
    return stream


class Packed:
    """Makes interleaved samples of frames; whatever the codec gives, in one form and at one rate.

    Channels stay: they are never mixed.

    Args:
        sample_format: FFmpeg's name of the packed form, ``s16`` or ``flt``.
        rate_hz: of the output; 0: that of the first frame.
        channels: expected of every frame; 0: as the first.
    """

    def __init__(self, sample_format: str, rate_hz: int = 0, channels: int = 0) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        self._format = sample_format
        self._convert: Any = None
        self._input_hz = 0

    def push(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """Yield packed frames: what came of ``frame``.

        Raises:
            MediaError: it has other channels than expected.
        """
        import av

        channels = len(frame.layout.channels)
        self.channels = self.channels or channels
        if channels != self.channels:
            raise MediaError(
                f"got {channels} channels in the middle, expected {self.channels} as at the start"
            )
        if frame.sample_rate != self._input_hz:
            yield from self.flush()
            self._input_hz = frame.sample_rate
            self.rate_hz = self.rate_hz or frame.sample_rate
            self._convert = av.AudioResampler(
                format=self._format, layout=frame.layout, rate=self.rate_hz
            )
        yield from self._convert.resample(frame)

    def flush(self) -> Iterator[av.AudioFrame]:
        """Yield what is held back, at the end or before time without audio."""
        if self._convert is not None:
            yield from self._convert.resample(None)
            # A converter that was flushed takes no more.
            self._convert, self._input_hz = None, 0


def reason_of(error: Exception) -> str:
    """Return what an error says, without its number."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).rstrip(".").lower()
