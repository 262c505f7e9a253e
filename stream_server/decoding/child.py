"""The child that decodes one stream: ``python -m stream_server.decoding.child JOB``.

Messages in both directions are a byte that says what, a length of four bytes (big-endian) and so
many bytes. In::

    D  bytes of the stream, any number; of codecs without a container one packet
    A  time passed that the container's times may or may not show: they are read anew
    E  the end

Out, after each of them, what came of it and then ``K``::

    S  samples: 16 bits, little-endian, interleaved, at the rate of the job
    L  so many samples a channel never came (eight bytes)
    K  all that was sent is used up; more is needed
    F  what FFmpeg says of an error, for the log
    X  why the audio cannot be decoded, in words; the last message

How bytes are split into messages changes nothing: FFmpeg reads from them as from one file. It
blocks in a read, which is when ``K`` is sent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ser_engine.media import (
    MediaError,
    Packed,
    audio_stream,
    ffmpeg_words,
    library_errors,
    open_media,
    reason_of,
)

if TYPE_CHECKING:
    import av

MEMORY_BYTES = 384 << 20
"""What the child may allocate; it takes 15 MB."""
MAX_MESSAGE_BYTES = 1 << 26
"""Longer messages than any that a server takes."""

_MAX_BARREN_BYTES = 1 << 18
"""Bytes without a sample that are enough to give up: FFmpeg looks for a beginning for ever."""
_MAX_BAD_PACKETS = 100
"""Packets in a row that cannot be decoded."""
_OPTIONS = {
    # What a stream holds is known from its header or first packet. FFmpeg's own figures make it
    # wait for up to 5 s of audio first.
    "probesize": "2048",
    "analyzeduration": "0",
}
_BUFFER_BYTES = 1 << 18
"""What FFmpeg can go back in a stream, as it does in the header of MP4."""
_MAX_HEADER_BYTES = 1 << 24
"""Header with tags and pictures: FLAC's blocks are no longer, and covers rarely have a tenth."""
_MP3_HEAD_BYTES = 4096
_LEAST_HEAD_BYTES = 64
_OUT_BYTES = 1 << 16

_TOLERANCE_S = 0.03
"""How far a container's times may be off the count of samples: WebM's are those of the recorder's
clock, in milliseconds. A hole of more is audio that never came."""
_RESTART_S = -1.0
"""Times that far back are of a new recording in the same stream."""
_FORGIVEN_S = 2.0
"""How long after a pause its jump may come: what was read before is decoded first."""
_USUAL_PACKET_S = 0.02
_MAX_DOUBTS = 25
"""Packets in a row that are damaged, or of another length than the last: random bytes pass for
packets of Opus half of the time, but not for those of one stream."""

_NO_AUDIO = "it holds no audio that can be decoded"

_HEAD = struct.Struct(">cI")


class Pipe:
    """Messages from and to the server: standard input and output, message by message."""

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()

    def receive(self) -> tuple[bytes, bytes]:
        kind, length = _HEAD.unpack(self._exactly(_HEAD.size))
        if length > MAX_MESSAGE_BYTES:
            os._exit(1)
        return kind, self._exactly(length)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        data = memoryview(_HEAD.pack(kind, len(payload)) + payload)
        while data:
            data = data[os.write(self._out, data) :]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = os.read(self._in, count - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return data


class _Input:
    """The bytes of the stream as FFmpeg reads them. It cannot be sought in.

    Attributes:
        received: bytes that came.
        barren: bytes that were read since the last sample.
        is_over: the end came.
    """

    def __init__(self, pipe: Pipe, on_anchor: Callable[[], None]) -> None:
        self.received = self.barren = 0
        self.is_over = False
        self._pipe = pipe
        self._on_anchor = on_anchor
        self._data = bytearray()
        self._owes_answer = False
        self._head_bytes = 0

    @property
    def ended_in_its_head(self) -> bool:
        """Whether no more came than what comes before the audio."""
        return self.is_over and self.received <= max(self._head_bytes, _LEAST_HEAD_BYTES)

    def read(self, count: int) -> bytes:
        """Return some bytes, at most ``count``; none at the end."""
        while not self._data and not self.is_over and self.barren <= _MAX_BARREN_BYTES:
            self._receive()
        data = bytes(self._data[:count])
        del self._data[:count]
        self.barren += len(data)
        # A read that fails would be a traceback of PyAV's; the end is enough.
        return b"" if self.barren > _MAX_BARREN_BYTES else data

    def messages(self) -> Iterator[bytes]:
        """Yield what came, message by message, until the end."""
        while not self.is_over:
            self._receive()
            if not self.is_over:
                data = bytes(self._data)
                self._data.clear()
                yield data

    def await_bytes(self, count: int) -> None:
        """Wait until so many bytes came, or the end."""
        while len(self._data) < count and not self.is_over:
            self._receive()

    def await_head(self, name: str) -> None:
        """Wait until what comes before the audio is known, if that is told; it may be long.

        Raises:
            MediaError: it is too long, or no header of its kind.
        """
        match name:
            case "mov":
                self.await_moov()
            case "mp3" | "aac":
                # The tag's size has seven bits a byte (id3.org, ID3v2.4, section 3.1).
                self.await_bytes(10)
                if self._data[:3] == b"ID3" and len(self._data) >= 10:
                    sizes = self._data[6:10]
                    self._expect(10 + sum(each << 7 * (3 - at) for at, each in enumerate(sizes)))
                if name == "mp3":
                    # FFmpeg looks for an index in the first frames, and goes back.
                    self.await_bytes(_MP3_HEAD_BYTES)
            case "flac" | "wav":
                self._await_blocks(name)
            case "amr":
                self.await_bytes(12)
                if b"_MC" in self._data[:12]:
                    raise MediaError("got AMR of several channels, expected one channel")

    def _await_blocks(self, name: str) -> None:
        """Go through the blocks before the audio: RFC 9639, section 8, or chunks of RIFF."""
        at, is_last = (4, False) if name == "flac" else (12, False)
        if (name == "flac" and self._begins(b"fLaC")) or (name == "wav" and self._begins(b"RIFF")):
            while not is_last:
                self.await_bytes(at + 8)
                if len(self._data) < at + 8:
                    return
                if name == "flac":
                    is_last = bool(self._data[at] & 128)
                    at += 4 + int.from_bytes(self._data[at + 1 : at + 4], "big")
                else:
                    is_last = self._data[at : at + 4] == b"data"
                    size = int.from_bytes(self._data[at + 4 : at + 8], "little")
                    # Chunks begin at even places; the audio's size may be none.
                    at += 8 if is_last else 8 + size + size % 2
                self._expect(at)

    def _begins(self, mark: bytes) -> bool:
        self.await_bytes(len(mark))
        return self._data.startswith(mark)

    def _expect(self, count: int) -> None:
        """Let the first bytes be no audio."""
        if count > _MAX_HEADER_BYTES:
            raise MediaError(
                f"got {count} bytes before the audio, expected at most {_MAX_HEADER_BYTES};"
                " send it without pictures"
            )
        self.barren = -count
        self._head_bytes = count

    def await_moov(self) -> None:
        """Wait until the header of an MP4 stream is whole: FFmpeg goes back and forth in it.

        Raises:
            MediaError: the audio comes before it, or it is too long.
        """
        at = 0
        while True:
            self.await_bytes(at + 8)
            if len(self._data) < at + 8:
                return
            length, kind = struct.unpack_from(">I4s", self._data, at)
            if kind in (b"mdat", b"moof"):
                raise MediaError(
                    "got MP4 with its audio before its header, expected 'moov' before it; write it"
                    " in fragments or with 'faststart', or upload it as a file"
                )
            if length < 8:
                raise MediaError(f"got an MP4 header of {length} bytes, expected more")
            at += length
            self._expect(at)
            if kind == b"moov":
                break
        self.await_bytes(at)

    def _receive(self) -> None:
        if self._owes_answer:
            self._pipe.send(b"K")
            self._owes_answer = False
        kind, payload = self._pipe.receive()
        self._owes_answer = True
        match kind:
            case b"A":
                self._on_anchor()
            case b"E":
                self.is_over = True
            case _:
                self.received += len(payload)
                self._data += payload


class _Output:
    """Samples and holes in order, in time."""

    def __init__(self, pipe: Pipe, rate_hz: int, channels: int) -> None:
        self.num_samples = 0
        self._pipe = pipe
        self._rate_hz = rate_hz
        self._channels = channels
        self._packed = Packed("s16", rate_hz)
        self._expected_s: float | None = None  # by the container's times; None: none came
        self._forgiven_s = 0.0  # time that a hole is none for, but a pause that was told

    def anchor(self) -> None:
        """Let the container's times jump once: that time was told."""
        self._forgiven_s = _FORGIVEN_S

    def put(self, frame: av.AudioFrame) -> None:
        channels = len(frame.layout.channels)
        if channels != self._channels:
            raise MediaError(
                f"got {_count(channels)} in the audio, expected {self._channels} as declared;"
                f" declare {channels}, or send {self._channels}"
            )
        if frame.pts is not None and frame.time_base is not None:
            at_s = float(frame.pts * frame.time_base)
            off_s = 0.0 if self._expected_s is None else at_s - self._expected_s
            if self._expected_s is None or off_s < _RESTART_S:
                self._expected_s = at_s
            elif off_s > _TOLERANCE_S:
                if not self._forgiven_s:
                    self.lose(off_s)
                self._expected_s, self._forgiven_s = at_s, 0.0
        if self._expected_s is not None:
            length_s = frame.samples / frame.sample_rate
            self._expected_s += length_s
            self._forgiven_s = max(0.0, self._forgiven_s - length_s)
        for piece in self._packed.push(frame):
            self._send(piece)

    def lose(self, length_s: float) -> None:
        self.flush()
        self._pipe.send(b"L", struct.pack(">Q", round(length_s * self._rate_hz)))

    def flush(self) -> None:
        for piece in self._packed.flush():
            self._send(piece)

    def _send(self, frame: av.AudioFrame) -> None:
        size = frame.samples * self._channels * 2
        # Planes are padded for alignment.
        data = bytes(frame.planes[0])[:size]
        self.num_samples += frame.samples
        for start in range(0, size, _OUT_BYTES):
            self._pipe.send(b"S", data[start : start + _OUT_BYTES])


def main(job: dict[str, Any], pipe: Pipe) -> None:
    """Decode a stream; the job says how it is read."""
    output = _Output(pipe, job["rate_hz"], job["channels"])
    source = _Input(pipe, output.anchor)
    errors: tuple[type[Exception], ...] = (MediaError, *library_errors())
    try:
        if job["container"]:
            _read_container(source, output, job["container"])
        else:
            _read_packets(source, output, job)
        output.flush()
        if source.barren > _MAX_BARREN_BYTES or (source.received and not output.num_samples):
            raise MediaError(_NO_AUDIO)
        # Whatever follows the end that the container told: it is not audio.
        for _ in source.messages():
            pass
    except errors as error:
        is_cut_off = output.num_samples and not isinstance(error, MediaError)
        if source.is_over and (is_cut_off or not source.received):
            # In the middle of something, or before anything: what there was of it was decoded.
            output.flush()
            pipe.send(b"K")
            return
        if source.ended_in_its_head and not output.num_samples:
            text = "it ended before its first audio"
        elif source.barren > _MAX_BARREN_BYTES and not output.num_samples:
            text = _NO_AUDIO
        else:
            text = _words_of(error, has_audio=output.num_samples > 0)
        if words := ffmpeg_words(error):
            pipe.send(b"F", words.encode("utf-8", "replace"))
        pipe.send(b"X", text.encode())
    except MemoryError:
        pipe.send(b"X", b"it takes more memory than a stream may have")
    else:
        pipe.send(b"K")


def _words_of(error: Exception, *, has_audio: bool) -> str:
    """Return what is wrong, for the client."""
    if not has_audio and isinstance(error.__context__, EOFError):
        return "it ended before its first audio"
    if isinstance(error, MediaError):
        return str(error)
    if has_audio and type(error).__name__ in ("PatchWelcomeError", "ArgumentError"):
        # A chained Ogg stream, RFC 3533, section 4.
        return (
            "it goes on with another codec, rate or number of channels than it began with; begin"
            " another stream for what follows"
        )
    return f"it is damaged: {reason_of(error)}"


def _read_container(source: _Input, output: _Output, name: str) -> None:
    source.await_head(name)
    with open_media(source, name, _OPTIONS, _BUFFER_BYTES) as container:
        stream = audio_stream(container)
        bad = 0
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except library_errors() as error:
                # Its time passes as a hole, by the time of the next one.
                bad += 1
                if bad > _MAX_BAD_PACKETS:
                    raise MediaError(f"it is damaged: {reason_of(error)}") from None
                continue
            for frame in frames:
                bad = source.barren = 0
                output.put(frame)


def _read_packets(source: _Input, output: _Output, job: dict[str, Any]) -> None:
    import av

    decoder = _decoder_of(job["decoder"])
    decoder.sample_rate = job["decoder_hz"]
    decoder.layout = "mono" if job["channels"] == 1 else "stereo"
    decoder.thread_count = 1
    doubts, packet_s = 0, 0.0
    sizes = list(job["packet_bytes"])
    for packet in _cut(source, sizes) if sizes else source.messages():
        frames: list[av.AudioFrame] = []
        if packet:
            with contextlib.suppress(*library_errors()):
                frames = list(decoder.decode(av.Packet(packet)))
        for frame in frames:
            frame.pts = None
            output.put(frame)
        length_s = sum(frame.samples / frame.sample_rate for frame in frames)
        if not frames:
            # Empty: lost on the way to the client. Otherwise damaged.
            output.lose(packet_s or _USUAL_PACKET_S)
        if packet and sizes != [1]:
            is_odd = not frames or (packet_s > 0 and length_s != packet_s)
            doubts = doubts + 1 if is_odd else max(0, doubts - 1)
            if doubts > _MAX_DOUBTS:
                raise MediaError(
                    f"got {doubts} packets that do not belong together or cannot be decoded"
                )
        packet_s = length_s or packet_s


def _decoder_of(name: str) -> av.AudioCodecContext:
    """Return FFmpeg's best decoder: its own of AMR know no silence between words (DTX)."""
    import av

    for each in (f"libopencore_{name}", name):
        with contextlib.suppress(*library_errors()):
            return av.CodecContext.create(each, "r")
    raise MediaError("FFmpeg has no decoder for it")


def _cut(source: _Input, sizes: list[int]) -> Iterator[bytes]:
    """Yield the packets of a stream that marks no ends of them.

    Args:
        source: the stream.
        sizes: one: that of each packet, 1: any number of bytes is one. Several: by the frame type
            in its first byte, 0: there is no such type (RFC 4867, section 5.3: AMR).
    """
    rest = b""
    for data in source.messages():
        rest += data
        at = 0
        if sizes == [1]:
            yield rest
            at = len(rest)
        while at < len(rest) and sizes != [1]:
            size = sizes[0]
            if len(sizes) > 1:
                # Padding bits are 0, the bit of good frames is 1: in random bytes not for long.
                size = sizes[rest[at] >> 3 & 15] if rest[at] & 0x87 == 4 else 0
            if not size:
                raise MediaError(f"got a byte {rest[at]:#04x} where a frame has to begin")
            if at + size > len(rest):
                break
            yield rest[at : at + size]
            at += size
        rest = rest[at:]


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _confine() -> None:
    """Give up what decoding does not need, as far as the system lets one."""
    # Ctrl+C goes to the whole group; the server ends its children in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Neither files nor sockets can be opened from here on: all libraries are loaded.
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


if __name__ == "__main__":
    import av.logging

    av.logging.set_level(None)
    # PyAV imports these when it first meets a container or codec, which is too late.
    for later in ("subtitles.stream", "subtitles.codeccontext", "video.codeccontext"):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"av.{later}")
    _confine()
    main(json.loads(sys.argv[1]), Pipe())
